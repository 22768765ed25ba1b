"""Tokens and dollars: counted from the records of both loops, and shown wherever costs are."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from made_results import load_image, made, noisy

from contracts.records import (
    Box,
    Candidate,
    Diagnosis,
    RegionPlan,
    Repair,
    Revision,
    Round,
    Run,
    Score,
    Usage,
)
from flows.benchmark import figures, page, results, tables
from flows.benchmark.results import Results
from flows.benchmark.tables import Figures
from flows.benchmark.trails import Spent, Stand, Trail, of_repairs, of_rounds, timing
from tabletop.judging import JudgeDefender

SCORES = (Score("taste", "1", 0.5),)
SEEN = Diagnosis(())


def run(kind, *rounds) -> Run:
    return Run("r", kind, "a cone", 1, {}, "finished", "", rounds)


def repair(usage: Usage) -> Repair:
    nothing = np.zeros((4, 4), bool)
    planned = RegionPlan((), nothing, nothing.astype(np.uint8), Box(0, 0, 4, 4), (8, 8), 1.0)
    return Repair(planned, "a cone", (Candidate(1, "painted"),), picture="repaired", usage=usage)


def test_what_a_prompt_took_is_charged_to_the_picture_after_it() -> None:
    revised = Revision("a round cone", usage=Usage(1, 100, 20, 0.25))
    first = Round(1, "a cone", 1, "one", SEEN, SCORES, revision=revised)
    second = Round(2, "a round cone", 2, "two", SEEN, SCORES)
    stands = of_rounds(run("regeneration", first, second)).stands
    assert [(s.spent.tokens, s.spent.usd) for s in stands] == [(0, 0.0), (120, 0.25)]


def test_prompts_of_repairs_are_charged_region_by_region() -> None:
    repairs = (repair(Usage(1, 50, 10, 0.5)), repair(Usage(2, 70, 0, 0.25)))
    only = Round(1, "a cone", 1, "one", SEEN, SCORES, repairs=repairs)
    stands = of_repairs(run("inpainting", only), Spent(paint=1, tokens=5, usd=1.0)).stands
    assert [(s.spent.tokens, s.spent.usd) for s in stands] == [(5, 1.0), (65, 1.5), (135, 1.75)]
    assert stands[-1].spent == Spent(1, 2, 1, 2, 1, 2, 135, 1.75)


def looked(run_id: str, defender: dict, seconds: float) -> Run:
    """A run that looked at the picture "one" for so many seconds."""
    only = Round(1, "a cone", 1, "one", SEEN, seconds={"image": 0.0, "diagnosis": seconds})
    return Run(run_id, "regeneration", "a cone", 1, {"defender": defender}, "finished", "", (only,))


def test_a_look_costs_what_one_defender_takes_for_one_picture() -> None:
    calm, strict = {"name": "legion"}, {"name": "legion", "artifact_probability": 0.12}
    shared = [looked("a", calm, 2.0), looked("b", calm, 0.0)]  # the second remembers the first one's look
    assert timing([*shared, looked("c", strict, 4.0)])["diagnose"] == (6.0, 2)


def test_looks_of_the_judge_make_the_defenders_no_cheaper() -> None:
    told = looked("oracle", {"name": JudgeDefender.name}, 0.001)
    assert timing([looked("a", {"name": "legion"}, 2.0), told])["diagnose"] == (2.0, 1)


def written(tokens: int, usd: float) -> Results:
    """Results whose regeneration took so much for each prompt."""
    plain = made(noisy(6, {"one-shot": 0.0, "regeneration": 0.3}))
    return charged(plain, slice(None), revise=1, tokens=tokens, usd=usd)


def charged(results: Results, prompts: slice, **spent) -> Results:
    """The results, regeneration's last step of some prompts having taken something else."""

    def again(trail: Trail) -> Trail:
        return Trail((trail.stands[0], Stand(trail.end.picture, replace(trail.end.spent, **spent))))

    rows = list(results.trails["regeneration"])
    rows[prompts] = [tuple(again(trail) for trail in row) for row in rows[prompts]]
    return replace(results, trails={**results.trails, "regeneration": tuple(rows)})


def cost_lines(measured: Results) -> dict[str, dict[str, str]]:
    table = tables.cost_table(Figures.of(measured)).table
    return {line[0]: dict(zip(table.head, line, strict=True)) for line in table.lines}


def test_the_table_of_costs_has_tokens_and_dollars() -> None:
    found = Figures.of(written(1500, 0.02))
    lines = cost_lines(found.results)
    assert lines["regeneration"]["tokens"] == "1500 [1500, 1500]"
    assert lines["regeneration"]["US dollars"] == "0.0200 [0.0200, 0.0200]"
    assert lines["one-shot"]["tokens"] == "0 [0, 0]"
    text = tables.markdown(found)
    assert "US dollars" in text and "9,000 tokens, $0.12" in text
    assert "9,000 tokens, $0.12" in page.render(found, load_image)
    (brief, *_) = tables.brief(found)
    assert brief.table.head[:5] == ("arm", "calls", "seconds", "tokens", "US dollars")
    assert brief.table.lines[1][3:5] == ("1500", "0.0200")


def test_tokens_without_a_price_are_no_free_tokens() -> None:
    lines = cost_lines(written(1500, 0.0))
    assert lines["regeneration"]["US dollars"] == tables.NONE
    assert lines["one-shot"]["US dollars"].startswith("0.0000")
    assert "no price is known" in tables.markdown(Figures.of(written(1500, 0.0)))


def test_where_rules_write_it_is_said_and_terminals_stay_narrow() -> None:
    found = Figures.of(written(0, 0.0))
    assert "here rules write" in tables.markdown(found)
    assert "tokens" not in tables.brief(found)[0].table.head


def test_files_hold_tokens_and_dollars_and_older_ones_are_read(tmp_path) -> None:
    measured = written(1500, 0.02)
    files = results.write(measured, tmp_path)
    with open(files["csv"], newline="") as stream:
        last = [
            row for row in csv.DictReader(stream) if row["arm"] == "regeneration" and row["final"] == "True"
        ]
    assert {(row["tokens"], row["usd"]) for row in last} == {("1500", "0.02")}
    assert results.load(tmp_path).trails["regeneration"][0][0].end.spent.usd == pytest.approx(0.02)
    raw = json.loads((tmp_path / "results.json").read_text())
    for rows in raw["trails"].values():
        for stand in (stand for row in rows for trail in row for stand in trail):
            stand.pop()
    older = results.from_json(raw).trails["regeneration"][0][0].end.spent
    assert (older.tokens, older.usd) == (1500, 0.0)


def test_where_the_other_had_nothing_left_to_draw_with_the_same_seconds_is_said() -> None:
    even = made(noisy(8, {"one-shot": 0.0, "best-of-n": 0.1, "regeneration": 0.3}))
    assert figures.outrun(even, "regeneration", "best-of-n") == 0
    slow = charged(even, slice(2), diagnose=9)
    assert figures.outrun(slow, "regeneration", "best-of-n") == 0.25
    said = "The last draw of best-of-n stands for any longer time: regeneration in 25 % of the pairs"
    assert said in tables.markdown(Figures.of(slow)) and said not in tables.markdown(Figures.of(even))


def test_the_band_of_ties_is_told() -> None:
    found = Figures.of(replace(written(0, 0.0), bands={"sound": 0.0, "report": 2e-6, "taste": 0.0}))
    assert "no more than the scorer's own noise: sound 0, report 2e-06, taste 0." in tables.markdown(found)
