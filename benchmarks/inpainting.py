"""Does a repair repair, and does it leave the rest alone? Bundled models, held-out pairs, independent judge.

    python -m benchmarks.inpainting                        the README's table: 200 pairs, all arms
    python -m benchmarks.inpainting --n 6                  a quick look
    python -m benchmarks.inpainting --split validation --arms guided,no-gate --n 40
    python -m benchmarks.inpainting --keep build/repairs   resumable: what was painted is not painted again

A pair is a scene rendered clean and with injected artifacts. Every arm repairs the same flawed pictures with
the same seeds, and gets the clean ones to leave alone; none sees the truth (but `oracle`) or the judge.

    guided        the loop as the profile has it
    random        the same masks in random places: equal in number, shape and area
    oracle        the masks of what was injected
    no-gate       guided, and the best of the paintings stays whatever it is
    upstream-way  no gate and one painting of each region: how LEGION's own script works
    upstream      guided, and the painter is told what LEGION's own script says
    upstream-script   both: one painting of each region, told that, and kept
    drift         ten rounds at random places, every repair stays, in flawed and in clean pictures: how many
                  pixels outside change?
    cost          painting time of crops, of whole pictures, of regions together and one by one, exact
                  (`exact = true`, the default on a CPU) and in batches

The prompt is what a person would ask for to get the scene (`--no-prompts` leaves it to the defender's words).
Intervals are 95 % bootstrap over pairs. A flaw that neither the defender nor the judge saw at first counts as
not repaired.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import painting_cost
from benchmarks.bench import WEIGHTS, Row, Said, judged, show
from benchmarks.repair_measures import Damage, Outcome, Truth, UpstreamWords, Word, apart, outcome
from contracts.errors import InvalidInput, LegionError
from contracts.intervals import Interval, bootstrap, ratio, resample
from contracts.protocols import MemoryBank
from contracts.records import CATEGORIES, Finding, Image, Run
from controller.aims import Elsewhere
from controller.inpainting import InpaintingCase, InpaintingSettings, InpaintingTools, inpaint
from controller.region_gate import OpenGate
from controller.regions import RegionSettings
from controller.scorers.artifact_area import RememberingDefender
from flows.assemble import inpainting_tools
from flows.profiles.loading import load_profile
from memory_bank import open_memory_bank
from tabletop import captions, judge
from tabletop.flaws import Pair, pair_of
from tabletop.scenes import SEED_RANGES

BLOCK = 20
"""Pairs that are repaired together: enough to fill the painter's batches, few enough to see it move on."""
BATCH = 32
REMEMBERED = 4_096
DRIFT_ROUNDS = 10
DRIFT, COST = "drift", "cost"
REPAIRING = ("guided", "random", "oracle", "no-gate", "upstream-way", "upstream", "upstream-script")
ARMS = (*REPAIRING, DRIFT, COST)
COMPARED = (
    ("no-gate", "> 0"),
    ("upstream-way", "> 0"),
    ("random", "> 0"),
    ("upstream", "> 0"),
    ("upstream-script", "> 0"),
    ("oracle", ""),
)
"""Whose final judge score guided repair's is compared with, and what it should be."""
APART = ("no-gate", "upstream-way", "upstream-script", "random")
"""Whose interval guided repair's should not overlap with, either."""


@dataclass(frozen=True, eq=False)
class Arm:
    """One way to repair: parameters of the same loop."""

    name: str
    tools: InpaintingTools
    settings: InpaintingSettings


@dataclass(frozen=True, eq=False)
class World:
    """What all arms share."""

    tools: InpaintingTools
    settings: InpaintingSettings
    judge: judge.JudgeNetwork
    prompts: bool


def arm(name: str, world: World, injected: dict[str, Sequence[Finding]]) -> Arm:
    """An arm by its name; `injected` is what is wrong with the picture of each run id."""
    tools, settings = world.tools, world.settings
    if name == "random":
        return Arm(name, replace(tools, aim=Elsewhere(tools.aim)), settings)
    if name == "oracle":
        return Arm(name, replace(tools, aim=Truth(injected)), settings)
    if name == "no-gate":
        return Arm(name, replace(tools, gate=OpenGate()), settings)
    if name in ("upstream-way", "upstream-script"):
        tools, settings = replace(tools, gate=OpenGate()), replace(settings, candidates=1)
    if name in ("upstream", "upstream-script"):
        tools, settings = replace(tools, modifier=UpstreamWords()), replace(settings, quality="")
    if name == DRIFT:
        restless = replace(tools, aim=Elsewhere(Truth(injected, every_round=True)), gate=OpenGate())
        often = replace(settings, rounds=DRIFT_ROUNDS, tries=2 * DRIFT_ROUNDS, candidates=1)
        return Arm(name, restless, often)
    return Arm(name, tools, settings)


def run_id(name: str, kind: str, seed: int) -> str:
    return f"{name}-{kind}-{seed}"


def truths(name: str, pairs: Mapping[int, Pair]) -> dict[str, Sequence[Finding]]:
    """What is wrong with the picture of each run id; for drift, clean pictures are painted in as well."""
    kinds = ("flawed", "clean") if name == DRIFT else ("flawed",)
    return {run_id(name, kind, seed): pair.findings for seed, pair in pairs.items() for kind in kinds}


def repair(name: str, world: World, pairs: dict[int, Pair], bank: MemoryBank) -> list[Outcome]:
    """What one arm makes of the pairs, by seed."""
    chosen = arm(name, world, truths(name, pairs))
    cases = [
        InpaintingCase(run_id(name, kind, seed), image, prompt_of(pair) if world.prompts else "", seed)
        for seed, pair in pairs.items()
        for kind, image in (("flawed", pair.flawed), ("clean", pair.clean))
    ]
    runs = inpaint(cases, chosen.tools, bank, chosen.settings)
    flawed, clean = runs[::2], runs[1::2]
    scenes = [pair for pair in pairs.values()]
    before = words(world, scenes, [pair.flawed for pair in scenes])
    after = words(world, scenes, [_result(run, bank) for run in flawed])
    return [
        outcome(pair, seed, *both, *said, bank.image)
        for (seed, pair), both, said in zip(
            pairs.items(), zip(flawed, clean, strict=True), zip(before, after, strict=True), strict=True
        )
    ]


def words(world: World, pairs: Sequence[Pair], pictures: Sequence[Image]) -> list[Word]:
    """The judge's and the defender's word on one picture per pair."""
    stacked = np.stack(pictures)
    flaws = judge.judge(world.judge, stacked).flaws
    right = judged(world.judge, stacked, [pair.scene for pair in pairs]).right
    diagnoses = world.tools.defender.diagnose(pictures)
    return [Word(f, bool(r), d) for f, r, d in zip(flaws, right, diagnoses, strict=True)]


def arm_rows(name: str, outcomes: Sequence[Outcome]) -> list[Row | Said]:
    """What one arm did, each figure with its interval."""
    bars = name == "guided"

    def row(claim: str, bar: str, measured: Interval | None, kind: str = "percent") -> list[Row]:
        return [] if measured is None else [Row(f"{name}: {claim}", bar if bars else "", measured, kind)]

    kept = [o.kept for o in outcomes]
    flat = [[r.psnr_after - r.psnr_before for r in repairs] for repairs in kept]
    return [
        *row("injected artifacts gone", ">= 60 %", _share(outcomes, lambda o: [a.gone for a in o.artifacts])),
        *row(
            "found artifacts gone",
            "",
            _share(outcomes, lambda o: [a.gone for a in o.artifacts if a.defender_before]),
        ),
        *(
            r
            for category in CATEGORIES
            for r in row(
                f"injected artifacts gone, {category}",
                "",
                _mean_of([[a.gone for a in o.artifacts if a.category == category] for o in outcomes]),
            )
        ),
        *row(
            "pictures broken, flawed and clean",
            "<= 2 %",
            _share(outcomes, lambda o: [o.flawed_broken, o.clean_changed]),
        ),
        *row("flawed pictures broken", "<= 2 %", bootstrap([o.flawed_broken for o in outcomes])),
        *row("of these, what was sound", "", bootstrap([o.sound_spoiled for o in outcomes])),
        *row("clean pictures broken", "<= 2 %", bootstrap([o.clean_changed for o in outcomes])),
        *damage_rows(f"{name}: flawed pictures", [o.damage for o in outcomes]),
        *damage_rows(f"{name}: clean pictures", [o.clean_damage for o in outcomes]),
        *row("clean renders untouched", ">= 96 %", bootstrap([not o.clean_changed for o in outcomes])),
        *row(
            "repairs kept that are closer by PSNR",
            ">= 80 %",
            _share(outcomes, lambda o: [r.psnr_after > r.psnr_before for r in o.kept]),
        ),
        *row(
            "repairs kept that are closer by SSIM",
            ">= 80 %",
            _share(outcomes, lambda o: [r.ssim_after > r.ssim_before for r in o.kept]),
        ),
        *row("PSNR gained by a repair, dB", "", _mean_of(flat), "plain"),
        *row("judge's score before", "", bootstrap([o.score_before for o in outcomes]), "plain"),
        *row("judge's score after", "", bootstrap([o.score_after for o in outcomes]), "plain"),
        *row("object and color right, before", "", bootstrap([o.right_before for o in outcomes])),
        *row("object and color right, after", "", bootstrap([o.right_after for o in outcomes])),
        *outside_rows(name, outcomes),
        *row("paintings per pair", "", bootstrap([o.paintings for o in outcomes]), "plain"),
    ]


def compared_rows(outcomes: dict[str, list[Outcome]]) -> list[Row]:
    """Guided repair's final judge score less each other arm's, pair by pair."""
    ours = outcomes.get("guided")
    if not ours:
        return []
    rows = []
    for name, bar in COMPARED:
        if other := outcomes.get(name):
            difference = [a.score_after - b.score_after for a, b in zip(ours, other, strict=True)]
            rows.append(Row(f"judge's score, guided less {name}", bar, bootstrap(difference), "plain"))
    return rows


def overlap_rows(outcomes: dict[str, list[Outcome]]) -> list[Said]:
    """Whether guided repair's interval of the final judge score lies apart from those of the arms it should
    beat: stricter than the paired difference, which knows that the pictures are the same."""
    ours = outcomes.get("guided")
    rows = []
    for name in APART if ours else ():
        if other := outcomes.get(name):
            one, two = (bootstrap([o.score_after for o in arm]) for arm in (ours or [], other))
            word = "apart" if apart(one, two) else "overlap"
            said = f"{word}: {one.plain()} and {two.plain()}"
            rows.append(Said(f"judge's score, intervals of guided and {name}", "apart", said))
    return rows


def damage_rows(claim: str, damages: Sequence[Damage]) -> list[Row]:
    """What happened to sound pixels inside the supports of repairs that stayed; none if there are none."""
    pixels = [float(d.pixels) for d in damages]
    if not any(pixels):
        return []
    visible = resample(ratio([float(d.changed) for d in damages], pixels), len(damages))
    levels = resample(ratio([d.levels for d in damages], pixels), len(damages))
    return [
        Row(f"{claim}, sound pixels in kept supports damaged", "", visible),
        Row(f"{claim}, levels by which those pixels are off", "", levels, "plain"),
    ]


def outside_rows(name: str, outcomes: Sequence[Outcome]) -> list[Said]:
    """Pixels outside the support that changed in any round, counted."""
    changed = sum(sum(o.changed_outside) + sum(o.clean_changed_outside) for o in outcomes)
    said = f"{changed:,} in {2 * len(outcomes):,} pictures"
    return [Said(f"{name}: pixels outside the support changed", "0", said)]


def drift_rows(outcomes: Sequence[Outcome]) -> list[Said]:
    """Pixels outside the support that changed, counted round by round."""
    rows = []
    kinds = {
        "flawed": [o.changed_outside for o in outcomes],
        "clean": [o.clean_changed_outside for o in outcomes],
    }
    for kind, changed in kinds.items():
        for index in range(max(len(counts) for counts in changed)):
            there = [counts[index] for counts in changed if len(counts) > index]
            said = f"{sum(there):,} in {len(there):,} pictures"
            rows.append(Said(f"drift: pixels outside changed after round {index + 1}, {kind}", "0", said))
    return rows


def make_world(profile_name: str, prompts: bool, **changes: int | None) -> World:
    """Tools and settings of a profile, but painting in batches: faster, and not exact to the last bit.
    `changes` are settings in place of the profile's, where not None."""
    tools = inpainting_tools(profile_name, exact=False, batch_size=BATCH)
    # All arms begin with the same pictures.
    tools = replace(tools, defender=RememberingDefender(tools.defender, REMEMBERED))
    section = load_profile(profile_name).inpainting
    same = ("rounds", "candidates", "tries", "strength", "quality", "match_colors")
    settings = InpaintingSettings(
        **{name: getattr(section, name) for name in same},
        regions=RegionSettings(**section.regions.model_dump()),
        batch_size=BATCH,
    )
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    return World(tools, replace(settings, **given), judge.load(WEIGHTS / "judge"), prompts)


def measure(
    names: Sequence[str], world: World, seeds: Sequence[int], bank: MemoryBank, drifting: int | None = None
) -> dict[str, list[Outcome]]:
    """All arms over all pairs, block by block, but the drift over the first `drifting` only, if given. Says
    how far it is and how long it may take."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    for start in range(0, len(seeds), BLOCK):
        block = seeds[start : start + BLOCK]
        pairs = {seed: pair_of(seed) for seed in block}
        for name in names:
            begun = time.perf_counter()
            if name != DRIFT or drifting is None or start < drifting:
                outcomes[name] += repair(name, world, pairs, bank)
            seconds[name] += time.perf_counter() - begun
        done = start + len(block)
        left = sum(seconds.values()) / done * (len(seeds) - done)
        each = ", ".join(f"{name} {seconds[name] / done:.1f}" for name in names)
        print(
            f"{done} of {len(seeds)} pairs; seconds per pair: {each}; about {left / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
    return outcomes


@contextmanager
def kept_in(folder: Path | None) -> Iterator[MemoryBank]:
    """A memory bank in a folder that stays, or in one that goes."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield open_memory_bank(f"sqlite:///{folder.resolve()}/bank.sqlite3", f"{folder.resolve()}/store")
        return
    with tempfile.TemporaryDirectory() as passing:
        yield open_memory_bank(f"sqlite:///{passing}/bank.sqlite3", f"{passing}/store")


def seeds_of(split: str, n: int, first: int) -> range:
    """`n` seeds of a split, from its `first`-th on. Raises InvalidInput if it has not so many."""
    start, stop = SEED_RANGES[split]
    if n < 1 or first < 0 or start + first + n > stop:
        raise InvalidInput(
            f"{n} pairs from number {first} of '{split}': it has {stop - start}, from number 0"
        )
    return range(start + first, start + first + n)


def _share(outcomes: Sequence[Outcome], of: Callable[[Outcome], Sequence[bool]]) -> Interval | None:
    return _mean_of([of(o) for o in outcomes])


def _mean_of(groups: Sequence[Sequence[float]]) -> Interval | None:
    """Mean of values that come in groups, resampled by group; None if there is no value."""
    counts: NDArray[np.int64] = np.array([len(group) for group in groups])
    if not counts.any():
        return None
    return resample(ratio([sum(group) for group in groups], counts), len(groups))


def prompt_of(pair: Pair) -> str:
    """What a person would ask for to get the scene."""
    return captions.scene_caption(pair.scene)


def _result(run: Run, bank: MemoryBank) -> Image:
    if run.result is None:
        raise RuntimeError("a finished run has a picture")
    return bank.image(run.result)


def _arms(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in ARMS]:
        raise argparse.ArgumentTypeError(f"no arm {', '.join(unknown)!r}: choose {', '.join(ARMS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=200, help="pairs")
    parser.add_argument(
        "--split", choices=("test", "validation"), default="test", help="validation for development"
    )
    parser.add_argument("--first", type=int, default=0, metavar="K", help="begin with the split's K-th scene")
    parser.add_argument("--arms", type=_arms, default=ARMS, metavar="A,B", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--profile", default="tabletop")
    parser.add_argument("--no-prompts", action="store_true", help="scenes in the defender's words")
    for name in ("rounds", "candidates", "tries"):
        parser.add_argument(f"--{name}", type=int, help="in place of the profile's")
    parser.add_argument("--drift-n", type=int, help=f"pairs of the drift, in whole {BLOCK}s (default: all)")
    parser.add_argument("--repeats", type=int, default=9, help="timings of each way of painting")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep all runs here, and go on from them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and all pairs' outcomes here")
    args = parser.parse_args()
    try:
        rows, outcomes = _measured(args)
    except LegionError as error:
        sys.exit(f"error: {error}")
    show(rows, None)
    if args.json is not None:
        content = {
            "rows": [asdict(row) for row in rows],
            "outcomes": {name: [asdict(o) for o in found] for name, found in outcomes.items()},
        }
        args.json.write_text(json.dumps(content, indent=1) + "\n")


def _measured(args: argparse.Namespace) -> tuple[list[Row | Said], dict[str, list[Outcome]]]:
    seeds = seeds_of(args.split, args.n, args.first)
    changes = {name: getattr(args, name) for name in ("rounds", "candidates", "tries")}
    world = make_world(args.profile, not args.no_prompts, **changes)
    names = [name for name in args.arms if name != COST]
    with kept_in(args.keep) as bank:
        outcomes = measure(names, world, seeds, bank, args.drift_n) if names else {}
    rows: list[Row | Said] = [
        r for name in REPAIRING if name in outcomes for r in arm_rows(name, outcomes[name])
    ]
    rows += [*compared_rows(outcomes), *overlap_rows(outcomes)]
    if DRIFT in outcomes:
        rows += drift_rows(outcomes[DRIFT])
    if COST in args.arms:
        painters = {
            "exact": inpainting_tools(args.profile, exact=True, batch_size=BATCH).inpainter,
            "in batches": world.tools.inpainter,
        }
        rows += painting_cost.rows(painters, world.settings.regions, args.repeats, seeds[0])
    return rows, outcomes


if __name__ == "__main__":
    main()
