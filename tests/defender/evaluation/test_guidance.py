"""Exchanging [SEG] embeddings: which one is taken, and what a network that ignores the text shows."""

from dataclasses import replace

import pytest
import torch
from figure_means import means

from contracts.errors import InvalidInput
from defender.checkpoint import Checkpoint, Thresholds
from defender.evaluation import guidance
from defender.evaluation.pictures import Picture
from defender.legion_defender import LegionDefender


@pytest.fixture
def pictures(samples):
    return [Picture(i, str(i), "", sample, False) for i, sample in enumerate(samples)]


def test_exchanging_stays_within_a_picture():
    owners = torch.tensor([0, 0, 0, 2, 3, 3])
    assert guidance.next_of_same_owner(owners).tolist() == [1, 2, 0, 3, 5, 4]


def test_exchanging_between_pictures_takes_the_same_rank_of_the_next():
    owners = torch.tensor([0, 0, 0, 2, 3, 3])
    assert guidance.next_owners(owners, [2, 1, 3, 0]).tolist() == [3, 3, 3, 4, 0, 1]


def test_the_next_picture_is_one_of_the_same_group():
    assert guidance.next_of_group(["a", "b", "a", "c", "b", "a"]) == [2, 4, 5, 3, 1, 0]


def test_only_pictures_with_several_artifacts(pictures):
    assert {len(p.sample.findings) for p in pictures if guidance.wanted(p)} == {2}


def test_losses_are_points_per_artifact():
    row = {"group": "", "own": [0.8, 0.6], "another artifact": [0.2, 0.0]}
    figures = means(guidance.figures([row]))
    assert figures["F1 per artifact"] == pytest.approx(0.7)
    assert figures["F1 lost to another artifact"] == pytest.approx(0.6)
    assert "F1 lost to another picture" not in figures


@pytest.mark.slow
def test_own_and_exchanged_embeddings_of_a_network(model, dialog, pictures):
    defender = LegionDefender(Checkpoint(model, dialog, Thresholds(), "digest"))
    several = [p for p in pictures if guidance.wanted(p)]
    rows = list(guidance.look(defender, several))
    assert [row["index"] for row in rows] == [p.index for p in several]
    assert all(len(row["own"]) == len(row["another picture"]) == 2 for row in rows)
    apart = [replace(picture, group=str(i)) for i, picture in enumerate(several)]
    assert not [row for row in guidance.look(defender, apart) if "another picture" in row]
    with torch.no_grad():  # a network whose masks ignore the text
        model.model.text_hidden_fcs[0][2].weight.zero_()
    figures = means(guidance.figures(list(guidance.look(defender, several))))
    assert figures["F1 lost to another artifact"] == pytest.approx(0, abs=1e-9)
    assert figures["F1 lost to another picture"] == pytest.approx(0, abs=1e-9)


def test_another_kind_of_defender_is_refused(pictures):
    class Other:
        name = "vision-llm"

    with pytest.raises(InvalidInput, match="vision-llm"):
        list(guidance.look(Other(), pictures))
