"""SAM from official checkpoints of any size, against the package's own classes."""

import numpy as np
import pytest
import torch
from tiny_sam import TINY, save_sam, tiny_sam

from contracts.errors import CheckpointError
from contracts.records import Box
from defender.preprocess import sam_pixels
from defender.sam import load_modeling
from defender.sam_boxes import SamBoxes, config_of


@pytest.fixture
def tiny():
    return tiny_sam()


@pytest.fixture
def checkpoint(tiny, tmp_path):
    return save_sam(tmp_path / "sam_tiny.pth", tiny)


def picture(height=40, width=64):
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_sizes_are_read_off_the_tensors(tiny):
    assert config_of(tiny.state_dict()) == TINY


def test_masks_are_those_of_the_package(tiny, checkpoint):
    sam = load_modeling().Sam(tiny.image_encoder, tiny.prompt_encoder, tiny.mask_decoder)
    image, boxes = picture(), [Box(3, 2, 30, 20), Box(10, 10, 64, 40)]
    _, (height, width) = sam_pixels(image, 64, 64)
    assert (height, width) == image.shape[:2]
    record = {
        "image": torch.from_numpy(image).permute(2, 0, 1).float(),
        "original_size": image.shape[:2],
        "boxes": torch.tensor(boxes, dtype=torch.float32),
    }
    expected = sam([record], multimask_output=False)[0]
    given = SamBoxes.load(checkpoint).masks(image, boxes)
    assert expected["masks"].any() and not expected["masks"].all()
    for (mask, fit), theirs, score in zip(
        given, expected["masks"][:, 0].numpy(), expected["iou_predictions"][:, 0], strict=True
    ):
        assert np.array_equal(mask, theirs) and mask.dtype == np.bool_
        assert fit == pytest.approx(min(max(float(score), 0.0), 1.0), abs=1e-5)


def test_boxes_scale_with_the_picture_and_none_costs_nothing(checkpoint):
    sam = SamBoxes.load(checkpoint)
    large = picture(200, 130)
    mask, _ = sam.masks(large, [Box(0, 0, 65, 100)])[0]
    assert mask.shape == (200, 130)
    assert sam.masks(large, []) == []
    assert len(sam.digest) == 12


def test_files_that_are_no_sam(tiny, tmp_path):
    with pytest.raises(CheckpointError, match="missing"):
        SamBoxes.load(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(CheckpointError):
        SamBoxes.load(tmp_path / "text.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no checkpoint of SAM"):
        SamBoxes.load(tmp_path / "other.pth")
    halved = {k: v for k, v in tiny.state_dict().items() if "mask_tokens" not in k}
    torch.save(halved, tmp_path / "half.pth")
    with pytest.raises(CheckpointError, match="missing"):
        SamBoxes.load(tmp_path / "half.pth")
