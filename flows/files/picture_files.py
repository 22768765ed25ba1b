"""Picture files as they came and as they go back: a repaired picture keeps what the loop never looks at.

The loop works on upright RGB pixels. A file may also have transparency, an orientation, a color profile and
notes, and be gray, black and white or of a palette; all of that is put back around the result, in the file's
own orientation, as far as it holds what was painted. What is lost is said in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

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
LONGEST_SIDE: Mapping[str, int] = {"webp": 16_383, "jpeg": 65_500}
"""Pixels that a side may have in formats that set a limit."""
_NARROW: Mapping[str, tuple[str, ...]] = {
    "png": ("1", "L", "LA", "P", "transparent P"),
    "webp": (),
    "tiff": ("1", "L", "LA", "P"),
    "jpeg": ("L",),
}
"""Modes besides RGB and RGBA that a format holds."""
_FAMILIES: Mapping[str, str] = {"LA": "L", "RGBA": "RGB", "RGBX": "RGB"}
"""Modes that differ from another one by transparency alone."""
_CALLED: Mapping[str, str] = {"1": "black and white", "L": "gray", "P": "in palette colors"}

PALETTE = 256
"""Colors a palette has at most."""

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
    mode: str = "RGB"
    """Pillow's name of how the file holds colors, of its 8-bit form."""
    indexes: NDArray[np.uint8] | None = None
    """(H, W) upright positions in the palette, if it has one."""

    @property
    def family(self) -> str:
        """The mode, transparency left out."""
        return _FAMILIES.get(self.mode, self.mode)

    @property
    def unseen(self) -> Mask | None:
        """(H, W): fully transparent pixels, which no repair may touch."""
        return None if self.layers is None else self.layers[..., 3] == 0


STRUCTURE = frozenset(
    (*range(254, 267), 273, *range(277, 285), *range(288, 294), 296, *range(317, 326))
    + (330, 332, 333, 334, *range(336, 348), *range(512, 533), 34675)
)
"""Tags of a TIFF that say how its own pixels are stored, at which resolution and in which colors: the
result's are others. Pillow hands them out among the notes."""


def read_picture(path: Path) -> PictureFile:
    """Decode a picture file. Raises InvalidInput as `read_image` does."""
    image = read_image(path)
    with Pillow.open(path) as file:
        mode, info = file.mode, dict(file.info)
        deep = mode.startswith(("I", "F")) or any(";16" in str(tile[-1]) for tile in file.tile)
        exif = file.getexif()
        orientation = int(exif.get(ORIENTATION, 1))
        upright = ImageOps.exif_transpose(file)
        for tag in STRUCTURE.intersection(exif):
            del exif[tag]
        layers = np.array(upright.convert("RGBA")) if file.has_transparency_data else None
        indexes = np.array(upright) if mode == "P" else None
        extras: dict[str, Any] = {"exif": exif.tobytes()} if len(exif) else {}
        text = dict(getattr(file, "text", {}) or {})
        frames = _frames(file)
    notes = []
    if deep:
        notes.append(f"{path} has more than 8 bits per channel: the result has 8")
    if frames > 1:
        notes.append(f"{path} has {frames} frames: the first is repaired, and the result has no other")
    if info.get("icc_profile"):
        extras["icc_profile"] = info["icc_profile"]
    if info.get("dpi") and all(0 < float(number) < math.inf for number in info["dpi"]):
        extras["dpi"] = info["dpi"]
    if text:
        extras["text"] = {key: str(value) for key, value in text.items()}
    mode = "L" if mode.startswith(("I", "F")) else mode
    return PictureFile(path, image, layers, orientation, extras, tuple(notes), mode, indexes)


def check_format(source: PictureFile, form: str) -> None:
    """Raises InvalidInput if a result of this picture cannot be written in the format."""
    if form == "jpeg" and source.layers is not None:
        raise InvalidInput(f"{source.path} has transparency, which JPEG cannot keep: choose --format png")
    height, width = source.image.shape[:2]
    most = LONGEST_SIDE.get(form)
    if most is not None and max(height, width) > most:
        raise InvalidInput(
            f"{source.path} has {width}x{height} pixels, and {form} holds {most:,} a side: "
            "choose --format png"
        )


def write_result(
    source: PictureFile,
    result: Image,
    path: Path,
    form: str = "png",
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write a repaired (H, W, 3) picture with the source's transparency, orientation, profile and notes, and,
    in a PNG, with further notes, which take the place of the source's of the same name.

    Pixels that `result` has in common with `source.image` are written as the source file has them; gray,
    black-and-white and palette pictures stay what they are if that loses nothing (`what_is_lost`). Returns
    the path with the format's ending. Raises InvalidInput as `check_format` does.
    """
    check_format(source, form)
    ending, options = FORMATS[form]
    path = path.with_name(path.name + ending)
    text = {**source.extras.get("text", {}), **(notes or {})} if form == "png" else {}
    picture = _colored(source, result, form)
    _save(picture, source, path, form, options, text)
    return path


def what_is_lost(source: PictureFile, result: Image, form: str = "png") -> tuple[str, ...]:
    """What the file that `write_result` writes is not, though its source is, in words."""
    picture = _colored(source, result, form)
    was, now = (_CALLED.get(family, family) for family in (source.family, _family(picture)))
    words = []
    if was != now:
        words.append(f"{source.path} is {was} and the result {now}: {_why(source, form)}")
    if "icc_profile" in source.extras and not _keeps_profile(source, picture):
        words.append(f"{source.path} has a color profile that is not {now}: the result has none")
    return tuple(words)


def _why(source: PictureFile, form: str) -> str:
    """Why a result is not of its source's mode."""
    if source.family not in _CALLED:
        return "painters paint RGB"
    clear = "transparent " if source.mode == "P" and source.layers is not None else ""
    held = clear + source.mode in _NARROW[form]
    return "what was painted needs more colors" if held else f"{form} holds no such pictures"


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


def _colored(source: PictureFile, result: Image, form: str) -> Pillow.Image:
    """The result in the file's own orientation and, where that loses nothing, its own mode; else RGB or
    RGBA."""
    pixels = result if source.layers is None else _with_transparency(source.image, source.layers, result)
    narrow = _narrowed(source, pixels, _NARROW[form])
    picture = Pillow.fromarray(_turned_back(pixels if narrow is None else narrow.pixels, source.orientation))
    if narrow is not None and narrow.palette is not None:
        picture.putpalette(narrow.palette[:, :3].tobytes())
        if source.layers is not None:
            picture.info["transparency"] = narrow.palette[:, 3].tobytes()
    return picture


class _Narrow(NamedTuple):
    """Upright pixels in fewer channels than RGB has."""

    pixels: Pixels
    palette: NDArray[np.uint8] | None = None
    """(N, 3 or 4) colors."""


def _narrowed(source: PictureFile, pixels: NDArray[np.uint8], held: Sequence[str]) -> _Narrow | None:
    """Upright (H, W, 3 or 4) pixels in the source's own mode; None if it, or the format, cannot hold them."""
    if source.indexes is not None:
        wanted = "P" if source.layers is None else "transparent P"
        return _indexed(source, source.indexes, pixels) if wanted in held else None
    if source.family not in ("1", "L") or (pixels[..., :3] != pixels[..., :1]).any():
        return None
    gray = pixels[..., 0]
    if source.layers is not None:
        return _Narrow(pixels[..., [0, 3]]) if "LA" in held else None
    if source.family == "1" and "1" in held and np.isin(gray, (0, 255)).all():
        return _Narrow(gray == 255)
    return _Narrow(np.ascontiguousarray(gray)) if "L" in held else None


def _indexed(source: PictureFile, indexes: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> _Narrow | None:
    """What did not change keeps its place in the palette, new colors take the places that nobody needs; None
    if there are too few."""
    before = source.image if source.layers is None else source.layers
    changed = (before != pixels).any(axis=-1)
    palette = np.zeros((PALETTE, pixels.shape[2]), dtype=np.uint8)
    palette[indexes] = before
    used = np.unique(indexes[~changed])
    places = {palette[i].tobytes(): i for i in used}
    free = iter(sorted(set(range(PALETTE)) - set(used.tolist())))
    colors, which = np.unique(pixels[changed], axis=0, return_inverse=True)
    chosen = np.zeros(len(colors), dtype=np.uint8)
    for number, color in enumerate(colors):
        place = places.get(color.tobytes())
        if place is None and (place := next(free, None)) is None:
            return None
        chosen[number], palette[place] = place, color
    result = indexes.copy()
    result[changed] = chosen[which.ravel()]
    return _Narrow(result, palette[: int(result.max(initial=0)) + 1])


def _family(picture: Pillow.Image) -> str:
    return _FAMILIES.get(picture.mode, picture.mode)


def _keeps_profile(source: PictureFile, picture: Pillow.Image) -> bool:
    """A profile of gray or CMYK says nothing about RGB pixels, and one of RGB nothing about gray."""
    family = _family(picture)
    wanted = b"GRAY" if family in ("1", "L") else b"RGB "
    return bool(source.extras["icc_profile"][16:20] == wanted) or family == source.family


def _frames(file: Pillow.Image) -> int:
    """Frames or pages of an open file."""
    try:
        return int(getattr(file, "n_frames", 1))
    except Exception:  # the first one could be read, and broken bytes after it are nobody's concern here
        return 1


def _save(
    picture: Pillow.Image,
    source: PictureFile,
    path: Path,
    form: str,
    options: Mapping[str, Any],
    text: Mapping[str, str],
) -> None:
    extras = {key: value for key, value in source.extras.items() if key in ("exif", "dpi")}
    if "icc_profile" in source.extras and _keeps_profile(source, picture):
        extras["icc_profile"] = source.extras["icc_profile"]
    if text:
        extras["pnginfo"] = PngInfo()
        for key, value in text.items():
            extras["pnginfo"].add_itxt(key, value)
    picture.save(path, form.upper(), **options, **extras)
