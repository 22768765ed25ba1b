"""Picture files as people have them: each is read right, or refused in one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from contracts.errors import InvalidInput
from defender.image_files import image_files, read_image


def saved(path, picture, **options):
    picture.save(path, **options)
    return path


@pytest.fixture
def color():
    return np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)


def test_rgb_comes_back(tmp_path, color):
    assert np.array_equal(read_image(saved(tmp_path / "a.png", Image.fromarray(color))), color)


def test_cmyk_palette_gray_and_one_bit(tmp_path, color):
    picture = Image.fromarray(color)
    jpeg = read_image(saved(tmp_path / "a.jpg", Image.new("CMYK", (20, 12), (0, 255, 255, 0)), quality=95))
    assert jpeg.shape == (12, 20, 3) and jpeg[..., 0].min() > 200 > 60 > jpeg[..., 1:].max()
    palette = picture.quantize(16)
    ours = read_image(saved(tmp_path / "p.png", palette))
    assert np.array_equal(ours, np.asarray(palette.convert("RGB")))
    assert read_image(saved(tmp_path / "l.png", Image.new("L", (3, 2), 7))).tolist() == [[[7] * 3] * 3] * 2
    assert read_image(saved(tmp_path / "1.png", Image.new("1", (3, 2), 1))).min() == 255


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    wide = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    ours = read_image(saved(tmp_path / "a.png", Image.fromarray(wide)))
    assert ours[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparency_lies_on_white(tmp_path):
    ours = read_image(saved(tmp_path / "a.png", Image.new("RGBA", (1, 1), (0, 0, 0, 0))))
    assert ours.tolist() == [[[255, 255, 255]]]


def test_rotation_of_the_camera_is_undone(tmp_path, color):
    exif = Image.Exif()
    exif[0x0112] = 6  # the picture was taken with the camera turned
    ours = read_image(saved(tmp_path / "a.png", Image.fromarray(color), exif=exif))
    assert np.array_equal(ours, np.rot90(color, -1))


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), name) for name in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert read_image(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (20000, 10)])
def test_extreme_sizes(tmp_path, size):
    assert read_image(saved(tmp_path / "a.png", Image.new("RGB", size))).shape == (size[1], size[0], 3)


def png_claiming(width, height):
    """A header that promises much, with hardly any data behind it."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def jpeg_cut_short():
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole, "JPEG")
    return whole.getvalue()[:900]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"just words", "cannot be read"),
        (b"", "cannot be read"),
        (jpeg_cut_short(), "cannot be read"),
        (png_claiming(60_000, 60_000), "too many pixels"),
        (png_claiming(20_000, 5_000), "20000x5000"),
        (png_claiming(8, 8), "cannot be read"),
    ],
    ids=["text", "empty", "cut short", "bomb", "too large", "no data"],
)
def test_broken_files_are_refused_in_one_line(tmp_path, content, told):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InvalidInput, match=told) as caught:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"])
def test_flipped_bytes_are_read_or_refused_but_nothing_else(tmp_path, form, color):
    whole = io.BytesIO()
    Image.fromarray(color).save(whole, form)
    rng = np.random.default_rng(0)
    for _ in range(40):
        broken = np.frombuffer(whole.getvalue(), np.uint8).copy()
        broken[rng.integers(0, min(len(broken), 300), 5)] = rng.integers(0, 256, 5)
        (tmp_path / "a").write_bytes(broken.tobytes())
        try:
            assert read_image(tmp_path / "a").dtype == np.uint8
        except InvalidInput as error:
            assert "\n" not in str(error)


def test_whatever_a_decoder_raises_is_one_line(tmp_path, monkeypatch):
    def stumble(path):
        raise RuntimeError("Failed to decode image: Missing or empty image item")

    monkeypatch.setattr("defender.image_files.PILImage.open", stumble)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_image(tmp_path / "a.avif")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InvalidInput, match="does not exist"):
        read_image(tmp_path / "a.png")
    with pytest.raises(InvalidInput, match="not a folder"):
        image_files(tmp_path / "none")


def test_pictures_of_a_folder_are_sorted(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    assert [path.name for path in image_files(tmp_path)] == ["a.png", "b.JPG"]
