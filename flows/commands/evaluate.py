"""`legion evaluate`: how good is a defender, in figures with intervals, on any of six kinds of data sets?"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import (
    DEFAULT_OUT,
    INTERRUPTED,
    add_checkpoint,
    add_common,
    add_dataset,
    add_out,
    add_profile,
    add_tile_confidence,
    add_tiles,
    dataset_request,
    load_defender,
    load_legion,
    waiting,
)

if TYPE_CHECKING:
    from defender.evaluation.embedding import SentenceEmbedder
    from defender.evaluation.figures import Figure, Row
    from defender.evaluation.journal import Journal
    from defender.evaluation.reported import Reported
    from defender.evaluation.tasks import Task

WHAT = {
    "localization": "mIoU and F1 of the masks, false alarms on clean pictures, names and categories",
    "explanation": "ROUGE-L and CSS of the words",
    "detection": "accuracy and average precision of real against generated, by generator",
    "robustness": "localization under JPEG, noise and blur",
    "guidance": "what is lost when masks are prompted with another artifact's [SEG]",
}
TILED = ("localization", "explanation", "robustness")
"""Evaluations of what tiles can change: findings. The verdict is the whole view's."""


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("evaluate", help="how good is a defender?")
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    for name, help_text in WHAT.items():
        task = tasks.add_parser(name, help=help_text, description=help_text)
        task.set_defaults(handler=evaluate)
        add_dataset(task, "test")
        add_profile(task)
        add_checkpoint(task)
        if name in TILED:
            add_tiles(task, "look at tiles as well, enlarged up to ZOOM times")
            add_tile_confidence(task)
        if name == "explanation":
            task.add_argument(
                "--css-model",
                type=Path,
                metavar="DIR",
                help="folder of a sentence model such as paraphrase-MiniLM-L6-v2, which the paper used "
                '(default: what pip install ".[css]" brought)',
            )
        task.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as Markdown")
        add_out(task, f"out/evaluate-{name}-FORMAT")
        add_common(task)


def evaluate(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """`legion evaluate`."""
    from defender.evaluation.journal import Journal
    from defender.evaluation.tasks import TASKS, measured
    from flows.files.output import prepare_folder
    from flows.jobs.evaluating import open_source

    task, request = TASKS[arguments.task], dataset_request(arguments)
    source, indices = open_source(request, painted=task.name == "detection")
    folder = prepare_folder(arguments.out or DEFAULT_OUT / f"evaluate-{task.name}-{request.format}")
    embedder = _embedder(arguments)
    defender = load_legion(arguments) if task.name == "guidance" else load_defender(arguments)
    subject = {
        "task": task.name,
        "format": request.format,
        "dataset": str(request.dataset) if request.dataset else None,
        "split": request.split,
        "real": request.is_real,
        "pictures": len(indices),
        "of": len(source.samples),
        "defender": dict(defender.describe()),
    }
    journal = Journal(folder, subject)
    try:
        _measure(task, defender, source, indices, journal)
    except KeyboardInterrupt:
        return _interrupted(words, len(journal.rows), len(indices))
    rows = measured(journal.rows)
    broken = [row for row in journal.rows if "error" in row]
    if not rows:
        raise InvalidInput(_nothing(task, source.title, len(indices), broken))
    figures, reported = _figures(task, rows, embedder, source.reported)
    result = {**subject, "title": source.title, **_as_json(figures, reported, journal.rows, source.notes)}
    if embedder is not None:
        result["css_model"] = embedder.name
    result["files"] = _write(folder, arguments.markdown, task, figures, reported, result)
    journal.finish()
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        _print(task, source.title, figures, reported, result)
    return 0


def _measure(task: Task, defender: Any, source: Any, indices: Sequence[int], journal: Journal) -> None:
    from defender.evaluation.tasks import rows_of
    from flows.terminal.console import note
    from flows.terminal.progress import counting

    if journal.resumed:
        note(f"{journal.resumed} of {len(indices)} pictures were measured before; it goes on with the others")
    with counting("measuring", len(indices)) as advance:
        for _ in journal.rows:
            advance()
        for rows in rows_of(task, defender, source, indices, journal.done):
            journal.add(rows)
            for _ in rows:
                advance()


def _figures(
    task: Task, rows: Sequence[Row], embedder: SentenceEmbedder | None, data: str
) -> tuple[list[Figure], list[Reported]]:
    from defender.evaluation import detection, explanation
    from defender.evaluation.embedding import OF_THE_PAPER
    from defender.evaluation.reported import families, reported_for, without

    reported = reported_for(data, task.name)
    with waiting("drawing the intervals"):
        if task.name == "explanation":
            if embedder is None or embedder.name != OF_THE_PAPER:
                reported = without(reported, "CSS")
            return explanation.figures(rows, embedder), reported
        if task.name == "detection":
            return detection.figures(rows, families()), reported
        return task.figures(rows), reported


def _embedder(arguments: argparse.Namespace) -> SentenceEmbedder | None:
    if arguments.task != "explanation":
        return None
    from defender.evaluation.embedding import find_embedder

    return find_embedder(arguments.css_model)


def _as_json(
    figures: Sequence[Figure], reported: Sequence[Reported], rows: Sequence[Row], notes: Sequence[str]
) -> dict[str, Any]:
    from defender.evaluation.tables import to_json

    broken = [{"picture": row["name"], "reason": row["error"]} for row in rows if "error" in row]
    return {
        **to_json(figures, reported),
        "left_out": sum("left_out" in row for row in rows),
        "unreadable": broken,
        "skipped_annotations": list(notes),
    }


def _write(
    folder: Path,
    markdown: Path | None,
    task: Task,
    figures: Sequence[Figure],
    reported: Sequence[Reported],
    result: dict[str, Any],
) -> dict[str, str]:
    from defender.evaluation.journal import NAME
    from defender.evaluation.tables import table_of

    page = markdown or folder / "table.md"
    files = {"markdown": page, "json": folder / "table.json", "pictures": folder / NAME}
    text = (
        f"{table_of(figures, task.across, reported).markdown()}\n\n"
        + "\n".join(_notes(task, figures, result))
        + "\n"
    )
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write {page} ({error.strerror}): choose another --markdown") from error
    files_said = {name: str(path) for name, path in files.items()}
    files["json"].write_text(json.dumps({**result, "files": files_said}, indent=1, ensure_ascii=False) + "\n")
    return files_said


def _notes(task: Task, figures: Sequence[Figure], result: dict[str, Any]) -> list[str]:
    """What a reader of the table has to know, one sentence a line."""
    from defender.evaluation import robustness
    from defender.evaluation.embedding import HOW_TO_GET
    from defender.evaluation.tables import REMARKS
    from flows.terminal.wording import count

    notes = [REMARKS["all"], *([REMARKS[task.name]] if task.name in REMARKS else [])]
    if task.name == "explanation":
        model = result.get("css_model")
        notes.append(f"CSS by {model}." if model else f"CSS is not computed: {HOW_TO_GET}.")
    if task.name == "robustness" and (worst := robustness.conclusion(figures)):
        notes.append(worst)
    if result["left_out"]:
        notes.append(f"Left out, as there is nothing to measure: {count(result['left_out'], 'picture')}.")
    if broken := result["unreadable"]:
        notes.append(f"Unreadable, and not replaced by others: {count(len(broken), 'picture')}.")
    if skipped := result["skipped_annotations"]:
        notes.append(f"Left out, as it is unusable: {count(len(skipped), 'annotation')}.")
    notes += dict.fromkeys(f"{row['who']}: {row['source']}." for row in result["reported"])
    return notes


def _print(
    task: Task, title: str, figures: Sequence[Figure], reported: Sequence[Reported], result: dict[str, Any]
) -> None:
    from defender.evaluation.tables import table_of
    from flows.terminal.evaluating import print_table

    table = table_of(figures, task.across, reported)
    print_table(f"{task.name} on {title}", table.head, table.lines)
    for line in _notes(task, figures, result):
        print(line)
    for broken in result["unreadable"]:
        print(f"  {broken['reason']}", file=sys.stderr)
    for name, path in result["files"].items():
        print(f"{name}: {path}")


def _nothing(task: Task, title: str, pictures: int, broken: Sequence[Row]) -> str:
    if len(broken) == pictures:
        return f"none of the {pictures} pictures of {title} can be read; the first: {broken[0]['error']}"
    return f"nothing to measure: no picture of {title} has {task.needs}"


def _interrupted(words: Sequence[str], done: int, total: int) -> int:
    print(
        f"interrupted: {done} of {total} pictures are measured, and this goes on from there:", file=sys.stderr
    )
    print(f"  {shlex.join(['legion', *words])}", file=sys.stderr)
    return INTERRUPTED
