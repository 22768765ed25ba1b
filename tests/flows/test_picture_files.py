"""What a picture file holds besides its pixels comes back with the result."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from contracts.errors import InvalidInput
from flows.files.mask_files import read_mask
from flows.files.picture_files import (
    FORMATS,
    check_format,
    read_picture,
    what_is_lost,
    write_mask,
    write_result,
)

ARTIST = 315
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


SOURCES = {"png": {}, "tif": {}, "tiff": {"compression": "tiff_lzw"}, "webp": {"lossless": True}, "jpg": {}}
"""Endings and how Pillow writes them: a TIFF's way through the decoder depends on its compression."""


def as_seen(path):
    return np.array(ImageOps.exif_transpose(Pillow.open(path)))


@pytest.mark.parametrize("form", ["png", "tiff", "webp"])
@pytest.mark.parametrize("ending", SOURCES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_from_any_format_to_any_format_a_viewer_sees_the_same(tmp_path, orientation, ending, form):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"in.{ending}", noise(*SHAPE, 3), exif=exif, **SOURCES[ending])
    for number in range(2):  # the second time it is a file of our own
        source = read_picture(path)
        result, mask = repaired(source)
        out = write_result(source, result, tmp_path / f"out-{number}", form)
        support = write_mask(source, mask, tmp_path / "support.png")
        assert np.array_equal(as_seen(out)[~mask], as_seen(path)[~mask])
        assert np.array_equal(as_seen(out), result) and np.array_equal(as_seen(support) > 0, mask)
        with Pillow.open(out) as file:
            assert file.getexif()[0x0112] == orientation, "as the file that came"
        path = out


def test_a_tiff_of_several_pages_is_seen_upright(tmp_path):
    pages = [Pillow.fromarray(noise(*SHAPE, 3, seed=i)) for i in range(2)]
    exif = Pillow.Exif()
    exif[0x0112] = 6
    pages[0].save(tmp_path / "in.tiff", save_all=True, append_images=pages[1:], exif=exif)
    source = read_picture(tmp_path / "in.tiff")
    assert source.image.shape[:2] == SHAPE[::-1]
    out = write_result(source, source.image, tmp_path / "out", "tiff")
    assert np.array_equal(as_seen(out), source.image)


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


@pytest.mark.parametrize("form", ["png", "tiff", "webp"])
@pytest.mark.parametrize("ending", SOURCES)
def test_resolution_and_xmp_stay_from_any_format_to_any_format(tmp_path, ending, form):
    """WebP has EXIF alone for a resolution, and PNG a text for XMP."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\xc3\xbc</x:xmpmeta>'
    exif = Pillow.Exif()
    exif[ARTIST] = "somebody"
    info, options = PngInfo(), {"xmp": xmp, "dpi": (300, 150), **SOURCES[ending]}
    if ending == "png":
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options["pnginfo"] = info
    if ending == "webp":
        exif.update({282: 300, 283: 150, 296: 2})
    if ending.startswith("tif"):
        exif[700] = xmp
    path = saved(tmp_path / f"in.{ending}", noise(*SHAPE, 3), exif=exif, **options)
    source = read_picture(path)
    assert source.extras["xmp"] == xmp and what_is_lost(source, source.image, form) == ()
    out = write_result(source, source.image, tmp_path / "out", form)
    again = read_picture(out)
    assert again.extras["xmp"] == xmp and np.allclose(again.extras["dpi"], (300, 150), atol=0.02)
    with Pillow.open(out) as file:
        assert file.getexif()[ARTIST] == "somebody" and file.info["xmp"] == xmp
        if form == "webp":
            assert [round(file.getexif()[tag]) for tag in (282, 283, 296)] == [300, 150, 2]


@pytest.mark.parametrize(
    ("tags", "dots"),
    [
        ({282: 100, 283: 100, 296: 3}, 254),
        ({282: 100, 283: 100}, 100),
        ({282: 100, 283: 100, 296: 1}, None),
        ({282: 100}, None),
        ({282: IFDRational(1, 0), 283: IFDRational(1, 0)}, None),
    ],
    ids=["centimeters", "no unit", "a ratio", "across alone", "endless"],
)
def test_a_resolution_that_exif_alone_has_is_kept_if_it_is_one(tmp_path, tags, dots):
    exif = Pillow.Exif()
    exif.update(tags)
    source = read_picture(saved(tmp_path / "in.webp", noise(*SHAPE, 3), exif=exif))
    kept = Pillow.open(write_result(source, source.image, tmp_path / "out")).info.get("dpi")
    assert kept is None if dots is None else round(kept[0]) == dots


@pytest.mark.parametrize("form", ["webp", "tiff"])
def test_notes_of_a_png_that_a_format_has_no_place_for_are_named(tmp_path, form):
    info = PngInfo()
    info.add_text("parameters", "a red cone")
    info.add_text("Author", "somebody")
    source = read_picture(saved(tmp_path / "in.png", noise(*SHAPE, 3), pnginfo=info))
    assert what_is_lost(source, source.image) == ()
    (told,) = what_is_lost(source, source.image, form)
    assert f"has text notes (Author, parameters), which {form} does not hold" in told


def test_a_jpeg_says_of_which_picture_the_proof_is_and_that_xmp_is_too_long_for_it(tmp_path):
    source = read_picture(saved(tmp_path / "in.png", noise(*SHAPE, 3)))
    (told,) = what_is_lost(source, source.image, "jpeg")
    assert "jpeg may change any pixel" in told and "before compression" in told
    for length, notes in ((65_504, 1), (65_505, 2)):
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", "x" * length)
        source = read_picture(saved(tmp_path / "in.png", noise(*SHAPE, 3), pnginfo=info))
        out = write_result(source, source.image, tmp_path / "out", "jpeg")
        assert ("xmp" in Pillow.open(out).info) is (notes == 1)
        assert len(what_is_lost(source, source.image, "jpeg")) == notes


GRAY_PROFILE = RGB_PROFILE[:16] + b"GRAY" + RGB_PROFILE[20:]


def test_a_profile_of_gray_stays_with_gray_and_is_left_out_of_rgb_with_a_note(tmp_path):
    source = read_picture(saved(tmp_path / "in.png", noise(*SHAPE), icc_profile=GRAY_PROFILE))
    out = write_result(source, source.image, tmp_path / "out")
    assert Pillow.open(out).info["icc_profile"] == GRAY_PROFILE and what_is_lost(source, source.image) == ()
    result, _ = repaired(source)
    assert "icc_profile" not in Pillow.open(write_result(source, result, tmp_path / "out")).info
    assert "color profile that is not RGB: the result has none" in what_is_lost(source, result)[1]


def test_sixteen_bits_of_color_are_told_too(tmp_path):
    """Pillow reads them as 8 without a word, and writes none."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + noise(SHAPE[1] * 6, seed=y).tobytes() for y in range(SHAPE[0]))
    header = struct.pack(">IIBBBBB", SHAPE[1], SHAPE[0], 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert "more than 8 bits per channel" in read_picture(tmp_path / "in.png").notes[0]


# --- modes --------------------------------------------------------------------------------------------


def decoded(path):
    """As the check of docs/inpainting.md reads it."""
    return np.array(Pillow.open(path).convert("RGBA"))


def docs_check():
    page = Path(__file__).parents[2] / "docs" / "inpainting.md"
    (check,) = re.findall(r"```python\n(import numpy.*?)```", page.read_text(encoding="utf-8"), re.S)
    return check


def palette_picture(transparent=False):
    colors = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200), (255, 255, 255)], np.uint8)
    picture = Pillow.fromarray(np.arange(54, dtype=np.uint8).reshape(SHAPE) % 4)
    picture.putpalette(colors.tobytes())
    if transparent:
        picture.info["transparency"] = bytes([0, 128, 255, 255])
    return picture


NARROW = {
    "1": Pillow.fromarray(noise(*SHAPE) > 127),
    "L": Pillow.fromarray(noise(*SHAPE)),
    "LA": Pillow.fromarray(
        np.dstack([noise(*SHAPE), np.full(SHAPE, 255, np.uint8) * (np.arange(9) > 2)]).astype(np.uint8)
    ),
    "P": palette_picture(),
    "transparent P": palette_picture(True),
}


def with_color(source, color):
    """The picture with one pixel painted, one that is not transparent."""
    result = source.image.copy()
    place = (3, 7)
    assert source.layers is None or source.layers[(*place, 3)] > 0
    result[place] = color
    mask = np.zeros(SHAPE, bool)
    mask[place] = True
    return result, mask


@pytest.mark.parametrize("name", NARROW)
def test_a_picture_with_fewer_channels_stays_what_it_is(tmp_path, name):
    NARROW[name].save(tmp_path / "in.png")
    source = read_picture(tmp_path / "in.png")
    color = (255, 255, 255) if name == "1" else (77, 77, 77)
    for result, mask in (with_color(source, color), (source.image, np.zeros(SHAPE, bool))):
        out = write_result(source, result, tmp_path / "out")
        assert Pillow.open(out).mode == name.split()[-1] and what_is_lost(source, result) == ()
        assert np.array_equal(decoded(out)[~mask], decoded(tmp_path / "in.png")[~mask])
        if source.layers is None or not mask.any():
            assert np.array_equal(read_picture(out).image, result)


@pytest.mark.parametrize("name", NARROW)
def test_what_no_longer_fits_becomes_rgb_with_one_note_and_no_other_pixel_changes(tmp_path, name):
    NARROW[name].save(tmp_path / "in.png")
    source = read_picture(tmp_path / "in.png")
    if name.endswith("P"):  # a palette takes new colors in, until it is full
        large = np.arange(270 * 4, dtype=np.uint32).reshape(270, 4)
        picture = NARROW[name].resize((4, 270))
        picture.info = NARROW[name].info
        picture.save(tmp_path / "in.png")
        source = read_picture(tmp_path / "in.png")
        mask = np.ones((270, 4), bool) if source.layers is None else source.layers[..., 3] == 255
        mask[0] = False
        result = source.image.copy()
        result[mask] = np.stack([large % 251, large // 251, large % 7], -1).astype(np.uint8)[mask]
    else:
        result, mask = with_color(source, (10, 200, 30))
    out = write_result(source, result, tmp_path / "out")
    assert Pillow.open(out).mode == ("RGB" if source.layers is None else "RGBA")
    (told,) = what_is_lost(source, result)
    assert "and the result RGB: what was painted needs more colors" in told
    assert np.array_equal(decoded(out)[~mask], decoded(tmp_path / "in.png")[~mask])
    assert np.array_equal(decoded(out)[mask][:, :3], result[mask])


@pytest.mark.parametrize("name", [*NARROW, "RGB", "CMYK"])
def test_the_check_that_the_docs_give_holds_for_every_kind_of_picture(tmp_path, monkeypatch, name):
    check = docs_check()
    photo = tmp_path / "photo.png"
    picture = NARROW.get(name) or Pillow.fromarray(noise(*SHAPE, 3)).convert(name)
    picture.save(photo, "TIFF" if name == "CMYK" else "PNG")  # whatever it is called, it is read as it is
    source = read_picture(photo)
    monkeypatch.chdir(tmp_path)
    painted, mask = with_color(source, (10, 200, 30))
    for result, support in ((painted, mask), (source.image, np.zeros(SHAPE, bool))):
        write_result(source, result, tmp_path / "photo-repaired")
        write_mask(source, support, tmp_path / "photo-support.png")
        exec(check, {})
    write_result(source, painted, tmp_path / "photo-repaired")
    with pytest.raises(AssertionError):
        exec(check, {})


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_the_check_that_the_docs_give_holds_for_pictures_on_their_side(tmp_path, monkeypatch, form):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    lossless = {"lossless": True} if form == "WEBP" else {}
    source = read_picture(saved(tmp_path / "photo.png", noise(*SHAPE, 3), format=form, exif=exif, **lossless))
    monkeypatch.chdir(tmp_path)
    result, support = repaired(source)
    write_result(source, result, tmp_path / "photo-repaired")
    write_mask(source, support, tmp_path / "photo-support.png")
    exec(docs_check(), {})


def test_new_colors_take_the_places_in_a_palette_that_nobody_needs(tmp_path):
    full = Pillow.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    full.putpalette(noise(256, 3, seed=3).tobytes())
    full.save(tmp_path / "in.png")
    source = read_picture(tmp_path / "in.png")
    result = source.image.copy()
    result[4, 4] = (1, 2, 3)
    out = write_result(source, result, tmp_path / "out")
    before, after = (np.array(Pillow.open(path)) for path in (tmp_path / "in.png", out))
    assert Pillow.open(out).mode == "P" and np.array_equal(before, after), "68 was that pixel's alone"
    assert np.array_equal(read_picture(out).image, result)
    result[5, 5] = source.image[6, 6]
    after = np.array(Pillow.open(write_result(source, result, tmp_path / "out")))
    assert after[5, 5] == after[6, 6] == 102


def test_a_format_without_gray_says_so(tmp_path):
    NARROW["L"].save(tmp_path / "in.png")
    source = read_picture(tmp_path / "in.png")
    assert (
        "is gray and the result RGB: webp holds no such pictures"
        in what_is_lost(source, source.image, "webp")[0]
    )
    assert Pillow.open(write_result(source, source.image, tmp_path / "out", "jpeg")).mode == "L"
    NARROW["transparent P"].save(tmp_path / "in.png")
    source = read_picture(tmp_path / "in.png")
    assert "tiff holds no such pictures" in what_is_lost(source, source.image, "tiff")[0]
    out = write_result(source, source.image, tmp_path / "out", "tiff")
    assert np.array_equal(decoded(out), decoded(tmp_path / "in.png"))


@pytest.mark.parametrize("name", ["1", "L", "LA", "P"])
def test_tiff_holds_them_as_png_does(tmp_path, name):
    NARROW[name].save(tmp_path / "in.png")
    source = read_picture(tmp_path / "in.png")
    out = write_result(source, source.image, tmp_path / "out", "tiff")
    assert Pillow.open(out).mode == name and what_is_lost(source, source.image, "tiff") == ()
    assert np.array_equal(decoded(out), decoded(tmp_path / "in.png"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "RGB", "RGBA"])
def test_a_tiff_of_any_kind_gives_a_tiff_that_opens(tmp_path, mode):
    image = Pillow.fromarray(noise(*SHAPE, 3)).convert(mode)
    image.save(tmp_path / "in.tif", compression="tiff_lzw", dpi=(72, 72), exif={ARTIST: "somebody"})
    source = read_picture(tmp_path / "in.tif")
    colored = source.image.copy()
    colored[1:3, 1:3] = (200, 10, 30)
    for number, result in enumerate((source.image, colored)):
        out = write_result(source, result, tmp_path / f"out-{number}", "tiff")
        with Pillow.open(out) as written:
            assert written.getexif()[ARTIST] == "somebody" and written.info["dpi"] == (72, 72)
            assert source.layers is not None or np.array_equal(np.asarray(written.convert("RGB")), result)


@pytest.mark.parametrize("dots", [(0, 0), (1, 0)])
def test_a_resolution_that_is_none_is_left_out(tmp_path, dots):
    tags = ImageFileDirectory_v2()
    tags[282] = tags[283] = IFDRational(*dots)
    Pillow.fromarray(noise(*SHAPE, 3)).save(tmp_path / "in.tif", tiffinfo=tags)
    source = read_picture(tmp_path / "in.tif")
    for form in ("png", "tiff"):
        out = write_result(source, source.image, tmp_path / "out", form)
        assert np.array_equal(decoded(out), decoded(tmp_path / "in.tif"))


def test_cmyk_becomes_rgb_with_a_note(tmp_path):
    Pillow.fromarray(noise(*SHAPE, 3)).convert("CMYK").save(tmp_path / "in.jpg")
    source = read_picture(tmp_path / "in.jpg")
    assert "is CMYK and the result RGB" in what_is_lost(source, source.image)[0]


@pytest.mark.parametrize("form", ["gif", "tiff", "webp", "png"])
def test_further_frames_are_left_out_with_one_line(tmp_path, form):
    frames = [Pillow.fromarray(noise(*SHAPE, 3, seed=i)) for i in range(3)]
    path = tmp_path / f"in.{form}"
    frames[0].save(
        path, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "webp" else {})
    )
    (told,) = read_picture(path).notes
    assert told == f"{path} has 3 frames: the first is repaired, and the result has no other"
    frames[0].save(tmp_path / f"one.{form}")
    assert read_picture(tmp_path / f"one.{form}").notes == ()


def test_a_format_that_cannot_hold_the_picture_is_refused_beforehand(tmp_path):
    long = read_picture(saved(tmp_path / "long.png", np.zeros((2, 16_384, 3), np.uint8)))
    with pytest.raises(InvalidInput, match="16384x2 pixels, and webp holds 16,383 a side"):
        check_format(long, "webp")
    for form in ("png", "tiff", "jpeg"):
        check_format(long, form)
    with pytest.raises(InvalidInput, match="transparency, which JPEG cannot keep"):
        check_format(read_picture(saved(tmp_path / "clear.png", noise(*SHAPE, 4))), "jpeg")


def test_sixteen_bits_become_eight_with_a_note(tmp_path):
    path = saved(tmp_path / "in.png", np.arange(54, dtype=np.uint16).reshape(SHAPE) * 1000)
    source = read_picture(path)
    assert "8 bits" in source.notes[0]
    assert Pillow.open(write_result(source, source.image, tmp_path / "out")).mode == "L"
    assert what_is_lost(source, source.image) == ()
