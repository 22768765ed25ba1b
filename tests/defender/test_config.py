"""The configuration describes a network completely and survives JSON."""

import json
from dataclasses import replace

import pytest

from contracts.errors import CheckpointError
from defender.config import LegionConfig, TokenIds
from tabletop.defender_config import tabletop_config


@pytest.mark.parametrize("config", [LegionConfig(), tabletop_config(800)])
def test_json_round_trip(config):
    assert LegionConfig.from_json(config.to_json()) == config


def test_a_verdict_first_is_not_spelled_out_and_its_lack_is():
    """So the files and digests of checkpoints from before the field stay what they were."""
    taught = json.loads(LegionConfig().to_json())
    assert "verdict_first" not in taught
    assert LegionConfig.from_json(json.dumps(taught)).verdict_first
    imported = replace(LegionConfig(), verdict_first=False)
    assert json.loads(imported.to_json())["verdict_first"] is False
    assert LegionConfig.from_json(imported.to_json()) == imported


def test_another_projects_config_is_told_the_way_in():
    with pytest.raises(CheckpointError, match="legion weights import SRC DST"):
        LegionConfig.from_json(json.dumps({"model_type": "llava"}))


def test_image_tokens_follow_from_sizes():
    assert LegionConfig().image_tokens == 576
    assert tabletop_config(800).image_tokens == 64


def test_released_token_ids():
    assert TokenIds.after(32000) == TokenIds()
    assert TokenIds().seg == 32004


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"depth": 3}, "unknown fields depth"),
        ({"sam": {"patches": 3}}, "sam.patches"),
        ({"max_new_tokens": "many"}, "max_new_tokens must be int"),
        ({"has_detection": 1}, "has_detection must be bool"),
        ({"format": "other"}, "not a legion-defender/1"),
    ],
)
def test_bad_configurations_say_where(change, says):
    values = {**json.loads(LegionConfig().to_json()), **change}
    with pytest.raises(CheckpointError, match=says):
        LegionConfig.from_json(json.dumps(values))


def test_broken_json():
    with pytest.raises(CheckpointError, match="not valid JSON"):
        LegionConfig.from_json("{")
