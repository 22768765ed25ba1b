"""The benchmark's page: one self-contained HTML file with pictures, curves, tables and the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from contracts.intervals import Interval
from contracts.records import Image
from flows.benchmark import comparing, figures
from flows.benchmark.comparing import Compared
from flows.benchmark.curves import Line, Whisker, curves, whiskers
from flows.benchmark.measuring import ROLES, Measure
from flows.benchmark.results import Results
from flows.benchmark.tables import Figures, all_tables, arm_words, caution, notes, title, value_words
from flows.files.pictures import shown, thumbnail_uri, webp_uri
from flows.pages.gallery import picture_row, plain
from flows.pages.report import page_template
from flows.terminal.wording import count

TEMPLATE = "benchmark.html.j2"
COMPARISON = "benchmark_compare.html.j2"
THUMBNAIL = 9_000
"""Characters of a picture in an artifact, which holds many."""
NESTED = ("versions", "models")
"""Facts that are told apart from the others."""
DIGEST = 16
"""From so many characters on a value is a digest, which may be cut."""
COLORS = 11
"""Of the page's palette."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A case of the gallery: a picture of an arm beside that of the arm it is compared with."""

    word: str
    prompt: str
    ours: Image
    theirs: Image
    ours_said: str
    theirs_said: str


def render(found: Figures, load_image: Callable[[str], Image]) -> str:
    """The page as text; pictures come from the memory bank by their digests."""
    results = found.results
    return page_template(TEMPLATE).render(
        title=title(results),
        verdict=verdict(found),
        caution=caution(results),
        arms=[_arm_view(results, arm, load_image) for arm in _others(results)],
        legend=legend(results),
        charts=list(charts(found)),
        forests=list(forests(found)),
        tables=all_tables(found),
        notes=notes(found),
        measures=[(m.name, m.about, ROLES[m.role]) for m in results.measures],
        facts=[(name, str(value)) for name, value in results.facts.items() if name not in NESTED],
        models=[(name, _brief(said)) for name, said in results.facts.get("models", {}).items()],
    )


def render_comparison(compared: Compared, first: str, second: str) -> str:
    """The page of two benchmarks, which the reader calls `first` and `second`."""
    return page_template(COMPARISON).render(
        first=first,
        second=second,
        title=comparing.title(compared),
        verdict=comparing.verdict(compared),
        caution=caution(compared.first),
        forests=list(_changes(compared)),
        tables=comparing.tables(compared),
    )


def gallery_markdown(found: Figures, load_image: Callable[[str], Image]) -> str:
    """The cases of the gallery as Markdown with small pictures, for Prefect's artifact view."""
    lines = ["### Best, median and worst", ""]
    for arm in _others(found.results):
        lines += [f"**{plain(arm)}** against {_reference(found.results, arm)}", ""]
        for case in gallery(found.results, arm, load_image):
            small = [thumbnail_uri(shown(picture), THUMBNAIL) for picture in (case.theirs, case.ours)]
            lines += [f"{case.word}: {plain(case.prompt)}", ""]
            lines += picture_row((_reference(found.results, arm), small[0], None), (arm, small[1], None))
            lines.append("")
    return "\n".join(lines)


def gallery(results: Results, arm: str, load_image: Callable[[str], Image]) -> Iterator[Shown]:
    """Where an arm does best, as usual, and worst against the arm it is compared with."""
    other, measure = _reference(results, arm), main_value(results)
    for word, p, k in figures.extremes(results, arm, other, measure.name):
        prompt = results.prompts[p]
        stands = [results.trails[name][p][k].within(results.budget) for name in (arm, other)]
        values = [results.value(prompt, stand, measure.name) for stand in stands]
        pictures = [load_image(stand.picture) for stand in stands]
        said = [f"{measure.name} {value:.3f}" for value in values]
        yield Shown(word, prompt.text, pictures[0], pictures[1], said[0], said[1])


def verdict(found: Figures) -> str:
    """The answer in a sentence, as far as the arms that were run give one."""
    results = found.results
    chosen = main_measure(results)
    rows = [
        c
        for c in found.comparisons
        if c.arm == "regeneration" and c.measure == chosen and c.budget == "calls"
    ]
    if not rows:
        return f"{count(len(results.ran), 'arm')}, {count(len(results.measures), 'measure')}."
    row = rows[-1]
    if row.difference.low > 0:
        said = "does better than"
    elif row.difference.high < 0:
        said = "does worse than"
    else:
        said = "cannot be told apart from"
    calls = "" if row.other == figures.FIRST else f" at {count(results.budget, 'generator call')} each"
    amount = value_words(row.difference, chosen, difference=True)
    return f"Regeneration {said} {row.other}{calls}: {chosen.about}, {amount}, paired on prompts and seeds."


def main_measure(results: Results) -> Measure:
    """The measure that answers the question: the first independent one."""
    return next((m for m in results.measures if m.independent), results.measures[0])


def main_value(results: Results) -> Measure:
    """The measure by which cases are put in order: the first independent one that is not yes or no."""
    graded = [m for m in results.measures if m.independent and not m.binary]
    return graded[0] if graded else main_measure(results)


def _others(results: Results) -> list[str]:
    """The arms that can be set beside another one."""
    return [arm.name for arm in results.ran if _reference(results, arm.name) != arm.name]


def _reference(results: Results, arm: str) -> str:
    """What an arm is set beside: drawing again, or the first picture; itself if there is neither."""
    names = [one.name for one in results.ran]
    wanted = (figures.FIRST,) if arm == figures.AGAIN else (figures.AGAIN, figures.FIRST)
    if arm == figures.FIRST:
        return arm
    return next((name for name in wanted if name in names), arm)


def _arm_view(results: Results, arm: str, load_image: Callable[[str], Image]) -> dict[str, Any]:
    said = next(one for one in results.arms if one.name == arm)
    return {
        "name": arm,
        "about": said.about,
        "fair": said.fair,
        "other": _reference(results, arm),
        "cases": [
            {
                "word": case.word,
                "prompt": case.prompt,
                "pictures": [
                    (name, webp_uri(shown(picture)), words, f"{name}: {case.prompt}")
                    for name, picture, words in (
                        (_reference(results, arm), case.theirs, case.theirs_said),
                        (arm, case.ours, case.ours_said),
                    )
                ],
            }
            for case in gallery(results, arm, load_image)
        ],
    }


def _colors(results: Results) -> dict[str, int]:
    """Each arm's number in the palette."""
    return {arm.name: number % COLORS for number, arm in enumerate(results.ran)}


def _brief(said: Mapping[str, Any]) -> str:
    """A tool's description in a line: no name twice, digests as short as one can tell them apart."""
    plain_values = {key: value for key, value in said.items() if isinstance(value, str | int | float | bool)}
    return ", ".join(
        f"{key} {value[:12] if isinstance(value, str) and len(value) >= DIGEST else value}"
        for key, value in plain_values.items()
        if key != "instruction"
    )


def legend(results: Results) -> list[tuple[str, int]]:
    """Every arm with its number in the palette."""
    return list(_colors(results).items())


def charts(found: Figures) -> Iterator[dict[str, Any]]:
    """Curves of every independent measure, by calls and by seconds."""
    results = found.results
    colors = _colors(results)
    for measure in results.measures:
        if not measure.independent:
            continue
        known = found.curves[measure.name]
        by_calls = [Line(arm, color, known.by_calls[arm]) for arm, color in colors.items()]
        by_seconds = [Line(arm, color, known.by_seconds[arm]) for arm, color in colors.items()]
        yield {
            "name": measure.name,
            "about": measure.about,
            "calls": curves(measure.name, "generator calls", by_calls, whole=True),
            "seconds": curves(measure.name, "model seconds", by_seconds),
        }


def forests(found: Figures) -> Iterator[dict[str, Any]]:
    """Differences of the measure that answers the question."""
    results, chosen = found.results, main_measure(found.results)
    colors = _colors(results)
    for other in (figures.FIRST, figures.AGAIN):
        rows = [
            _whisker(arm_words(results, c.arm), colors[c.arm], c.difference, chosen)
            for c in found.comparisons
            if c.other == other and c.budget == "calls" and c.measure == chosen
        ]
        if rows:
            svg = whiskers(f"{chosen.name} against {other}", rows, _unit(chosen))
            yield {"other": other, "name": chosen.about, "svg": svg, "rows": len(rows)}


def _changes(compared: Compared) -> Iterator[dict[str, Any]]:
    """A panel for each independent measure."""
    colors = _colors(compared.first)
    for measure in dict.fromkeys(change.measure for change in compared.changes):
        if measure.independent:
            rows = [
                _whisker(change.arm, colors[change.arm], change.difference, measure)
                for change in compared.changes
                if change.measure == measure
            ]
            yield {"name": measure.about, "svg": whiskers(measure.name, rows, _unit(measure))}


def _whisker(name: str, color: int, value: Interval, measure: Measure) -> Whisker:
    """Shares of pictures are drawn in points."""
    by = 100 if measure.binary else 1
    drawn = Interval(by * value.mean, by * value.low, by * value.high)
    return Whisker(name, color, drawn, value_words(value, measure, difference=True))


def _unit(measure: Measure) -> str:
    return "points" if measure.binary else "difference"
