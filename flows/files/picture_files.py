"""Picture files as they came and as they go back: a repaired picture keeps what the loop never looks at.

The loop works on upright RGB pixels. A file may also have transparency, an orientation, a color profile and
notes; all of them are put back around the result, in the file's own orientation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps
from PIL.PngImagePlugin import PngInfo

from contracts.errors import InvalidInput
from contracts.records import Image, Mask
from defender.image_files import read_image

Pixels: TypeAlias = NDArray[Any]
ORIENTATION = 0x0112
"""The EXIF tag."""
_BACK: Mapping[int, Callable[[Pixels], Pixels]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: np.rot90,
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 3),
}
"""From upright to how a file of that orientation holds its pixels."""

FORMATS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "png": (".png", {}),
    "webp": (".webp", {"lossless": True, "exact": True}),
    "tiff": (".tiff", {"compression": "tiff_lzw"}),
    "jpeg": (".jpg", {"quality": 95, "subsampling": 0}),
}
"""Endings and options of the files a result can be written to. All but the last keep every pixel."""

BRIGHT = 128
GRAY_LEVELS = (40, 215)
MOST_GRAY = 0.25
"""A mask of which more than this share lies between the two levels is a picture given by mistake."""


@dataclass(frozen=True, eq=False)
class PictureFile:
    """A decoded picture with all that goes back into the result."""

    path: Path
    image: Image
    """(H, W, 3) upright, as one sees it: transparency on white."""
    layers: NDArray[np.uint8] | None
    """(H, W, 4) upright RGBA as decoded; None if the picture has no transparency."""
    orientation: int
    extras: Mapping[str, Any]
    """`exif`, `icc_profile`, `dpi` and `text`, as far as the file has them."""
    notes: tuple[str, ...] = ()
    """What cannot be kept, in words."""

    @property
    def unseen(self) -> Mask | None:
        """(H, W): fully transparent pixels, which no repair may touch."""
        return None if self.layers is None else self.layers[..., 3] == 0


def read_picture(path: Path) -> PictureFile:
    """Decode a picture file. Raises InvalidInput as `read_image` does."""
    image = read_image(path)
    with Pillow.open(path) as file:
        mode, info = file.mode, dict(file.info)
        exif = file.getexif()
        orientation = int(exif.get(ORIENTATION, 1))
        layers = None
        if file.has_transparency_data:
            layers = np.array(ImageOps.exif_transpose(file).convert("RGBA"))
        extras: dict[str, Any] = {"exif": exif.tobytes()} if len(exif) else {}
        text = dict(getattr(file, "text", {}) or {})
    notes = []
    if mode.startswith(("I", "F")):
        notes.append(f"{path} has more than 8 bits per channel: the result has 8")
    if "icc_profile" in info and info["icc_profile"]:
        # A profile of gray or CMYK says nothing about the RGB pixels that are written.
        if info["icc_profile"][16:20] == b"RGB ":
            extras["icc_profile"] = info["icc_profile"]
        else:
            notes.append(f"{path} has a color profile that is not RGB: the result has none")
    if "dpi" in info:
        extras["dpi"] = info["dpi"]
    if text:
        extras["text"] = {key: str(value) for key, value in text.items()}
    return PictureFile(path, image, layers, orientation, extras, tuple(notes))


def write_result(
    source: PictureFile,
    result: Image,
    path: Path,
    form: str = "png",
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write a repaired (H, W, 3) picture with the source's transparency, orientation, profile and notes, and,
    in a PNG, with further notes, which take the place of the source's of the same name.

    Pixels that `result` has in common with `source.image` are written as the source file has them. Returns
    the path with the format's ending. Raises InvalidInput for transparency in a format that has none.
    """
    ending, options = FORMATS[form]
    if form == "jpeg" and source.layers is not None:
        raise InvalidInput(f"{source.path} has transparency, which JPEG cannot keep: choose --format png")
    pixels = result if source.layers is None else _with_transparency(source.image, source.layers, result)
    text = {**source.extras.get("text", {}), **(notes or {})} if form == "png" else {}
    return _save(pixels, source, path.with_name(path.name + ending), form, options, text)


def write_layer(source: PictureFile, layer: Pixels, path: Path) -> Path:
    """Write upright (H, W) values, uint8 or uint16, as gray PNG oriented as the source file is; the path."""
    exif = {"exif": source.extras["exif"]} if "exif" in source.extras else {}
    Pillow.fromarray(_turned_back(layer, source.orientation)).save(path, "PNG", **exif)
    return path


def write_mask(source: PictureFile, mask: Mask, path: Path) -> Path:
    """Write an upright (H, W) mask as 8-bit gray, 255 inside, oriented as the source file is; the path."""
    return write_layer(source, mask.astype(np.uint8) * 255, path)


def read_mask(path: Path, shape: tuple[int, int]) -> Mask:
    """A mask file for an upright picture of `shape` (H, W): white is inside, black and transparent outside.

    1 bit, gray, color and palette will do, with or without transparency; what is at least half bright in any
    channel counts as white. Raises InvalidInput for a file that cannot be read, another size, an empty mask,
    or a picture that is no mask.
    """
    try:
        read_image(path)  # with all its checks
    except InvalidInput as error:
        raise InvalidInput(f"the mask cannot be used: {error}") from error
    with Pillow.open(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith(("I", "F")):
            levels = np.asarray(picture, dtype=np.float64)
            levels = levels / (257 if levels.max(initial=0) > 255 else 1)
        else:
            black = Pillow.new("RGBA", picture.size, (0, 0, 0, 255))
            flat = Pillow.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
            levels = np.asarray(flat).max(axis=-1)
    if levels.shape != shape:
        raise InvalidInput(
            f"the mask {path} has {levels.shape[1]}x{levels.shape[0]} pixels and the picture "
            f"{shape[1]}x{shape[0]}: make them the same size"
        )
    between = (levels > GRAY_LEVELS[0]) & (levels < GRAY_LEVELS[1])
    if between.mean() > MOST_GRAY:
        raise InvalidInput(
            f"{path} looks like a picture, not a mask: paint white what is meant, the rest black"
        )
    mask = np.asarray(levels >= BRIGHT)
    if not mask.any():
        raise InvalidInput(f"the mask {path} is empty: paint white what is meant")
    return mask


def _with_transparency(before: Image, layers: NDArray[np.uint8], after: Image) -> NDArray[np.uint8]:
    """The layers with new color where `after` differs from `before`, both as seen on white."""
    changed = (before != after).any(axis=-1) & (layers[..., 3] > 0)
    share = layers[..., 3][changed].astype(np.float64)[:, None] / 255
    result = layers.copy()
    color = (after[changed] - 255 * (1 - share)) / share
    result[changed, :3] = np.round(color).clip(0, 255).astype(np.uint8)
    return result


def _turned_back(pixels: Pixels, orientation: int) -> Pixels:
    turn = _BACK.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _save(
    pixels: NDArray[np.uint8],
    source: PictureFile,
    path: Path,
    form: str,
    options: Mapping[str, Any],
    text: Mapping[str, str],
) -> Path:
    extras = {key: value for key, value in source.extras.items() if key != "text"}
    if text:
        extras["pnginfo"] = PngInfo()
        for key, value in text.items():
            extras["pnginfo"].add_itxt(key, value)
    picture = Pillow.fromarray(_turned_back(pixels, source.orientation))
    picture.save(path, form.upper(), **options, **extras)
    return path
