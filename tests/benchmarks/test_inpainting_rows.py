"""The inpainting benchmark's arms and tables, from made-up outcomes; nothing is painted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from red_squares import square_tools

from benchmarks.repair_measures import Damage, Kept, Outcome, UpstreamWords
from controller.inpainting import InpaintingSettings
from controller.region_gate import MeasuredGate, OpenGate
from controller.regions import RegionSettings
from tabletop.flaws import render_pair

pytestmark = pytest.mark.slow  # importing the benchmark imports torch and diffusers

NONE = Damage(0, 0, 0.0)


@pytest.fixture(scope="module")
def bench():
    from benchmarks import inpainting

    return inpainting


@pytest.fixture
def world(bench):
    return bench.World(square_tools(), InpaintingSettings(candidates=4), None, True)


def outcome(seed=1, score=0.9, **changes):
    kept = (Kept(True, 20, 25, 0.5, 0.9),)
    plain = Outcome(seed, (), kept, 0.1, score, True, True, False, False, (0,), (0,), NONE, NONE, 4)
    return replace(plain, **changes)


def measured(rows, claim):
    (row,) = [row for row in rows if row.claim == claim]
    return row.measured


def test_the_painters_are_those_of_the_commands_but_for_batches(bench):
    from benchmarks.bench import bundled_tools
    from flows.assemble import inpainting_tools, regeneration_tools

    for measured, used in (
        (bench.make_world("tabletop", True).tools.inpainter, inpainting_tools("tabletop").inpainter),
        (bundled_tools().generator, regeneration_tools("tabletop").generator),
    ):
        assert measured.describe() == used.describe() | {"exact": False}


def test_upstreams_way_is_no_gate_and_one_painting_and_no_gate_chooses_among_as_many_as_guided(bench, world):
    guided, open_, theirs = (bench.arm(n, world, {}) for n in ("guided", "no-gate", "upstream-way"))
    assert isinstance(guided.tools.gate, MeasuredGate) and guided.settings.candidates == 4
    assert isinstance(open_.tools.gate, OpenGate) and open_.settings.candidates == 4
    assert isinstance(theirs.tools.gate, OpenGate) and theirs.settings.candidates == 1
    assert theirs.tools.modifier is guided.tools.modifier, "its words are an arm of their own"


def test_upstreams_script_is_its_way_with_its_words(bench, world):
    script, words = (bench.arm(n, world, {}) for n in ("upstream-script", "upstream"))
    assert isinstance(script.tools.gate, OpenGate) and script.settings.candidates == 1
    assert isinstance(words.tools.gate, MeasuredGate) and words.settings.candidates == 4
    assert all(isinstance(arm.tools.modifier, UpstreamWords) for arm in (script, words))


def test_drift_paints_for_ten_rounds(bench, world):
    drift = bench.arm("drift", world, {})
    assert drift.settings.rounds == 10 and isinstance(drift.tools.gate, OpenGate)


def test_drift_paints_in_clean_pictures_too_and_no_other_arm_does(bench):
    (seed, pair), *_ = ((s, p) for s in range(10_950_000, 10_950_040) if (p := render_pair(s)).findings)
    assert bench.truths("oracle", {seed: pair}) == {f"oracle-flawed-{seed}": pair.findings}
    assert set(bench.truths("drift", {seed: pair})) == {f"drift-flawed-{seed}", f"drift-clean-{seed}"}


def test_drift_is_counted_in_whole_pixels_by_round_for_flawed_and_for_clean_pictures(bench):
    rows = bench.drift_rows(
        [
            outcome(changed_outside=(0, 0, 3), clean_changed_outside=(0, 1)),
            outcome(changed_outside=(0, 0), clean_changed_outside=(0, 0)),
        ]
    )
    assert [row.markdown() for row in rows] == [
        "| drift: pixels outside changed after round 1, flawed | 0 | 0 in 2 pictures |",
        "| drift: pixels outside changed after round 2, flawed | 0 | 0 in 2 pictures |",
        "| drift: pixels outside changed after round 3, flawed | 0 | 3 in 1 pictures |",
        "| drift: pixels outside changed after round 1, clean | 0 | 0 in 2 pictures |",
        "| drift: pixels outside changed after round 2, clean | 0 | 1 in 2 pictures |",
    ]


def test_flawed_and_clean_pictures_break_on_their_own(bench):
    outcomes = [outcome(clean_changed=True), outcome(new_flaw=True), outcome(right_after=False), outcome()]
    rows = bench.arm_rows("guided", outcomes)
    assert measured(rows, "guided: flawed pictures broken").mean == 0.5
    assert measured(rows, "guided: of these, what was sound").mean == 0.25
    assert measured(rows, "guided: clean pictures broken").mean == 0.25
    assert measured(rows, "guided: pictures broken, flawed and clean").mean == 0.375
    assert measured(rows, "guided: pixels outside the support changed") == "0 in 8 pictures"


def test_damage_is_weighed_by_pixels_and_left_out_where_nothing_was_repaired(bench):
    outcomes = [outcome(damage=Damage(30, 3, 60.0)), outcome(damage=Damage(10, 5, 20.0)), outcome()]
    rows = bench.arm_rows("no-gate", outcomes)
    damaged = measured(rows, "no-gate: flawed pictures, sound pixels in kept supports damaged")
    assert damaged.mean == pytest.approx(8 / 40)
    assert measured(
        rows, "no-gate: flawed pictures, levels by which those pixels are off"
    ).mean == pytest.approx(2)
    assert not [row for row in rows if row.claim.startswith("no-gate: clean pictures, ")]


def test_overlap_is_said_with_both_intervals(bench):
    spread = np.linspace(-0.05, 0.05, 40)
    arms = {
        name: [outcome(i, level + s) for i, s in enumerate(spread)]
        for name, level in (("guided", 0.9), ("no-gate", 0.5), ("random", 0.89))
    }
    rows = {row.claim.split()[-1]: row.measured for row in bench.overlap_rows(arms)}
    assert set(rows) == {"no-gate", "random"}
    assert rows["no-gate"].startswith("apart: 0.9000 [") and " and 0.5000 [" in rows["no-gate"]
    assert rows["random"].startswith("overlap: ")
    (paired,) = [r for r in bench.compared_rows(arms) if r.claim.endswith("less random")]
    assert paired.measured.low > 0, "the paired difference sees what the intervals do not"


def test_without_guided_repair_nothing_is_compared(bench):
    assert bench.overlap_rows({"no-gate": [outcome()]}) == []


class Idle:
    """Takes calls and paints nothing."""

    native_size, alignment = (64, 64), 8

    def __init__(self) -> None:
        self.calls: list[int] = []

    def inpaint(self, requests):
        self.calls.append(len(requests))
        return []


def test_the_cost_of_both_ways_stands_side_by_side_with_the_threads(bench):
    painters = {"exact": Idle(), "in batches": Idle()}
    rows = bench.painting_cost.rows(painters, RegionSettings(), 2, 10_950_000)
    assert rows[0].claim == "cost: threads of the painter, processor cores" and rows[0].measured[0].isdigit()
    bars = {row.claim: row.bar for row in rows if "times as fast as one by one" in row.claim}
    assert bars == {
        "exact: 4 regions in one call, times as fast as one by one": "",
        "in batches: 4 regions in one call, times as fast as one by one": ">= 1.5",
    }
    for painter in painters.values():
        assert sorted(painter.calls) == [1] * 5 * 3 + [4] * 3, "warmed up once, then timed twice"
