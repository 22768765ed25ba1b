"""What a picture file holds besides its pixels comes back with the result."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from contracts.errors import InvalidInput
from flows.files.picture_files import FORMATS, read_mask, read_picture, write_mask, write_result

SHAPE = (6, 9)
RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def saved(path, pixels, **options):
    Pillow.fromarray(pixels).save(path, **options)
    return path


def repaired(source):
    """The picture with its upper left corner painted, and where."""
    mask = np.zeros(source.image.shape[:2], bool)
    mask[:3, :4] = True
    result = source.image.copy()
    result[mask] = (10, 200, 30)
    return result, mask


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_stays_and_result_and_support_lie_on_the_files_own_pixels(tmp_path, orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a note"
    path = saved(tmp_path / "in.png", noise(*SHAPE, 3), exif=exif)
    source = read_picture(path)
    assert source.image.shape[:2] == (SHAPE if orientation < 5 else SHAPE[::-1])
    result, mask = repaired(source)
    out = write_result(source, result, tmp_path / "out")
    support = write_mask(source, mask, tmp_path / "support.png")
    before, after = (np.array(Pillow.open(p)) for p in (path, out))
    allowed = np.array(Pillow.open(support)) > 0
    assert np.array_equal(before[~allowed], after[~allowed]) and (before[allowed] != after[allowed]).any()
    with Pillow.open(out) as file:
        assert dict(file.getexif()) == {0x0112: orientation, 0x010E: "a note"}
        assert np.array_equal(np.array(ImageOps.exif_transpose(file)), result)
    assert np.array_equal(read_mask(support, mask.shape), mask)


def test_colors_under_transparency_and_transparency_itself_stay(tmp_path):
    layers = noise(*SHAPE, 4)
    layers[:, 0, 3], layers[:, 1, 3], layers[:, 2, 3] = 0, 255, 128
    source = read_picture(saved(tmp_path / "in.png", layers))
    assert source.unseen[:, 0].all() and not source.unseen[:, 1].any()
    result, mask = repaired(source)
    result[:, 0] = source.image[:, 0]
    after = np.array(Pillow.open(write_result(source, result, tmp_path / "out")))
    assert np.array_equal(after[..., 3], layers[..., 3])
    same = ~mask | source.unseen
    assert np.array_equal(after[same], layers[same])
    assert np.array_equal(after[0, 1, :3], (10, 200, 30))


def test_on_white_a_half_transparent_pixel_looks_as_painted(tmp_path):
    layers = np.full((*SHAPE, 4), (90, 90, 90, 128), np.uint8)
    source = read_picture(saved(tmp_path / "in.png", layers))
    result, mask = source.image.copy(), np.zeros(SHAPE, bool)
    result[0, 0] = (200, 180, 190)
    mask[0, 0] = True
    again = read_picture(write_result(source, result, tmp_path / "out"))
    assert np.abs(again.image.astype(int) - result)[mask].max() <= 1
    assert np.array_equal(again.image[~mask], result[~mask])


@pytest.mark.parametrize("form", [f for f in FORMATS if f != "jpeg"])
def test_every_format_but_jpeg_keeps_every_pixel(tmp_path, form):
    for channels in (3, 4):
        source = read_picture(saved(tmp_path / "in.png", noise(*SHAPE, channels)))
        out = write_result(source, source.image, tmp_path / "out", form)
        assert out.suffix == FORMATS[form][0]
        assert np.array_equal(np.array(Pillow.open(out)), np.array(Pillow.open(tmp_path / "in.png")))


def test_jpeg_is_written_when_asked_and_not_with_transparency(tmp_path):
    source = read_picture(saved(tmp_path / "in.png", noise(*SHAPE, 3)))
    assert Pillow.open(write_result(source, source.image, tmp_path / "out", "jpeg")).format == "JPEG"
    source = read_picture(saved(tmp_path / "alpha.png", noise(*SHAPE, 4)))
    with pytest.raises(InvalidInput, match="--format png"):
        write_result(source, source.image, tmp_path / "out", "jpeg")


def test_a_jpegs_pixels_are_those_it_decodes_to(tmp_path):
    path = saved(tmp_path / "in.jpg", noise(*SHAPE, 3), quality=60, icc_profile=RGB_PROFILE, dpi=(72, 72))
    source = read_picture(path)
    result, mask = repaired(source)
    with Pillow.open(write_result(source, result, tmp_path / "out")) as file:
        assert file.format == "PNG" and file.info["icc_profile"] == RGB_PROFILE
        assert round(file.info["dpi"][0]) == 72
        assert np.array_equal(np.array(file)[~mask], np.array(Pillow.open(path))[~mask])


def test_notes_of_a_png_stay(tmp_path):
    info = PngInfo()
    info.add_text("parameters", "a red cone\nSteps: 16, ä")
    source = read_picture(saved(tmp_path / "in.png", noise(*SHAPE, 3), pnginfo=info))
    with Pillow.open(write_result(source, source.image, tmp_path / "out")) as file:
        assert file.text["parameters"] == "a red cone\nSteps: 16, ä"


def test_new_notes_join_those_of_a_png_and_other_formats_have_none(tmp_path):
    info = PngInfo()
    info.add_text("parameters", "a red cone")
    info.add_text("legion", "of an earlier run")
    source = read_picture(saved(tmp_path / "in.png", noise(*SHAPE, 3), pnginfo=info))
    with Pillow.open(write_result(source, source.image, tmp_path / "out", notes={"legion": "ü"})) as file:
        assert file.text == {"parameters": "a red cone", "legion": "ü"}
    for form in ("webp", "tiff", "jpeg"):
        with Pillow.open(
            write_result(source, source.image, tmp_path / "out", form, notes={"legion": "ü"})
        ) as file:
            assert not getattr(file, "text", {})


def test_a_profile_of_other_channels_is_left_out_with_a_note(tmp_path):
    gray = RGB_PROFILE[:16] + b"GRAY" + RGB_PROFILE[20:]
    source = read_picture(saved(tmp_path / "in.png", noise(*SHAPE), icc_profile=gray))
    assert "icc_profile" not in source.extras and "not RGB" in source.notes[0]


def test_sixteen_bits_become_eight_with_a_note(tmp_path):
    path = saved(tmp_path / "in.png", np.arange(54, dtype=np.uint16).reshape(SHAPE) * 1000)
    assert "8 bits" in read_picture(path).notes[0]


# --- masks --------------------------------------------------------------------------------------------

MASK = np.zeros(SHAPE, bool)
MASK[2:5, 3:7] = True
GRAY = np.where(MASK, 255, 0).astype(np.uint8)


def layered(color, background=(0, 0, 0, 0)):
    layers = np.zeros((*SHAPE, 4), np.uint8)
    layers[:] = background
    layers[MASK] = (*color, 255)
    return Pillow.fromarray(layers)


@pytest.mark.parametrize(
    "mask",
    [
        Pillow.fromarray(MASK),
        Pillow.fromarray(GRAY),
        Pillow.fromarray(np.stack([GRAY] * 3, -1)),
        Pillow.fromarray(GRAY).convert("P"),
        Pillow.fromarray(GRAY).convert("LA"),
        Pillow.fromarray(np.where(MASK, 65535, 0).astype(np.uint16)),
        layered((255, 255, 255)),
        layered((255, 0, 0)),
        layered((255, 255, 255), (0, 0, 0, 255)),
    ],
    ids=[
        "1 bit",
        "gray",
        "RGB",
        "palette",
        "LA",
        "16 bit",
        "white on nothing",
        "red on nothing",
        "opaque RGBA",
    ],
)
def test_a_mask_may_be_drawn_in_any_way(tmp_path, mask):
    mask.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", SHAPE), MASK)


def test_a_soft_mask_counts_from_half_bright(tmp_path):
    soft = np.where(MASK, 255, 0).astype(np.uint8)
    soft[0, 0], soft[0, 1] = 127, 128
    found = read_mask(saved(tmp_path / "mask.png", soft), SHAPE)
    assert not found[0, 0] and found[0, 1]


def test_a_white_mask_means_everything(tmp_path):
    assert read_mask(saved(tmp_path / "mask.png", np.full(SHAPE, 255, np.uint8)), SHAPE).all()


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros(SHAPE, np.uint8), "is empty"),
        (np.full((4, 5), 255, np.uint8), "5x4 pixels and the picture 9x6"),
        (noise(*SHAPE), "looks like a picture"),
    ],
    ids=["empty", "size", "picture"],
)
def test_what_is_no_mask_is_refused(tmp_path, pixels, words):
    with pytest.raises(InvalidInput, match=words):
        read_mask(saved(tmp_path / "mask.png", pixels), SHAPE)


def test_a_mask_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="mask cannot be used.*does not exist"):
        read_mask(tmp_path / "none.png", SHAPE)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InvalidInput, match="mask cannot be used"):
        read_mask(tmp_path / "text.png", SHAPE)
