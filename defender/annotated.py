"""Two annotated benchmarks that LEGION is evaluated on, beside SynthScars: LOKI and RichHF-18K."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from contracts.errors import InvalidInput
from contracts.records import Box, Finding, Mask
from defender.answers import UNNAMED
from defender.categories import categorize
from defender.datasets import Sample
from defender.image_files import read_image
from defender.polygons import mask_of_boxes

HEAT = 0.5
"""A pixel of RichHF-18K's artifact map counts from this share of full heat; the paper does not say."""


# ---- LOKI


@dataclass(frozen=True)
class _Region:
    box: Box
    explanation: str


class Loki:
    """LOKI's images with boxed abnormalities (arXiv 2410.09732).

    A JSON list of {"image_path", "problems": {"regional": [{"region": [x, y, width, height], "desc"}]}}, in
    UTF-16 as published or UTF-8. Boxes include their last row and column, as LEGION's evaluation fills them.
    """

    def __init__(self, annotations: Path, images: Path) -> None:
        """`images` is the folder that image_path starts from. Raises InvalidInput on another schema."""
        self.rows: list[tuple[Path, tuple[_Region, ...]]] = []
        for number, item in enumerate(_read_list(annotations)):
            try:
                path = _inside(images, item["image_path"])
                found = (item.get("problems") or {}).get("regional") or []
                self.rows.append((path, tuple(_region(value) for value in found)))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InvalidInput(
                    f"{annotations}: row {number} is not in LOKI's schema ({error})"
                ) from error

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Raises InvalidInput if the picture cannot be read."""
        path, regions = self.rows[index]
        image = read_image(path)
        masks = [mask_of_boxes([region.box], (image.shape[0], image.shape[1])) for region in regions]
        findings = tuple(
            Finding(mask, UNNAMED, region.explanation, categorize("", region.explanation), 1.0)
            for region, mask in zip(regions, masks, strict=True)
            if mask.any()
        )
        return Sample(image, findings, False)

    def name(self, index: int) -> str:
        """The file's name."""
        return self.rows[index][0].name


def _region(value: Any) -> _Region:
    x, y, width, height = map(float, value["region"])
    box = Box(int(x), int(y), int(x + width) + 1, int(y + height) + 1)
    return _Region(box, str(value.get("desc") or "").strip())


def _read_list(path: Path) -> list[Any]:
    try:
        raw = path.read_bytes()
        wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        values = json.loads(raw.decode("utf-16" if wide else "utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} is not readable JSON ({error}): get the data set again") from error
    if not isinstance(values, list):
        raise InvalidInput(f"{path} must hold a list of rows")
    return values


# ---- RichHF-18K


@dataclass(frozen=True)
class _Rated:
    name: str
    heat: bytes
    """The artifact map as an encoded gray picture."""


class RichHF:
    """RichHF-18K's test or training pictures with artifact heat maps (arXiv 2312.10240).

    The published TFRecord holds maps and the names of pictures of Pick-a-Pic, which have to be there. Where
    heat is at least `threshold` of its full value is one finding, without a name or a reason.
    """

    def __init__(self, records: Path, images: Path, threshold: float = HEAT) -> None:
        """Raises InvalidInput where the file is not a whole TFRecord of RichHF-18K."""
        if not 0 < threshold <= 1:
            raise InvalidInput(f"the heat threshold is {threshold}: choose a number above 0, up to 1")
        self.images, self.threshold = images, threshold
        self.rows: list[_Rated] = []
        for number, record in enumerate(read_tfrecord(records)):
            try:
                features = read_example(record)
                name = features["filename"].decode()
                _inside(images, name)
                self.rows.append(_Rated(name, features["artifact_map"]))
            except (KeyError, ValueError, IndexError) as error:
                raise InvalidInput(f"{records}: record {number} is not of RichHF-18K ({error})") from error

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Raises InvalidInput if the picture or its map cannot be read."""
        row = self.rows[index]
        image = read_image(_inside(self.images, row.name))
        mask = self._mask(row, (image.shape[0], image.shape[1]))
        finding = Finding(mask, UNNAMED, "", categorize("", ""), 1.0)
        return Sample(image, (finding,) if mask.any() else (), False)

    def name(self, index: int) -> str:
        """The picture's name in Pick-a-Pic."""
        return self.rows[index].name

    def _mask(self, row: _Rated, shape: tuple[int, int]) -> Mask:
        try:
            with PILImage.open(io.BytesIO(row.heat)) as picture:
                heat = picture.convert("L").resize(shape[::-1], PILImage.Resampling.BILINEAR)
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise InvalidInput(
                f"the artifact map of {row.name} cannot be read: get the data again"
            ) from error
        mask: Mask = np.asarray(heat) >= self.threshold * 255
        return mask


def read_tfrecord(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: each a length, a checksum, the data and another checksum.

    Raises InvalidInput if the file is missing or cut short. The checksums are not compared.
    """
    try:
        with path.open("rb") as file:
            while head := file.read(12):
                length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else -1
                data = file.read(length) if 0 <= length <= 1 << 30 else b""
                if len(data) != length or len(file.read(4)) != 4:
                    raise InvalidInput(f"{path} is cut short or not a TFRecord: get it again")
                yield data
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from error


def read_example(record: bytes) -> dict[str, bytes]:
    """The features of a tf.train.Example that hold bytes: the first value of each.

    Raises ValueError or IndexError if the message is malformed.
    """
    found = {}
    for features in _fields(record, 1):
        for entry in _fields(features, 1):
            name = next(_fields(entry, 1), b"").decode()
            for feature in _fields(entry, 2):
                for values in _fields(feature, 1):
                    found[name] = next(_fields(values, 1), b"")
    return found


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """Values of one length-delimited field of a protocol buffer; others are stepped over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a message is cut short")
            if tag >> 3 == wanted:
                yield message[at : at + length]
            at += length
        else:
            raise ValueError("not a protocol buffer")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("not a protocol buffer")


def _inside(folder: Path, name: Any) -> Path:
    relative = Path(str(name))
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{name} lies outside the data set")
    return folder / relative
