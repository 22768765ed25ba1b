"""Overlays, enlarged copies and thumbnails."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from flow_samples import finding, picture
from PIL import Image as Pillow

from contracts.errors import InvalidInput
from defender.image_files import read_image
from flows.files.pictures import anchor, color_of, marked, mask_overlay, shown_size, thumbnail_uri


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 64), (256, 256)), ((64, 32), (256, 128)), ((700, 500), (700, 500)), ((2048, 1024), (1024, 512))],
)
def test_small_pictures_grow_and_large_ones_shrink(size, expected) -> None:
    assert shown_size(*size) == expected


def test_an_overlay_is_tinted_inside_and_clear_outside() -> None:
    mask = np.zeros((64, 64), bool)
    mask[20:40, 10:30] = True
    overlay = np.asarray(mask_overlay([mask], (256, 256)))
    assert tuple(overlay[120, 80, :3]) == color_of(1) and 90 < overlay[120, 80, 3] < 120
    assert overlay[120, 200, 3] == 0
    assert overlay[120, 40, 3] > 200, "no outline at the mask's left edge"


def test_an_empty_mask_marks_nothing() -> None:
    assert np.asarray(mask_overlay([np.zeros((64, 64), bool)], (256, 256)))[..., 3].max() == 0


def test_marked_changes_the_picture_only_where_findings_are() -> None:
    image, item = picture(1), finding("physics")
    plain, drawn = np.asarray(marked(image, []), int), np.asarray(marked(image, [item]), int)
    changed = np.abs(plain - drawn).sum(-1) > 0
    assert changed[4 * 44, 4 * 48] and not changed[:100].any()


def test_the_number_stands_inside_its_mask_even_on_a_ring() -> None:
    rows, columns = np.mgrid[0:64, 0:64]
    radius = np.hypot(rows - 32, columns - 32)
    ring = (radius > 15) & (radius < 20)
    across, down = anchor(ring)
    assert ring[int(down * 64), int(across * 64)]


def test_thumbnails_fit_whatever_the_picture() -> None:
    noise = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (900, 700, 3), dtype=np.uint8))
    uri = thumbnail_uri(noise)
    assert len(uri) <= 64 * 1024
    content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    assert Pillow.open(io.BytesIO(content)).height > Pillow.open(io.BytesIO(content)).width


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "RGB"])
def test_pictures_of_every_mode_are_read_as_rgb(tmp_path, mode) -> None:
    Pillow.fromarray(picture(2)).convert(mode).save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png")
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8


def test_transparency_becomes_white(tmp_path) -> None:
    Pillow.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png") == 255).all()


def test_broken_pictures_are_refused(tmp_path) -> None:
    buffer = io.BytesIO()
    Pillow.fromarray(picture(2)).save(buffer, "PNG")
    (tmp_path / "half.png").write_bytes(buffer.getvalue()[:200])
    with pytest.raises(InvalidInput, match="half.png"):
        read_image(tmp_path / "half.png")
