"""LEGION's own experiment (arXiv 2503.15264, section 5.5): before and after each loop, beside its table 4.

The preset takes the paper's numbers where they are known: 200 prompts, one seed, three generator calls, which
are a first picture and two rounds. Where prompts bring a picture along, inpainting repairs that one, for as
many rounds as the profile says (the paper's three); otherwise it repairs the generator's own first picture.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from contracts.intervals import Interval
from contracts.tables import Table
from flows.benchmark import statistics
from flows.benchmark.figures import At, final, grid
from flows.benchmark.measuring import Measure
from flows.benchmark.results import Results
from flows.benchmark.tables import NONE, Titled, growth_words

NAME = "paper"
PROFILE = "paper"
PROMPTS = 200
BUDGET = 3
ARMS = ("one-shot", "best-of-n", "regeneration", "inpainting", "given", "given-inpainting")
PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    "regeneration": (("one-shot", "regeneration"),),
    "inpainting": (("given", "given-inpainting"), ("one-shot", "inpainting")),
}
"""What is before and after each of the paper's loops; of several pairs the first that was run."""
SCORE = "hps"
"""The paper's measure goes by this name in bundled profiles. It is printed times 100."""


def reported() -> dict[str, Any]:
    """The paper's table 4."""
    text = resources.files("flows.benchmark").joinpath("reported.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def paper_table(results: Results) -> Titled:
    """Before, after and growth of each loop, ours below the paper's."""
    measure = score(results)
    by = 100 if measure.name == SCORE else 1
    lines: list[tuple[str, ...]] = []
    published = reported()
    for loop in published["loop"]:
        lines.append(_published_line(loop, published["source"]))
        names = {arm.name for arm in results.ran}
        pair = next((pair for pair in PAIRS[loop["name"]] if set(pair) <= names), None)
        lines.append(_line(results, loop["name"], pair, measure, by))
    head = ("loop", "who", "before", "after", "growth, mean of ratios", "growth, ratio of means")
    return Titled("Beside the paper's table 4", Table(head, tuple(lines)), tuple(_notes(results, measure)))


def score(results: Results) -> Measure:
    """HPS where the profile has it; otherwise the first reporting scorer, or whatever there is."""
    wanted: Sequence[Callable[[Measure], bool]] = (
        lambda measure: measure.name == SCORE,
        lambda measure: measure.role == "reporting",
        lambda measure: True,
    )
    return next(m for fits in wanted for m in results.measures if fits(m))


def _published_line(loop: dict[str, Any], source: str) -> tuple[str, ...]:
    of_means = 100 * (loop["after"] / loop["before"] - 1)
    values = (f"{loop['before']:.2f}", f"{loop['after']:.2f}")
    return loop["name"], source, *values, f"{loop['growth']:+.2f} % (as printed)", f"{of_means:+.2f} %"


def _line(
    results: Results, loop: str, pair: tuple[str, str] | None, measure: Measure, by: float
) -> tuple[str, ...]:
    if pair is None:
        return loop, "here", *[NONE] * 4
    before, after = (grid(results, arm, measure.name, _end(results, arm)) for arm in pair)
    return (
        loop,
        f"here: {pair[0]}, {pair[1]}",
        _mean(statistics.mean(before), by),
        _mean(statistics.mean(after), by),
        growth_words(statistics.mean_growth(after, before)),
        growth_words(statistics.growth_of_means(after, before)),
    )


def _end(results: Results, arm: str) -> At:
    """Repairs of a given picture are read after all of the profile's rounds, which is what the paper did."""
    return (lambda _p, _k, trail: trail.end) if arm == "given-inpainting" else final(results)


def _mean(value: Interval, by: float) -> str:
    digits = 2 if by == 100 else 4
    return f"{by * value.mean:.{digits}f} [{by * value.low:.{digits}f}, {by * value.high:.{digits}f}]"


def _notes(results: Results, measure: Measure) -> list[str]:
    said = "HPSv2.1 times 100" if measure.name == SCORE else f"{measure.name}, {measure.about}"
    notes = [
        f"Here: {said}, against the prompt that was asked for; the paper does not say which prompt it "
        "scored, and its code scores the revised one. Here a loop hands over the best of its pictures by the "
        "selection score, there the last one."
    ]
    if measure.name != SCORE:
        notes.append("Another score than the paper's: only the signs can be compared, and only loosely.")
    if not any(arm.name == "given" for arm in results.ran):
        notes.append("Inpainting repaired the generator's first picture: the prompts brought none along.")
    return notes
