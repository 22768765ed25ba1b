"""A benchmark's results for people: the page, the tables, the files of numbers, and what Prefect shows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.benchmark import comparing
from flows.benchmark import results as stored
from flows.benchmark.comparing import Compared
from flows.benchmark.page import gallery_markdown, render, render_comparison, verdict
from flows.benchmark.picture import picture
from flows.benchmark.results import Results
from flows.benchmark.running import open_bank
from flows.benchmark.tables import Figures, markdown, summary


@dataclass(frozen=True, eq=False)
class Reported:
    """What was written, and what is to be shown."""

    figures: Figures
    files: dict[str, str]
    gallery: str
    """Tables and pictures as Markdown."""
    summary: list[dict[str, Any]]
    """The first table, a dictionary a row."""
    verdict: str
    """The answer in a sentence."""

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """Every comparison as plain values."""
        return [asdict(row) for row in self.figures.comparisons]


def report(results: Results, folder: Path) -> Reported:
    """Draw all intervals, and write page, picture, Markdown, JSON, CSV and Parquet to `folder`."""
    found = Figures.of(results)
    load_image = open_bank().image
    text = markdown(found)
    files = stored.write(results, folder)
    page = render(found, load_image)
    pages = {
        "markdown": (folder / "table.md", text),
        "picture": (folder / "picture.svg", picture(found)),
        "report": (folder / "report.html", page),
    }
    for name, (path, content) in pages.items():
        path.write_text(content, encoding="utf-8")
        files[name] = str(path)
    first = summary(found).table
    rows = [dict(zip(first.head, line, strict=True)) for line in first.lines]
    return Reported(found, files, f"{text}\n{gallery_markdown(found, load_image)}", rows, verdict(found))


def report_comparison(compared: Compared, first: str, second: str, folder: Path) -> dict[str, str]:
    """Write page, Markdown and JSON of two benchmarks to `folder`; the files by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"first": first, "second": second, **comparing.to_json(compared)}
    contents = {
        "json": ("comparison.json", json.dumps(values, ensure_ascii=False) + "\n"),
        "markdown": ("comparison.md", comparing.markdown(compared, first, second)),
        "report": ("comparison.html", render_comparison(compared, first, second)),
    }
    for name, content in contents.values():
        (folder / name).write_text(content, encoding="utf-8")
    return {kind: str(folder / name) for kind, (name, _) in contents.items()}
