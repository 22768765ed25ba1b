"""The arms: ways of getting a picture for a prompt, each a function in one registry.

An arm takes the toolbox and some cases and returns each case's trail. It may spend `toolbox.budget` generator
calls on a case; what it does beyond that is used for curves against time alone. To add one, write a function
and register it: it then has its name on the command line, its rows in every table and its place in the
gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from contracts.errors import InvalidInput, LegionError
from contracts.protocols import Defender, PromptModifier
from contracts.records import Run
from controller.aims import Elsewhere
from controller.drawing import DrawingCase, DrawingTools, draw
from controller.inpainting import InpaintingCase, InpaintingSettings, InpaintingTools, inpaint
from controller.regeneration import Case as LoopCase
from controller.regeneration import RegenerationTools, regenerate, run_settings
from defender.image_files import read_image
from flows.benchmark.cases import Case, run_id
from flows.benchmark.prompts import Prompt
from flows.benchmark.tools import Toolbox
from flows.benchmark.trails import Spent, Stand, Trail, of_repairs, of_rounds

Work: TypeAlias = Callable[[Toolbox, Sequence[Case]], list[Trail]]
BEYOND = 2
"""How many times the budget best-of-n draws, so that it can also be compared at equal time: a loop that looks
for flaws takes longer for each picture."""


@dataclass(frozen=True)
class Arm:
    """One way of getting a picture."""

    name: str
    about: str
    """One line for tables and the command line."""
    work: Work
    needs: tuple[str, ...]
    """Parts of the toolbox; if one of them cannot be had, the arm is reported as not run."""
    least_budget: int = 1
    fair: bool = True
    """False for an arm that is shown what reports: a bound, not a competitor."""
    pictured: bool = False
    """Whether it begins with a picture that each prompt brings along."""


ARMS: dict[str, Arm] = {}
"""In the order of tables."""

DRAWING = ("generator", "selection_scorer")
LOOPING = (*DRAWING, "defender", "modifier")
REPAIRING = (*DRAWING, "defender", "inpainter", "region_modifier")


def arm(
    name: str,
    about: str,
    needs: tuple[str, ...],
    least_budget: int = 1,
    fair: bool = True,
    pictured: bool = False,
) -> Callable[[Work], Work]:
    """Register a function under a name."""

    def register(work: Work) -> Work:
        ARMS[name] = Arm(name, about, work, needs, least_budget, fair, pictured)
        return work

    return register


def chosen(names: Sequence[str] | None) -> list[Arm]:
    """The arms of these names, in the registry's order; all if None. Raises InvalidInput."""
    for name in names or ():
        if name not in ARMS:
            raise InvalidInput(f"there is no arm {name!r}: choose from {', '.join(ARMS)}")
    return [one for one in ARMS.values() if names is None or one.name in names]


def problem(one: Arm, box: Toolbox, prompts: Sequence[Prompt]) -> str | None:
    """Why an arm cannot run, None if it can. Loads what it needs."""
    if one.pictured and not all(prompt.image for prompt in prompts):
        return "not every prompt brings a picture along: a .csv or .jsonl file names it in the column 'image'"
    if box.budget < one.least_budget:
        return f"it needs {one.least_budget} generator calls and the budget is {box.budget}"
    try:
        for part in one.needs:
            getattr(box, part)
    except LegionError as error:
        return str(error)
    return None


@arm("one-shot", "the first picture", DRAWING)
def one_shot(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    return [of_rounds(run) for run in _drawn(box, "one-shot", cases, 1)]


@arm("best-of-n", "draw again with the same prompt, keep the best by the selection score", DRAWING)
def best_of_n(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    return [of_rounds(run) for run in _drawn(box, "best-of-n", cases, BEYOND * box.budget)]


@arm(
    "rewriting",
    "the same modifier rewrites the prompt without having seen the picture",
    (*DRAWING, "modifier"),
)
def rewriting(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    return [of_rounds(run) for run in _drawn(box, "rewriting", cases, box.budget, box.modifier)]


@arm("suffix", "the same quality words after every prompt, then as best-of-n", DRAWING)
def suffix(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    return [of_rounds(run) for run in _drawn(box, "suffix", cases, box.budget, words=box.suffix)]


@arm("regeneration", "LEGION's loop: findings revise the prompt", LOOPING)
def regeneration(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    runs = _regenerated(box, "regeneration", cases, box.budget, box.regeneration_defender)
    return [of_rounds(run) for run in runs]


@arm("inpainting", "the first picture, then LEGION's repairs", REPAIRING, least_budget=2)
def inpainting(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    return _repaired(box, "inpainting", cases, _repair_tools(box))


@arm(
    "regeneration-inpainting",
    "regeneration with one call less, then repairs with what is left",
    (*LOOPING, *REPAIRING),
    least_budget=2,
)
def regeneration_inpainting(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    first = _regenerated(box, "regeneration", cases, box.budget - 1, box.regeneration_defender)
    return _repaired_after(box, "regeneration-inpainting", cases, first, _repair_tools(box))


@arm("random-inpainting", "as inpainting, the masks in random places", REPAIRING, least_budget=2)
def random_inpainting(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    tools = _repair_tools(box)
    elsewhere = Elsewhere(tools.aim, lot=lambda run: run.rpartition("-")[2])
    return _repaired(box, "random-inpainting", cases, replace(tools, aim=elsewhere))


@arm(
    "oracle",
    "regeneration that is told the judge's own findings: a bound, not a competitor",
    (*DRAWING, "modifier", "oracle"),
    fair=False,
)
def oracle(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    return [of_rounds(run) for run in _regenerated(box, "oracle", cases, box.budget, box.oracle)]


@arm("given", "the picture that the prompt brings along", (), pictured=True)
def given(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    return [Trail((Stand(_kept(box, case), Spent()),)) for case in cases]


@arm(
    "given-inpainting",
    "that picture, then LEGION's repairs, all regions of a round",
    REPAIRING,
    pictured=True,
)
def given_inpainting(box: Toolbox, cases: Sequence[Case]) -> list[Trail]:
    pictures = {number: _kept(box, case) for number, case in enumerate(cases)}
    runs = _repair(box, "given-inpainting", cases, pictures, _repair_tools(box), box.repairing)
    return [of_repairs(run, Spent()) for run in runs]


def _kept(box: Toolbox, case: Case) -> str:
    """The digest of the picture that a case brings along, which the memory bank keeps from now on."""
    return box.bank.put_back("image", read_image(Path(case.prompt.image)))


def _drawn(
    box: Toolbox,
    name: str,
    cases: Sequence[Case],
    draws: int,
    modifier: PromptModifier | None = None,
    words: str = "",
) -> Sequence[Run]:
    tools = DrawingTools(box.generator, box.selection_scorer, modifier)
    record = {"draws": draws, "words": words, **tools.describe()}
    asked = [
        DrawingCase(run_id(name, record, case), case.prompt.text, case.seed, _with(case.prompt.text, words))
        for case in cases
    ]
    return box.done(draw(asked, tools, box.bank, draws, box.batch_size, on_event=box.on_event))


def _with(prompt: str, words: str) -> str:
    return f"{prompt.rstrip(' .,;:')}, {words}" if words else prompt


def _regenerated(
    box: Toolbox, name: str, cases: Sequence[Case], rounds: int, defender: Defender
) -> Sequence[Run]:
    tools = RegenerationTools(
        generator=box.generator,
        defender=defender,
        selection_scorer=box.selection_scorer,
        reporting_scorers=(),
        modifier=box.modifier,
    )
    settings = box.regeneration(rounds)
    record = run_settings(tools, settings)
    asked = [LoopCase(run_id(name, record, case), case.prompt.text, case.seed) for case in cases]
    return box.done(regenerate(asked, tools, box.bank, settings, on_event=box.on_event))


def _repair_tools(box: Toolbox) -> InpaintingTools:
    return InpaintingTools(
        inpainter=box.inpainter,
        defender=box.defender,
        selection_scorer=box.selection_scorer,
        reporting_scorers=(),
        modifier=box.region_modifier,
        gate=box.gate,
    )


def _repaired(box: Toolbox, name: str, cases: Sequence[Case], tools: InpaintingTools) -> list[Trail]:
    """Repairs of the first picture."""
    return _repaired_after(box, name, cases, _drawn(box, "one-shot", cases, 1), tools)


def _repaired_after(
    box: Toolbox, name: str, cases: Sequence[Case], first: Sequence[Run], tools: InpaintingTools
) -> list[Trail]:
    """Repairs with the calls that another loop has left, those cases together that have as many."""
    begun = [of_rounds(run) for run in first]
    left = [box.budget - trail.end.spent.calls for trail in begun]
    trails = list(begun)
    for calls in sorted({number for number in left if number > 0}):
        group = [i for i, number in enumerate(left) if number == calls]
        pictures = {i: begun[i].end.picture for i in group}
        settings = box.inpainting(calls)
        for i, run in zip(group, _repair(box, name, cases, pictures, tools, settings), strict=True):
            repairs = of_repairs(run, begun[i].end.spent)
            trails[i] = Trail((*begun[i].stands, *repairs.stands))
    return trails


def _repair(
    box: Toolbox,
    name: str,
    cases: Sequence[Case],
    pictures: Mapping[int, str],
    tools: InpaintingTools,
    settings: InpaintingSettings,
) -> Sequence[Run]:
    record = settings.record() | tools.describe()
    asked = [
        InpaintingCase(
            run_id(name, {**record, "picture": picture}, cases[i]),
            box.bank.image(picture),
            cases[i].prompt.text,
            cases[i].seed,
        )
        for i, picture in pictures.items()
    ]
    return box.done(inpaint(asked, tools, box.bank, settings, on_event=box.on_event))
