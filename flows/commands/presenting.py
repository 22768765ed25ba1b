"""Runs for a person or a machine: pictures and page written, tables or JSON printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import bank

if TYPE_CHECKING:
    from contracts.records import Run
    from flows.files.picture_files import PictureFile


def present(runs: Sequence[Run], folder: Path, as_json: bool, in_full: bool = False) -> int:
    """Write pictures and the page; print the tables or the JSON. All runs are of one kind. `in_full` adds
    what models took and where the runs' files lie. Raises InvalidInput if the folder cannot be written."""
    if runs[0].kind == "inpainting":
        from flows.files.inpainting_output import from_bank

        load = bank().image
        sources = (from_bank(run, load, folder) for run in runs)
        return present_repairs(runs, sources, [run.run_id for run in runs], folder, as_json, in_full=in_full)
    from flows.files.output import write_run
    from flows.pages.report import render_report, write_page

    kept = bank()
    folders = [folder / run.run_id if len(runs) > 1 else folder for run in runs]
    with _writing(runs, folder):
        report = str(write_page(render_report(runs, kept.image), folder / "report.html"))
        written = [
            {**write_run(run, kept, place), "report": report}
            for run, place in zip(runs, folders, strict=True)
        ]
    _keep_files(written)
    if as_json:
        print(json.dumps({"runs": _in_full(written) if in_full else written}, ensure_ascii=False))
        return 0
    from flows.terminal.console import print_runs

    print_runs(runs)
    print(f"report: {report}")
    if in_full:
        _print_in_full(runs, folder)
    return 0


def present_repairs(
    runs: Sequence[Run],
    sources: Iterable[PictureFile],
    stems: Sequence[str],
    folder: Path,
    as_json: bool,
    form: str = "png",
    extra: Mapping[str, Any] | None = None,
    in_full: bool = False,
) -> int:
    """Write results, supports, source maps and the page of inpainting runs; print the tables or the JSON.

    `sources` are the pictures' files, read one after the other; `extra` goes into the JSON, `in_full` is as
    in `present`. Raises InvalidInput if the folder cannot be written.
    """
    from flows.files.inpainting_output import write_repair
    from flows.pages.inpainting_report import Named, render_repair_report
    from flows.pages.report import write_page
    from flows.terminal.console import note

    kept = bank()
    items, shapes, values = [], [], []
    with _writing(runs, folder):
        for run, source, stem in zip(runs, sources, stems, strict=True):
            values.append(write_repair(run, source, kept, folder, stem, form))
            for line in values[-1]["notes"]:
                note(line)
            shapes.append(source.image.shape)
            told = [line.replace(str(source.path), source.path.name) for line in values[-1]["notes"]]
            items.append(Named(run, source.path.name, told, form))
        report = str(write_page(render_repair_report(items, kept.image), folder / "report.html"))
    written = [{**item, "report": report} for item in values]
    _keep_files(written)
    if as_json:
        told = _in_full(written) if in_full else written
        print(json.dumps({"runs": told, **(extra or {})}, ensure_ascii=False))
        return 0
    from flows.terminal.inpainting import print_repairs

    print_repairs(runs, [item.name for item in items], shapes)
    if len(runs) == 1 and any(item.verdict is not None for item in runs[0].rounds):
        print(f"result: {values[0]['output']}")
    print(f"report: {report}")
    if in_full:
        _print_in_full(runs, folder)
    return 0


@contextmanager
def _writing(runs: Sequence[Run], folder: Path) -> Iterator[None]:
    """A folder that cannot be written any more is told in one line, and that nothing else is lost."""
    try:
        yield
    except OSError as error:
        kept = "the runs are kept" if len(runs) > 1 else "the run is kept"
        raise InvalidInput(
            f"cannot write to {folder} ({(error.strerror or str(error)).lower()}): free space or choose "
            f"another folder; {kept}, and legion show {runs[0].run_id} --out DIR writes its files"
        ) from error


def _keep_files(written: Sequence[Mapping[str, Any]]) -> None:
    """Keep where the files lie that the runs' JSON names."""
    from flows.files.artifacts import keep_named
    from flows.terminal.console import note

    if problem := keep_named(bank(), written):
        note(problem)


def _in_full(written: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The runs' JSON with every model call and every file."""
    kept = bank()
    return [
        {
            **run,
            "calls": [asdict(call) for call in kept.calls(run["run_id"])],
            "files": [asdict(file) for file in kept.artifacts(run["run_id"])],
        }
        for run in written
    ]


def _print_in_full(runs: Sequence[Run], folder: Path) -> None:
    """What models took, and in which other folders there are files of the runs."""
    from flows.terminal.costs import print_costs
    from memory_bank.costs import costs

    kept = bank()
    for run in runs:
        print_costs(costs(kept.calls(run.run_id)))
        files = [x for x in kept.artifacts(run.run_id) if x.kind in ("report", "export") and x.is_here]
        for place in dict.fromkeys(Path(file.place).parent for file in files):
            if place != folder:
                print(f"also written to: {place}")
