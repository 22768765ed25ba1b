"""`legion score`: how much would a person like these pictures for this prompt?"""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import add_common, add_profile, waiting

if TYPE_CHECKING:
    from contracts.protocols import Scorer
    from contracts.records import Score
    from flows.profiles.loading import Profile, ScorerProfile

TOGETHER = 32
"""Pictures that are in memory at once."""


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("score", help="how much would a person like these pictures for this prompt?")
    parser.set_defaults(handler=score)
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="PNG, JPEG or WebP files, judged one by one"
    )
    parser.add_argument(
        "--prompt",
        dest="prompts",
        action="append",
        default=[],
        metavar="TEXT",
        help="what the pictures should show: once for all, or once per picture, in order",
    )
    parser.add_argument(
        "--scorer",
        dest="scorers",
        action="append",
        default=[],
        metavar="SCORER",
        help="a scorer of the profile by name, or KIND=PATH[,KEY=VALUE...] such as "
        "hpsv2=HPS_v2.1_compressed.pt,antialias=false; may be repeated (default: all of the profile)",
    )
    parser.add_argument("--device", help="where to compute: cpu, cuda, ... (default: the profile's)")
    add_profile(parser)
    add_common(parser)


def score(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion score`."""
    from defender.image_files import read_image
    from flows.profiles.loading import load_profile

    profile = load_profile(arguments.profile)
    sections = chosen_scorers(arguments.scorers, profile)
    prompts = prompt_per_image(arguments.prompts, len(arguments.images), sections)
    for path in arguments.images:
        read_image(path)  # a broken file is named before anything slow begins
    with waiting("loading the scorers"):
        from flows import assemble

        device = arguments.device or profile.device
        scorers = [assemble.scorer(section, arguments.profile, device) for section in sections]
    with waiting(f"scoring {len(prompts)} picture{'' if len(prompts) == 1 else 's'}"):
        rows = score_files(arguments.images, prompts, scorers)
    described = {scorer.name: dict(scorer.describe()) for scorer in scorers}
    if arguments.json:
        print(json.dumps(as_json(arguments.images, prompts, rows, described), ensure_ascii=False))
        return 0
    _print_table(arguments.images, prompts, rows, described)
    return 0


def chosen_scorers(specs: Sequence[str], profile: Profile) -> list[ScorerProfile]:
    """The sections that `--scorer` names, or all of the profile. Raises InvalidInput."""
    own = {section.name: section for section in (profile.selection_scorer, *profile.reporting_scorers)}
    sections = [_section(spec, own) for spec in specs] or list(own.values())
    names = [section.name for section in sections]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(
            f"two scorers are called '{twice[0]}': name one of them, as in KIND=PATH,name=other"
        )
    return sections


def prompt_per_image(prompts: Sequence[str], images: int, sections: Sequence[ScorerProfile]) -> list[str]:
    """One prompt for each picture, cleaned. Raises InvalidInput if they do not come out even."""
    from flows.jobs.regeneration import check_prompts

    if not prompts:
        readers = [section.name for section in sections if section.kind != "artifact-area"]
        if readers:
            raise InvalidInput(
                f"no prompt: '{readers[0]}' judges a picture by its prompt, write --prompt \"a red cone\""
            )
        return [""] * images
    if len(prompts) not in (1, images):
        raise InvalidInput(f"{len(prompts)} prompts for {images} images: give one for all, or one for each")
    cleaned = check_prompts(prompts)
    return cleaned if len(cleaned) == images else cleaned * images


def score_files(
    paths: Sequence[Path], prompts: Sequence[str], scorers: Sequence[Scorer]
) -> list[list[Score]]:
    """A row of scores per picture, in the order of the scorers. Only a few pictures are in memory at once."""
    from defender.image_files import read_image

    rows: list[list[Score]] = []
    for start in range(0, len(paths), TOGETHER):
        images = [read_image(path) for path in paths[start : start + TOGETHER]]
        columns = [scorer.score(images, prompts[start : start + TOGETHER]) for scorer in scorers]
        rows += [list(row) for row in zip(*columns, strict=True)]
    return rows


def as_json(
    paths: Sequence[Path],
    prompts: Sequence[str],
    rows: Sequence[Sequence[Score]],
    described: Mapping[str, object],
) -> dict[str, object]:
    """What `--json` prints."""
    images = [
        {"image": str(path), "prompt": prompt, "scores": {score.name: score.value for score in row}}
        for path, prompt, row in zip(paths, prompts, rows, strict=True)
    ]
    return {"images": images, "scorers": described}


def _section(spec: str, own: Mapping[str, ScorerProfile]) -> ScorerProfile:
    if spec in own:
        return own[spec]
    if "=" not in spec and spec != "artifact-area":
        near = difflib.get_close_matches(spec, own, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else f"the profile has {', '.join(own)}"
        raise InvalidInput(f"no scorer '{spec}': {hint} (another one is given as KIND=PATH)")
    from flows.profiles.loading import parse_scorer

    first, *rest = spec.split(",")
    kind, _, path = first.partition("=")
    options = dict(part.partition("=")[::2] for part in rest)
    values = {"kind": kind, "name": kind, **options, **({"path": _place(path)} if path else {})}
    return parse_scorer(values, f"--scorer {spec}")


def _place(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _print_table(
    paths: Sequence[Path],
    prompts: Sequence[str],
    rows: Sequence[Sequence[Score]],
    described: Mapping[str, Mapping[str, object]],
) -> None:
    """Pictures down, scorers across; the best of several pictures of one prompt stands out."""
    from rich.table import Table
    from rich.text import Text

    from flows.terminal.console import out

    rivals = len(rows) > 1 and len(set(prompts)) == 1
    best = [max(column) for column in zip(*([s.value for s in row] for row in rows), strict=True)]
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    for name in described:
        table.add_column(name, justify="right")
    for path, row in zip(paths, rows, strict=True):
        cells = [
            Text(f"{score.value:.4f}", style="bold green" if rivals and score.value == top else "")
            for score, top in zip(row, best, strict=True)
        ]
        table.add_row(Text(str(path)), *cells)
    console = out()
    console.print(table)
    console.print()
    for name, description in described.items():
        console.print(Text(f"{name}: {description['version']}", style="dim"))
