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
ORIENTATION, RESOLUTION, RESOLUTION_UNIT, XMP = 0x0112, (282, 283), 296, 700
"""EXIF tags; a resolution has one across and one down."""
PER_INCH: Mapping[int, float] = {2: 1.0, 3: 2.54}
"""By unit of a resolution in EXIF; with any other it says nothing of inches."""
XMP_TEXT = "XML:com.adobe.xmp"
"""The text of a PNG that holds what other formats keep as XMP."""
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
LOSSY = frozenset({"jpeg"})
"""Formats whose files do not decode to the pixels that were written."""
LONGEST_XMP: Mapping[str, int] = {"jpeg": 65_504}
"""Bytes of XMP in formats that set a limit."""
_IN_EXIF: Mapping[str, tuple[str, Callable[[Any], dict[int, Any]]]] = {
    "webp": ("dpi", lambda dots: {**dict(zip(RESOLUTION, dots, strict=True)), RESOLUTION_UNIT: 2}),
    "tiff": ("xmp", lambda xmp: {XMP: xmp}),
}
"""What Pillow writes in no other place of a format, and the tags that say it."""
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
    """`exif`, `icc_profile`, `dpi`, `xmp` and `text`, as far as the file has them."""
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
        if orientation != 1:  # turning a TIFF upright while it loads, Pillow takes the tag away from it
            exif[ORIENTATION] = orientation
        layers = np.array(upright.convert("RGBA")) if file.has_transparency_data else None
        indexes = np.array(upright) if mode == "P" else None
        extras = _extras(info, dict(getattr(file, "text", {}) or {}), exif)
        frames = _frames(file)
    notes = []
    if deep:
        notes.append(f"{path} has more than 8 bits per channel: the result has 8")
    if frames > 1:
        notes.append(f"{path} has {frames} frames: the first is repaired, and the result has no other")
    mode = "L" if mode.startswith(("I", "F")) else mode
    return PictureFile(path, image, layers, orientation, extras, tuple(notes), mode, indexes)


def _extras(info: Mapping[Any, Any], text: Mapping[str, str], exif: Pillow.Exif) -> dict[str, Any]:
    """`PictureFile.extras`, each thing in one place, wherever the file's format keeps it."""
    written = {key: str(value) for key, value in text.items() if key != XMP_TEXT}
    xmp = str(text[XMP_TEXT]).encode() if XMP_TEXT in text else info.get("xmp")
    dpi = _dots_per_inch(info, exif)
    moved = {XMP} if isinstance(xmp, bytes) else set()
    for tag in (STRUCTURE | moved).intersection(exif):
        del exif[tag]
    extras = {
        "exif": exif.tobytes() if len(exif) else None,
        "icc_profile": info.get("icc_profile"),
        "dpi": dpi,
        "xmp": xmp if moved else None,
        "text": written,
    }
    return {key: value for key, value in extras.items() if value}


def _dots_per_inch(info: Mapping[Any, Any], exif: Mapping[int, Any]) -> tuple[float, ...] | None:
    """Of x and y, as Pillow understands the file, or as its EXIF says; None if that is no resolution."""
    per_inch = PER_INCH.get(exif.get(RESOLUTION_UNIT, 2), 0.0)
    try:
        dots = tuple(map(float, info.get("dpi") or [float(exif[tag]) * per_inch for tag in RESOLUTION]))
    except (KeyError, TypeError, ValueError, ArithmeticError):  # EXIF may hold anything
        return None
    return dots if all(0 < number < math.inf for number in dots) else None


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
    picture = _colored(source, result, form)
    picture.save(path, form.upper(), **options, **_metadata(source, picture, form, notes or {}))
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
    if "text" in source.extras and not _holds(source, "text", form):
        names = ", ".join(sorted(source.extras["text"]))
        words.append(
            f"{source.path} has text notes ({names}), which {form} does not hold: the result has none"
        )
    if "xmp" in source.extras and not _holds(source, "xmp", form):
        words.append(f"{source.path} has XMP notes that are too long for {form}: the result has none")
    if form in LOSSY:
        words.append(
            f"{form} may change any pixel: that those of {source.path} outside the regions stay is proven of "
            f"the picture before compression, not of the {form} file"
        )
    return tuple(words)


def _holds(source: PictureFile, extra: str, form: str) -> bool:
    """Whether a result in the format holds this one of the source's extras, if there is one."""
    if extra == "text":
        return form == "png"
    return extra != "xmp" or len(source.extras.get("xmp", b"")) <= LONGEST_XMP.get(form, math.inf)


def _why(source: PictureFile, form: str) -> str:
    """Why a result is not of its source's mode."""
    if source.family not in _CALLED:
        return "painters paint RGB"
    clear = "transparent " if source.mode == "P" and source.layers is not None else ""
    held = clear + source.mode in _NARROW[form]
    return "what was painted needs more colors" if held else f"{form} holds no such pictures"


def write_layer(
    source: PictureFile, layer: Pixels, path: Path, colors: Sequence[tuple[int, int, int]] = ()
) -> Path:
    """Write upright (H, W) values, uint8 or uint16, as PNG oriented as the source file is; the path. It is
    gray, or where every value of a uint8 layer has its RGB color, a palette of those."""
    exif = {"exif": source.extras["exif"]} if "exif" in source.extras else {}
    picture = Pillow.fromarray(_turned_back(layer, source.orientation))
    if colors:
        picture.putpalette([level for color in colors for level in color])
    picture.save(path, "PNG", **exif)
    return path


def write_mask(source: PictureFile, mask: Mask, path: Path) -> Path:
    """Write an upright (H, W) mask as 8-bit gray, 255 inside, oriented as the source file is; the path."""
    return write_layer(source, mask.astype(np.uint8) * 255, path)


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


def _metadata(
    source: PictureFile, picture: Pillow.Image, form: str, notes: Mapping[str, str]
) -> dict[str, Any]:
    """Pillow's options that put what the format holds of the source's extras into the result's file."""
    extras = {key: value for key, value in source.extras.items() if _holds(source, key, form)}
    if "icc_profile" in extras and not _keeps_profile(source, picture):
        del extras["icc_profile"]
    if form == "png":
        extras["pnginfo"] = _png_text({**extras.pop("text", {}), **notes}, extras.pop("xmp", None))
    moved, tags = _IN_EXIF.get(form, ("", dict))
    if moved in extras:
        extras["exif"] = _with_tags(extras.get("exif", b""), tags(extras.pop(moved)))
    return extras


def _png_text(text: Mapping[str, str], xmp: bytes | None) -> PngInfo:
    info = PngInfo()
    for key, value in text.items():
        info.add_itxt(key, value)
    if xmp is not None:
        info.add_itxt(XMP_TEXT, xmp.decode("utf-8", "replace"))
    return info


def _with_tags(exif: bytes, tags: Mapping[int, Any]) -> bytes:
    full = Pillow.Exif()
    full.load(exif)
    full.update(tags)
    return full.tobytes()
