"""What a person reads in the terminal: notes on stderr, tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts.records import Diagnosis, Round, Run
from flows.files.output import score_table
from flows.jobs.diagnosing import Row
from flows.jobs.replaying import Compared, headlines, verdict
from flows.terminal.wording import (
    advice,
    count,
    listed,
    origin_words,
    outcome,
    reason_words,
    review_words,
    verdict_words,
    word_difference,
)
from memory_bank.listing import RunSummary

PLAIN_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""

DETAILED_RUNS = 4
"""Up to this many runs get a table of rounds each; more share one table with a line per run."""

STYLES = {"best": "bold green", "accepted": "green", "rolled back": "red", "unfinished": "yellow"}


def out() -> Console:
    """stdout, as it is now."""
    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def err() -> Console:
    """stderr, as it is now."""
    return Console(file=sys.stderr, highlight=False)


def note(text: str) -> None:
    """One line of information on stderr."""
    print(f"note: {text}", file=sys.stderr)


def note_unknown(prompt: str, words: Sequence[str]) -> None:
    """Say which words the model was never taught; it goes on without them."""
    if words:
        verb = "is a word" if len(words) == 1 else "are words"
        where = prompt if len(prompt) <= 60 else prompt[:57] + "..."
        note(f'{listed(words[:8])} {verb} the model does not know, in "{where}"; it paints what it can')


def print_runs(runs: Sequence[Run]) -> None:
    """A table of rounds per run; one line per run for larger batches."""
    console = out()
    if len(runs) > DETAILED_RUNS:
        console.print(_batch_table(runs))
        return
    for run in runs:
        console.print(Text(run.prompt, style="bold"))
        console.print(rounds_table(run))
        print_reviews(run)
        console.print(Text(f"{outcome(run)} (run {run.run_id})"))
        if tip := advice(run):
            console.print(Text(tip))


def print_reviews(run: Run) -> None:
    """What people said about its rounds, a line each."""
    for item in run.rounds:
        if item.review is not None:
            out().print(Text(f"round {item.index}: {review_words(item)}"))


def rounds_table(run: Run) -> Table:
    """Round, prompt difference, findings, scores, verdict, seconds."""
    names = list(dict.fromkeys(name for item in run.rounds for name in score_table(item)))
    table = Table(header_style="dim", expand=False)
    table.add_column("round", justify="right")
    table.add_column("prompt, and what changed", ratio=3, overflow="fold")
    table.add_column("findings", ratio=2, overflow="fold")
    for name in names:
        table.add_column(Text(name), justify="right", no_wrap=True)
    table.add_column("verdict", ratio=2, overflow="fold")
    table.add_column("s", justify="right", no_wrap=True)
    before = run.prompt
    for item in run.rounds:
        table.add_row(*_round_cells(run, item, before, names))
        before = item.prompt
    return table


def print_listing(runs: Sequence[RunSummary], scenes: Sequence[str], filtered: bool = False) -> None:
    """The table of `legion runs`; `scenes` say what each is about."""
    if not runs:
        first = 'no runs yet: legion regenerate "a red cone on a wooden table" makes the first'
        print("no run is like that" if filtered else first)
        return
    table = Table(header_style="dim")
    columns = {"run": "left", "kind": "left", "begun (UTC)": "left", "status": "left", "rounds": "right"}
    for name, justify in columns.items():
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("prompt", overflow="ellipsis", no_wrap=True)
    for run, scene in zip(runs, scenes, strict=True):
        begun = run.created.replace("T", " ")[:16]
        cells = [
            run.run_id,
            run.kind,
            begun,
            run.status,
            str(run.rounds),
            scene or "a picture without words",
        ]
        table.add_row(*(Text(cell) for cell in cells))
    out().print(table)


def print_replay(rows: Sequence[Compared]) -> None:
    """A run beside its repetition: each round's outcome and whatever differs."""
    table = Table(header_style="dim")
    for name in ("step", "then", "now", ""):
        table.add_column(name, overflow="fold")
    for row in headlines(rows):
        cells = [row.step, *(_clipped(value) for value in (row.before, row.again))]
        table.add_row(*(Text(cell) for cell in cells), "same" if row.same else Text("differs", style="red"))
    out().print(table)
    if all(row.same for row in rows):
        print(verdict(rows))


def print_provenance(found: Mapping[str, Any]) -> None:
    """Where a picture comes from."""
    print(f"digest: {found['digest']}")
    if (facts := found["file"]) is not None:
        print(f"its file says: {facts.get('role')} of round {facts.get('round')} of run {facts.get('run')}")
    for place in found["places"]:
        print(f"run {place['run_id']}, round {place['round']}: {place['role']}")
    for file in found["written"]:
        print(f"run {file['run_id']}: {file['kind']}, written to {file['place']} on {file['machine']}")
    source = next(iter([*found["places"], *found["written"]]), facts)
    print(f"prompt: {source.get('prompt')}")
    print(f"seed: {source.get('seed')}")
    for part, model in (source.get("models") or {}).items():
        for item in model if isinstance(model, list) else [model]:
            print(f"{part}: {', '.join(f'{key} {value}' for key, value in item.items())}")
    if not found["places"] and not found["written"]:
        print("the memory bank here does not know it")


def _clipped(value: str | float | None) -> str:
    """A digest's beginning, the first words of a text, or a number."""
    text = "-" if value is None else str(value)
    return text if len(text) <= 32 else f"{text[:29]}..."


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """The verdict and the findings of one picture."""
    console = out()
    findings = diagnosis.findings
    console.print(
        Text(
            f"{count(len(findings), 'finding') if findings else 'no artifacts found'} · "
            f"{origin_words(diagnosis)}",
            style="bold",
        )
    )
    if not findings:
        return
    table = Table(header_style="dim")
    for name in ("#", "phrase", "category", "sure", "box", "explanation"):
        table.add_column(name, overflow="fold")
    for number, item in enumerate(findings, start=1):
        box = f"{item.box.left},{item.box.top} {item.box.right},{item.box.bottom}"
        cells = [str(number), item.phrase, item.category, f"{item.confidence:.0%}", box, item.explanation]
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


def print_diagnoses(rows: Sequence[Row]) -> None:
    """One line per picture."""
    table = Table(header_style="dim")
    for name in ("picture", "findings", "real or generated"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, (row.name, "\n".join(row.findings) or "no artifacts found", row.origin)))
    flawed = sum(bool(row.findings) for row in rows)
    if rows:
        out().print(table)
        out().print(f"{count(flawed, 'picture')} with findings, {len(rows) - flawed} without")


def difference_text(before: str, after: str) -> Text:
    """Added words as green [+...], removed ones as red [-...]: the signs survive where colors do not."""
    text = Text()
    for piece in word_difference(before, after):
        lead = piece.text[: len(piece.text) - len(piece.text.lstrip(" ,"))]
        body = piece.text[len(lead) :]
        if piece.kind == "same" or not body:
            text.append(piece.text)
        elif piece.kind == "added":
            text.append(lead).append(f"[+{body}]", style="green")
        else:
            text.append(lead).append(f"[-{body}]", style="red strike")
    return text


def _round_cells(run: Run, item: Round, before: str, names: Sequence[str]) -> list[Text]:
    scores = score_table(item)
    words = verdict_words(run, item)
    verdict = Text(words, style=STYLES[words])
    if item.verdict is not None:
        verdict.append(f": {reason_words(item)}", style="default not bold")
    return [
        Text(str(item.index)),
        difference_text(before, item.prompt),
        Text(_finding_words(item)),
        *(Text(f"{scores[name]:.3f}" if name in scores else "") for name in names),
        verdict,
        Text(f"{sum(item.seconds.values()):.1f}"),
    ]


def _finding_words(item: Round) -> str:
    if item.diagnosis is None:
        return "not examined"
    return "\n".join(f"{f.category}: {f.phrase}" for f in item.diagnosis.findings) or "none"


def _batch_table(runs: Sequence[Run]) -> Table:
    table = Table(header_style="dim")
    for name in ("run", "prompt", "rounds", "findings", "outcome"):
        table.add_column(name, overflow="fold")
    for run in runs:
        counts = [len(item.diagnosis.findings) for item in run.rounds if item.diagnosis]
        cells = [run.run_id, run.prompt, str(len(run.rounds)), " → ".join(map(str, counts)), outcome(run)]
        table.add_row(*(Text(cell) for cell in cells))
    return table
