"""`legion memory`: what runs have taught: which words help against which flaw, and how sure that is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from contracts.records import CATEGORIES
from flows.commands.options import add_common

if TYPE_CHECKING:
    from memory_bank.experience import Learned

MOST = 10_000


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("memory", help="what helped against which flaw, as runs have taught")
    parser.set_defaults(handler=show)
    parser.add_argument(
        "text", nargs="?", default="", metavar="TEXT", help="what was flawed (hand), or words that were tried"
    )
    parser.add_argument("--category", choices=CATEGORIES)
    parser.add_argument("--kind", choices=("regeneration", "inpainting"))
    parser.add_argument("--generator", default="", metavar="NAME", help="part of the generator's name")
    parser.add_argument(
        "--min-tried", type=int, default=1, metavar="N", help="tried at least so often (default: 1)"
    )
    parser.add_argument(
        "--sort",
        choices=("uplift", "tried", "gain"),
        default="uplift",
        help="by what is proven to help most, trials, or change of the score (default: uplift)",
    )
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most N lines (default: 50)")
    add_common(parser)


def show(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion memory`."""
    from flows.jobs.regeneration import check_count
    from memory_bank import open_memory_bank
    from memory_bank.experience import LessonFilter

    check_count("limit", arguments.limit, MOST)
    check_count("min-tried", arguments.min_tried, MOST)
    wanted = LessonFilter(
        text=arguments.text,
        kind=arguments.kind,
        category=arguments.category,
        painter=arguments.generator,
        min_tried=arguments.min_tried,
        order=arguments.sort,
        limit=arguments.limit,
    )
    found = open_memory_bank().lessons(wanted)
    if arguments.json:
        print(json.dumps({"lessons": [_values(one) for one in found]}, ensure_ascii=False))
        return 0
    from flows.terminal.memory import print_lessons

    print_lessons(found, filtered=wanted != LessonFilter(limit=arguments.limit, order=arguments.sort))
    return 0


def _values(one: Learned) -> dict[str, Any]:
    """A lesson with its figures, each with the ends of its interval."""
    lesson = one.lesson
    share, uplift = lesson.share, lesson.uplift
    return {
        "generator": one.painter,
        "kind": one.kind,
        "category": lesson.symptom.category,
        "about": lesson.topic or None,
        "words": lesson.words,
        "tried": lesson.tried,
        "gone": lesson.gone,
        "share": {"mean": share.mean, "low": share.low, "high": share.high},
        "without": {"tried": lesson.plain_tried, "gone": lesson.plain_gone},
        "uplift": {"mean": uplift.mean, "low": uplift.low, "high": uplift.high},
        "helps": lesson.helps,
        "fails": lesson.fails,
        "score_gain": lesson.gain,
    }
