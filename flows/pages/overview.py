"""One self-contained HTML page about the diagnoses of many pictures: a contact sheet, then each in detail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.records import CATEGORIES
from flows.files.pictures import marked, shrunk, thumbnail_uri
from flows.jobs.diagnosing import Examined, Failed
from flows.pages.report import installed_versions, page_template, picture_view
from flows.terminal.wording import count, origin_words

TEMPLATE = "overview.html.j2"
DETAILED = 300
"""Pictures shown in detail; a browser cannot hold thousands, so the others keep only their small picture."""
_SIDES = ((12, 1024), (60, 512), (DETAILED, 320))
"""(up to so many pictures, longest side in pixels of each on the page)."""
_THUMBNAIL_CHARACTERS = 12_000


@dataclass(frozen=True)
class Entry:
    """A picture's place on the page: small enough to be kept for thousands."""

    name: str
    findings: int
    origin: str
    categories: tuple[str, ...]
    thumbnail: str
    detail: dict[str, Any] | None


class Overview:
    """Takes results as they come, so that no picture has to be kept."""

    def __init__(self, expected: int) -> None:
        """`expected` pictures decide how large each is shown."""
        self._side = next((side for most, side in _SIDES if expected <= most), _SIDES[-1][1])
        self._entries: list[Entry] = []
        self._failures: list[Failed] = []

    def add(self, result: Examined) -> None:
        """One more picture."""
        self._entries.append(self._entry(result))

    def fail(self, failed: Failed) -> None:
        """One more file that gave nothing."""
        self._failures.append(failed)

    def write(self, path: Path, title: str, settings: Sequence[tuple[str, str]]) -> Path:
        """Write the page. `settings` are rows for its end."""
        text = page_template(TEMPLATE).render(
            title=title,
            entries=self._entries,
            failures=self._failures,
            summary=self._summary(),
            settings=settings,
            versions=installed_versions(),
        )
        path.write_text(text, encoding="utf-8")
        return path

    def _entry(self, result: Examined) -> Entry:
        findings = result.diagnosis.findings
        small = shrunk(result.image, findings, self._side)
        detail = None
        if len(self._entries) < DETAILED:
            detail = picture_view(*small, alt=result.path.name)
        return Entry(
            result.path.name,
            len(findings),
            origin_words(result.diagnosis),
            tuple(f.category for f in findings),
            thumbnail_uri(marked(*small), _THUMBNAIL_CHARACTERS),
            detail,
        )

    def _summary(self) -> dict[str, Any]:
        found = Counter(category for entry in self._entries for category in set(entry.categories))
        return {
            "pictures": len(self._entries),
            "flawed": sum(bool(entry.findings) for entry in self._entries),
            "findings": count(sum(entry.findings for entry in self._entries), "finding"),
            "categories": [(name, found[name]) for name in CATEGORIES],
        }
