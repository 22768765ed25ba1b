"""What `legion inpaint` shows in the terminal: tables of regions, and how far a job has come."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from contracts.records import Finding, LeftOut, RegionPlan, Repair, Run, bounding_box
from controller.inpainting import STEPS, Preview
from controller.steps import StepFinished
from flows.terminal.console import DETAILED_RUNS, STYLES, out, print_reviews
from flows.terminal.wording import area_words, count, repair_outcome, repair_reason, repair_words, title_of

_STYLES = {"repaired": STYLES["accepted"], **STYLES}


def share_done(event: StepFinished, rounds: int) -> float:
    """How much of a job of so many rounds is behind this event, 0..1; groups of regions begin again."""
    steps = STEPS.index(event.step) + event.done / event.total  # type: ignore[arg-type]
    return (event.round - 1 + steps / len(STEPS)) / rounds


def print_repairs(runs: Sequence[Run], names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> None:
    """A table of regions per picture; one line per picture for larger batches."""
    console = out()
    if len(runs) > DETAILED_RUNS:
        console.print(_batch_table(runs, names, shapes))
        return
    for run, name, shape in zip(runs, names, shapes, strict=True):
        console.print(Text(f"{name}: {title_of(run)}", style="bold"))
        if any(item.repairs for item in run.rounds):
            console.print(_region_table(run))
        print_reviews(run)
        for line in _left_lines(run.rounds[-1].left_out if run.rounds else ()):
            console.print(Text(line))
        console.print(Text(f"{repair_outcome(run)} Allowed to change: {area_words(run.support, shape)}."))


def print_preview(preview: Preview, name: str, shape: tuple[int, ...]) -> None:
    """The plan of one picture."""
    console = out()
    found = len(preview.diagnosis.findings)
    console.print(Text(f"{name}: {count(found, 'finding') if found else 'no artifacts found'}", style="bold"))
    plans = preview.plan.regions
    if plans:
        table = _table("#", "found", "told", "box", "crop → painted at", "gain")
        for number, (plan, prompt) in enumerate(zip(plans, preview.prompts, strict=True), start=1):
            cells = [
                str(number),
                found_words(plan.findings),
                prompt,
                _box(plan),
                _crop(plan),
                f"{plan.gain:.2f}",
            ]
            table.add_row(*map(Text, cells))
        console.print(table)
        support = plans[0].support
        for plan in plans[1:]:
            support = support | plan.support
        console.print(Text(f"Allowed to change: {area_words(support, shape)}."))
    for line in _left_lines(preview.plan.left_out):
        console.print(Text(line))
    if not plans:
        console.print(Text("Nothing would be painted."))


def found_words(findings: Sequence[Finding]) -> str:
    """`physics: the shadow`, one line each."""
    return "\n".join(f"{f.category}: {f.phrase}" for f in findings) or "drawn by hand"


def _region_table(run: Run) -> Table:
    table = _table("round", "#", "found", "told", "verdict")
    for item in run.rounds:
        for number, repair in enumerate(item.repairs or (), start=1):
            cells = [str(item.index), str(number), found_words(repair.plan.findings), repair.prompt or ""]
            table.add_row(*map(Text, cells), _verdict(repair))
    return table


def _verdict(repair: Repair) -> Text:
    words = repair_words(repair)
    text = Text(words, style=_STYLES[words])
    tried = f" ({count(len(repair.candidates), 'candidate')})" if len(repair.candidates) > 1 else ""
    return text.append(f"{tried}: {repair_reason(repair)}", style="default not bold")


def _batch_table(runs: Sequence[Run], names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> Table:
    table = _table("run", "picture", "rounds", "outcome", "allowed to change")
    for run, name, shape in zip(runs, names, shapes, strict=True):
        cells = [run.run_id, name, str(len(run.rounds)), repair_outcome(run), area_words(run.support, shape)]
        table.add_row(*map(Text, cells))
    return table


def _left_lines(left_out: Sequence[LeftOut]) -> list[str]:
    return [f"left alone: {found_words(x.findings) or 'an area'} ({x.reason})" for x in left_out]


def _box(plan: RegionPlan) -> str:
    box = bounding_box(plan.support)
    return f"{box.left},{box.top} {box.right},{box.bottom}"


def _crop(plan: RegionPlan) -> str:
    left, top, right, bottom = plan.crop
    return f"{right - left}x{bottom - top} → {plan.target[0]}x{plan.target[1]}"


def _table(*names: str) -> Table:
    table = Table(header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    return table
