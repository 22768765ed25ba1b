"""Runs for a person or a machine: pictures and page written, tables or JSON printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.options import bank

if TYPE_CHECKING:
    from contracts.records import Run
    from flows.files.picture_files import PictureFile


def present(runs: Sequence[Run], folder: Path, as_json: bool) -> int:
    """Write pictures and the page; print the tables or the JSON. All runs are of one kind."""
    if runs[0].kind == "inpainting":
        from flows.files.inpainting_output import from_bank

        load = bank().image
        sources = (from_bank(run, load, folder) for run in runs)
        return present_repairs(runs, sources, [run.run_id for run in runs], folder, as_json)
    from flows.files.output import write_run
    from flows.pages.report import render_report, write_page

    kept = bank()
    report = str(write_page(render_report(runs, kept.image), folder / "report.html"))
    folders = [folder / run.run_id if len(runs) > 1 else folder for run in runs]
    written = [
        {**write_run(run, kept, place), "report": report} for run, place in zip(runs, folders, strict=True)
    ]
    if as_json:
        print(json.dumps({"runs": written}, ensure_ascii=False))
        return 0
    from flows.terminal.console import print_runs

    print_runs(runs)
    print(f"report: {report}")
    return 0


def present_repairs(
    runs: Sequence[Run],
    sources: Iterable[PictureFile],
    stems: Sequence[str],
    folder: Path,
    as_json: bool,
    form: str = "png",
    extra: Mapping[str, Any] | None = None,
) -> int:
    """Write results, supports, source maps and the page of inpainting runs; print the tables or the JSON.

    `sources` are the pictures' files, read one after the other; `extra` goes into the JSON.
    """
    from flows.files.inpainting_output import write_repair
    from flows.pages.inpainting_report import Named, render_repair_report
    from flows.pages.report import write_page
    from flows.terminal.console import note

    kept = bank()
    names, shapes, values = [], [], []
    for run, source, stem in zip(runs, sources, stems, strict=True):
        values.append(write_repair(run, source, kept, folder, stem, form))
        for line in values[-1]["notes"]:
            note(line)
        names.append(source.path.name)
        shapes.append(source.image.shape)
    items = [Named(run, name) for run, name in zip(runs, names, strict=True)]
    report = str(write_page(render_repair_report(items, kept.image), folder / "report.html"))
    if as_json:
        written = [{**item, "report": report} for item in values]
        print(json.dumps({"runs": written, **(extra or {})}, ensure_ascii=False))
        return 0
    from flows.terminal.inpainting import print_repairs

    print_repairs(runs, names, shapes)
    if len(runs) == 1:
        print(f"result: {values[0]['output']}")
    print(f"report: {report}")
    return 0
