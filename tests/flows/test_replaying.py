"""A replay notices whatever differs, down to a region's mask, and says what came first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flow_samples import Shelf, finding, sample_run

from contracts.records import Box, Candidate, Diagnosis, RegionPlan, Repair, Round, Run, Score, Verdict
from flows.jobs.replaying import Compared, compare, first_difference, headlines, verdict

FLAW = finding()
PLAN = RegionPlan((FLAW,), FLAW.mask, np.full((64, 64), 200, np.uint8), Box(0, 0, 64, 64), (64, 64), 1.5)
INVERTED = Diagnosis((replace(FLAW, mask=~FLAW.mask),), 0.5, "said")
LOOK = Candidate(
    5, "c" * 64, Diagnosis((FLAW,), 0.5, "said"), (Score("taste", "1", 0.25),), 0.125, "o" * 64, True
)
REPAIR = Repair(PLAN, "a red cone, natural shadow", (LOOK,), True, "fine", 1, "d" * 64)


def repaired(repair: Repair = REPAIR, **parts: object) -> Run:
    """One round of one region."""
    item = Round(
        index=1, prompt="", seed=1, image="a" * 64, diagnosis=Diagnosis((FLAW,), 0.9, ""),
        scores=(Score("taste", "1", 0.2),), verdict=Verdict(True, "better", "clean"), repairs=(repair,),
        result="d" * 64, outside="o" * 64,
    )  # fmt: skip
    return Run("r", "inpainting", "", 1, {}, "finished", "", (replace(item, **parts),))  # type: ignore[arg-type]


def differing(run: Run) -> list[str]:
    return [row.step for row in compare(repaired(), run) if not row.same]


def test_equal_runs_are_equal_whatever_time_they_took() -> None:
    assert differing(repaired(seconds={"paint": 3.0})) == []
    run = sample_run(Shelf())
    assert all(row.same for row in compare(run, run))


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (replace(REPAIR, prompt="a red cone"), "region 1 prompt"),
        (replace(REPAIR, reason="bad"), "region 1 reason"),
        (replace(REPAIR, accepted=False), "region 1 accepted"),
        (replace(REPAIR, plan=replace(PLAN, core=~FLAW.mask)), "region 1 core"),
        (replace(REPAIR, plan=replace(PLAN, weights=PLAN.weights + 1)), "region 1 weights"),
        (replace(REPAIR, candidates=(replace(LOOK, seam=0.25),)), "region 1 candidate 1 seam"),
        (replace(REPAIR, candidates=(replace(LOOK, painted="e" * 64),)), "region 1 candidate 1 picture"),
        (
            replace(REPAIR, candidates=(replace(LOOK, scores=(Score("taste", "1", 0.3),)),)),
            "region 1 candidate 1 score taste value",
        ),
        (
            replace(REPAIR, candidates=(replace(LOOK, diagnosis=INVERTED),)),
            "region 1 candidate 1 finding 1 mask",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_every_part_of_a_region_is_compared(changed: Repair, name: str) -> None:
    assert differing(repaired(changed)) == [f"round 1 {name}"]


def test_the_first_difference_is_the_cause_of_the_others() -> None:
    again = repaired(
        replace(REPAIR, candidates=(replace(LOOK, seam=0.25),), picture="e" * 64), result="e" * 64
    )
    rows = compare(repaired(), again)
    said = first_difference(rows)
    assert (
        said
        == f"first in round 1 region 1 candidate 1 seam: 0.125 then, 0.25 now; 3 of {len(rows)} values differ"
    )
    assert {row.step for row in rows if not row.same} < {row.step for row in headlines(rows)}
    assert len(headlines(rows)) < len(rows)


def test_what_only_one_of_them_has_stands_where_it_came_about() -> None:
    second = replace(FLAW, phrase="the tip")
    again = repaired(diagnosis=Diagnosis((FLAW, second), 0.9, ""))
    rows = compare(repaired(), again)
    assert differing(again)[0] == "round 1 finding 2 phrase"
    assert "nothing then, the tip now" in first_difference(rows)
    shorter = replace(sample_run(Shelf()), rounds=sample_run(Shelf()).rounds[:2])
    missing = [row for row in compare(sample_run(Shelf()), shorter) if not row.same]
    assert {row.again for row in missing} == {None}
    assert {row.step.split()[1] for row in missing} == {"3"}


def test_a_measured_number_may_differ_by_what_a_batch_does_and_nothing_else_may() -> None:
    def rows(**parts: object) -> list[Compared]:
        return [row for row in compare(repaired(), repaired(**parts)) if not row.identical]

    (row,) = rows(scores=(Score("taste", "1", 0.2 * (1 + 5e-6)),))
    assert row.same and row.difference == pytest.approx(5e-6, rel=1e-3)
    assert "differ by at most 5e-06" in verdict([row])
    assert verdict(compare(repaired(), repaired())).startswith("identical: ")
    (row,) = rows(scores=(Score("taste", "1", 0.2 * (1 + 5e-4)),))
    assert not row.same
    (row,) = rows(seed=2)
    assert not row.same and row.difference == 0
    large = Compared("seed", str(10**9), str(10**9 + 1))
    assert not large.same and not Compared("value", 0.5, None).same
