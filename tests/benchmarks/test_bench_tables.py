"""Tables of two kinds of prompts: a figure never stands in a line about something else."""

import argparse
import json

import pytest

from benchmarks.bench import Row, add_prompts, side_by_side, write
from contracts.intervals import Interval


def row(claim: str, mean: float, kind: str = "percent") -> Row:
    return Row(claim, ">= 80 %", Interval(mean, mean - 0.1, mean + 0.1), kind)


def test_columns_stand_beside_each_other():
    table = side_by_side(
        {"one": [row("found", 0.5), row("gain", 0.25, "points")], "two": [row("found", 0.75), row("gain", 0)]}
    )
    head, rule, *lines = table.splitlines()
    assert head == "| figure | bar | one | two |"
    assert rule.count("---") == 4
    assert lines[0] == "| found | >= 80 % | 50.0 % [40.0, 60.0] | 75.0 % [65.0, 85.0] |"
    assert "+25.0 points" in lines[1]


def test_a_share_of_nothing_is_no_number():
    assert row("found", float("nan")).shown() == "none to measure"


def test_columns_of_other_claims_are_not_mixed():
    with pytest.raises(ValueError, match="'found' stands beside"):
        side_by_side({"one": [row("found", 0.5)], "two": [row("lost", 0.5)]})
    with pytest.raises(ValueError):
        side_by_side({"one": [row("found", 0.5)], "two": []})


def test_the_file_holds_every_column(tmp_path):
    write(None, {})
    write(tmp_path / "figures.json", {"one": [row("found", 0.5)], "two": [row("found", 0.75)]})
    found = json.loads((tmp_path / "figures.json").read_text())
    assert [(name, rows[0]["measured"]["mean"]) for name, rows in found.items()] == [
        ("one", 0.5),
        ("two", 0.75),
    ]


def test_both_kinds_of_prompts_are_measured_unless_one_is_asked_for():
    parser = argparse.ArgumentParser()
    add_prompts(parser)
    assert list(parser.parse_args([]).prompts) == ["one-solid", "unseen"]
    assert parser.parse_args(["--prompts", "unseen"]).prompts == ["unseen"]
