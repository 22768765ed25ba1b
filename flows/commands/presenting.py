"""Runs for a person or a machine: pictures and page written, tables or JSON printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.commands.options import bank

if TYPE_CHECKING:
    from contracts.records import Run


def present(runs: Sequence[Run], folder: Path, as_json: bool) -> int:
    """Write pictures and the page; print the tables or the JSON."""
    from flows.output import write_run
    from flows.report import write_report

    load_image = bank().image
    report = str(write_report(runs, load_image, folder / "report.html"))
    folders = [folder / run.run_id if len(runs) > 1 else folder for run in runs]
    written = [
        {**write_run(run, load_image, place), "report": report}
        for run, place in zip(runs, folders, strict=True)
    ]
    if as_json:
        print(json.dumps({"runs": written}, ensure_ascii=False))
        return 0
    from flows.console import print_runs

    print_runs(runs)
    print(f"report: {report}")
    return 0
