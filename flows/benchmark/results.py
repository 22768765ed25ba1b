"""Everything a benchmark measured, as plain values: written to a file, read again, laid out as rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from contracts.errors import InvalidInput
from flows.benchmark.measuring import Measure
from flows.benchmark.prompts import Prompt
from flows.benchmark.trails import Spent, Stand, Trail

FORMAT = 1
FILE = "results.json"


@dataclass(frozen=True)
class ArmSaid:
    """An arm as a report names it."""

    name: str
    about: str
    fair: bool
    problem: str | None = None
    """Why it was not run; None if it was."""


@dataclass(frozen=True)
class Results:
    """One benchmark. Trails and values are those of `prompts` by `seeds` cases."""

    facts: Mapping[str, Any]
    """Profile, budget, prompts, seeds, models and versions: what a reader has to know."""
    prompts: tuple[Prompt, ...]
    arms: tuple[ArmSaid, ...]
    measures: tuple[Measure, ...]
    not_measured: Mapping[str, str]
    bands: Mapping[str, float]
    """Up to how far two values of a measure count as equal: the scorer's own noise."""
    trails: Mapping[str, tuple[tuple[Trail, ...], ...]]
    """By arm, then prompt, then seed."""
    values: Mapping[str, Mapping[str, Mapping[str, float]]]
    """By prompt's id, then picture's digest, then measure."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Measured model seconds of one call of each kind. The only part that differs between two executions."""

    @property
    def ran(self) -> list[ArmSaid]:
        """The arms that were run."""
        return [arm for arm in self.arms if arm.problem is None]

    @property
    def budget(self) -> int:
        return int(self.facts["budget"])

    def value(self, prompt: Prompt, stand: Stand, measure: str) -> float:
        """What a measure says of a picture for a prompt."""
        return self.values[prompt.id][stand.picture][measure]


def to_json(results: Results) -> dict[str, Any]:
    """Plain values; `from_json` is the inverse."""
    return {
        "format": FORMAT,
        "facts": dict(results.facts),
        "prompts": [asdict(prompt) for prompt in results.prompts],
        "arms": [asdict(arm) for arm in results.arms],
        "measures": [asdict(measure) for measure in results.measures],
        "not_measured": dict(results.not_measured),
        "bands": dict(results.bands),
        "trails": {arm: [[_trail(t) for t in row] for row in rows] for arm, rows in results.trails.items()},
        "values": {p: {d: dict(v) for d, v in found.items()} for p, found in results.values.items()},
        "seconds": dict(results.seconds),
    }


def from_json(raw: Mapping[str, Any]) -> Results:
    """Raises KeyError, TypeError or ValueError for anything else than what `to_json` gives."""
    if raw["format"] != FORMAT:
        raise ValueError(f"format {raw['format']}")
    return Results(
        facts=raw["facts"],
        prompts=tuple(Prompt(**prompt) for prompt in raw["prompts"]),
        arms=tuple(ArmSaid(**arm) for arm in raw["arms"]),
        measures=tuple(Measure(**measure) for measure in raw["measures"]),
        not_measured=raw["not_measured"],
        bands=raw["bands"],
        trails={
            arm: tuple(tuple(_read_trail(trail) for trail in row) for row in rows)
            for arm, rows in raw["trails"].items()
        },
        values=raw["values"],
        seconds=raw["seconds"],
    )


def load(place: Path) -> Results:
    """The results in a file, or in a folder that `legion benchmark` wrote. Raises InvalidInput."""
    path = place / FILE if place.is_dir() else place
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read ({error.strerror}): name the folder of a benchmark, as in out/benchmark"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"{path} is no result of legion benchmark ({error})") from error


def rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row for each arm, prompt, seed and stand, with all its numbers."""
    measured = [measure.name for measure in results.measures]
    for arm in results.ran:
        for prompt, of_prompt in zip(results.prompts, results.trails[arm.name], strict=True):
            for repeat, trail in enumerate(of_prompt):
                final = trail.within(results.budget)
                for step, stand in enumerate(trail.stands, start=1):
                    yield {
                        "arm": arm.name,
                        "prompt_id": prompt.id,
                        "prompt": prompt.text,
                        "category": prompt.category,
                        "repeat": repeat,
                        "step": step,
                        "final": stand is final,
                        "picture": stand.picture,
                        "generator_calls": stand.spent.calls,
                        **asdict(stand.spent),
                        "model_seconds": stand.spent.seconds(results.seconds),
                        **{name: results.value(prompt, stand, name) for name in measured},
                    }


def write(results: Results, folder: Path) -> dict[str, str]:
    """JSON of everything, and all rows as CSV and Parquet; the files by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"json": folder / FILE, "csv": folder / "rows.csv", "parquet": folder / "rows.parquet"}
    files["json"].write_text(json.dumps(to_json(results), ensure_ascii=False) + "\n", encoding="utf-8")
    listed = list(rows(results))
    with files["csv"].open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
    _write_parquet(listed, files["parquet"])
    return {kind: str(path) for kind, path in files.items()}


def _write_parquet(listed: Sequence[Mapping[str, Any]], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(listed)), path)


def _trail(trail: Trail) -> list[list[Any]]:
    """Short: the picture, and the numbers of Spent in their order."""
    return [[stand.picture, *astuple(stand.spent)] for stand in trail.stands]


def _read_trail(raw: Sequence[Sequence[Any]]) -> Trail:
    return Trail(tuple(Stand(picture, Spent(*numbers)) for picture, *numbers in raw))
