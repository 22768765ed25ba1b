"""Picture files of any kind into uint8 RGB, or one clear line that says why not."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps

from contracts.errors import InvalidInput
from contracts.records import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif")
"""Endings of picture files in a folder, in any case."""
MAX_PIXELS = 64_000_000
"""A file that claims more is not decoded: it would fill the memory."""


def read_image(path: Path) -> Image:
    """A picture as uint8 (H, W, 3) RGB: upright, first frame, transparency on white, 16 bit scaled to 8.

    Raises InvalidInput on a file that is missing, damaged, cut short, too large or not a picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow merely warns of is decided here
            with PILImage.open(path) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise InvalidInput(
                        f"image {path} has {file.width}x{file.height} pixels: use a smaller copy"
                    )
                return _to_rgb(ImageOps.exif_transpose(file))
    except FileNotFoundError as error:
        raise InvalidInput(f"image {path} does not exist") from error
    except InvalidInput:
        raise
    except PILImage.DecompressionBombError as error:
        raise InvalidInput(f"image {path} has too many pixels: use a smaller copy") from error
    except Exception as error:  # on broken bytes each of the decoders raises what it stumbles over
        raise InvalidInput(f"image {path} cannot be read: not a picture file, or a broken one") from error


def image_files(folder: Path) -> list[Path]:
    """Picture files directly in a folder, sorted by name. Raises InvalidInput if there is no such folder."""
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder")
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _to_rgb(picture: PILImage.Image) -> Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        wide = np.asarray(picture).astype(np.float64)
        # Pillow would cut 16-bit values off at 255; a picture that holds only 8 bits in them stays as it is.
        gray = np.round(wide / 257 if wide.max(initial=0) > 255 else wide).clip(0, 255).astype(np.uint8)
        return np.stack([gray] * 3, axis=-1)
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        white = PILImage.new("RGBA", layered.size, "white")
        return np.array(PILImage.alpha_composite(white, layered).convert("RGB"))
    return np.array(picture.convert("RGB"))
