"""Pictures for people: overlays of findings, enlarged copies and data URIs. Pillow and numpy only."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter, ImageFont

from contracts.records import Finding, Image, Mask

COLORS = ((230, 85, 13), (0, 114, 178), (204, 51, 135), (0, 135, 90), (117, 76, 190), (150, 110, 0))
"""Of the first findings: dark enough for white text, and apart for color-blind eyes too."""
GOLDEN = (5**0.5 - 1) / 2
"""Turns of the color wheel between further colors: no two are close for long."""

SHOWN_AT_LEAST, SHOWN_AT_MOST = 256, 1024
"""Pixels of the longer side in the report: small pictures are enlarged smoothly, large ones reduced."""


def color_of(number: int) -> tuple[int, int, int]:
    """RGB color of finding `number`, counted from 1; no two of the first 255 are the same."""
    if number <= len(COLORS):
        return COLORS[number - 1]
    red, green, blue = colorsys.hls_to_rgb(number * GOLDEN % 1, 0.34 + 0.06 * (number % 3), 0.65)
    return round(255 * red), round(255 * green), round(255 * blue)


def web_color(number: int) -> str:
    """`color_of` as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*color_of(number))


def shown_size(width: int, height: int) -> tuple[int, int]:
    """Size at which a picture goes into the report, aspect kept."""
    longer = max(width, height)
    factor = min(max(longer, SHOWN_AT_LEAST), SHOWN_AT_MOST) / longer
    return max(1, round(width * factor)), max(1, round(height * factor))


def shown(image: Image) -> Pillow.Image:
    """A (H, W, 3) picture at the size of the report, smoothly resampled."""
    picture = Pillow.fromarray(image)
    return picture.resize(shown_size(*picture.size), Pillow.Resampling.LANCZOS)


def shrunk(image: Image, findings: Sequence[Finding], longest: int) -> tuple[Image, list[Finding]]:
    """A picture and its findings with the longer side at most `longest`; a mask keeps one pixel at least."""
    height, width = image.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return image, list(findings)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.LANCZOS))
    return small, [replace(finding, mask=_shrunk_mask(finding.mask, size)) for finding in findings]


def mask_overlay(
    masks: Sequence[Mask], size: tuple[int, int], colors: Sequence[int] | None = None
) -> Pillow.Image:
    """Masks, each (H, W) bool, tinted and outlined on a transparent RGBA picture of size (width, height).
    Each has the color of its position, counted from 1, unless `colors` has other numbers for `color_of`."""
    canvas = Pillow.new("RGBA", size, (0, 0, 0, 0))
    reach = 1 + 2 * max(1, round(_drawn_for(size) / 192))
    for mask, color in zip(masks, colors or range(1, len(masks) + 1), strict=True):
        soft = _smooth(mask, size)
        alpha = np.maximum(soft * 0.4, _outline(soft, reach))
        layer = np.zeros((size[1], size[0], 4), dtype=np.uint8)
        layer[..., :3] = color_of(color)
        layer[..., 3] = (alpha * 255).round().astype(np.uint8)
        canvas = Pillow.alpha_composite(canvas, Pillow.fromarray(layer))
    return canvas


def marked(image: Image, findings: Sequence[Finding], colors: Sequence[int] | None = None) -> Pillow.Image:
    """The picture at report size with every finding tinted, outlined and numbered, in colors as
    `mask_overlay` has them. RGB."""
    colors = colors or range(1, len(findings) + 1)
    picture = shown(image).convert("RGBA")
    picture = Pillow.alpha_composite(picture, mask_overlay([f.mask for f in findings], picture.size, colors))
    draw = ImageDraw.Draw(picture)
    radius = max(9, round(_drawn_for(picture.size) / 26))
    font = ImageFont.load_default(size=round(radius * 1.25))
    for number, (finding, color) in enumerate(zip(findings, colors, strict=True), start=1):
        across, down = anchor(finding.mask)
        x, y = across * picture.width, down * picture.height
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(
            box, fill=(*color_of(color), 255), outline=(255, 255, 255, 255), width=max(1, radius // 6)
        )
        draw.text((x, y), str(number), fill=(255, 255, 255, 255), font=font, anchor="mm")
    return picture.convert("RGB")


def anchor(mask: Mask) -> tuple[float, float]:
    """Where a finding's number goes, as shares of width and height: the mask's pixel nearest its middle."""
    rows, columns = np.nonzero(mask)
    if rows.size == 0:
        return 0.5, 0.5
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    across, down = (columns[nearest] + 0.5) / mask.shape[1], (rows[nearest] + 0.5) / mask.shape[0]
    return float(np.clip(across, 0.06, 0.94)), float(np.clip(down, 0.06, 0.94))


def webp_uri(picture: Pillow.Image, quality: int = 90) -> str:
    """The picture as a `data:` URI; WebP, because it keeps transparency and is a tenth of the PNG."""
    return _uri(_encoded(picture, "WEBP", quality), "image/webp")


def thumbnail_uri(picture: Pillow.Image, limit: int = 64 * 1024) -> str:
    """A JPEG `data:` URI of at most `limit` characters: smaller and coarser until it fits."""
    for side, quality in ((256, 88), (224, 80), (192, 72), (160, 64), (96, 50), (48, 40)):
        small = picture.convert("RGB")
        small.thumbnail((side, side), Pillow.Resampling.LANCZOS)
        uri = _uri(_encoded(small, "JPEG", quality), "image/jpeg")
        if len(uri) <= limit:
            break
    return uri


def _encoded(picture: Pillow.Image, form: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=quality)
    return buffer.getvalue()


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _drawn_for(size: tuple[int, int]) -> int:
    """The side that lines and numbers are drawn for: those for a panorama's length would hide its height."""
    return min(max(size), 4 * min(size))


def _shrunk_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    share = Pillow.fromarray(mask.astype(np.uint8) * 255).resize(size, Pillow.Resampling.BOX)
    soft = np.asarray(share)
    return np.asarray(soft >= min(128, max(1, soft.max(initial=0))))


def _smooth(mask: Mask, size: tuple[int, int]) -> np.ndarray:
    """The mask at `size`, float 0..1, with stairs rounded off and a soft edge."""
    picture = Pillow.fromarray(mask.astype(np.float32) * 255.0)
    enlarged = np.asarray(picture.resize(size, Pillow.Resampling.BICUBIC), dtype=np.float32) / 255.0
    return np.asarray(np.clip((enlarged - 0.5) * 3.0 + 0.5, 0.0, 1.0))


def _outline(soft: np.ndarray, reach: int) -> np.ndarray:
    """A line along the border of a soft (H, W) mask, `reach` pixels wide (odd), 0..1."""
    picture = Pillow.fromarray((soft * 255).astype(np.uint8))
    outer = np.asarray(picture.filter(ImageFilter.MaxFilter(reach)), dtype=np.float32)
    inner = np.asarray(picture.filter(ImageFilter.MinFilter(reach)), dtype=np.float32)
    return np.asarray((outer - inner) / 255.0)
