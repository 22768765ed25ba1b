"""Painters behind the OpenAI Images API: `images.generate` for pictures, `images.edit` for regions.

Many servers speak it. What one of them does not take (a seed, the form of the answer, a quality) is left out
after its first refusal. Nothing here needs torch, and no result is exact: a server may ignore the seed.
"""

from __future__ import annotations

import base64
import io
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image as Pillow

from contracts.errors import InvalidInput, ModelError
from contracts.records import GenerationRequest, Image, InpaintRequest, Mask
from servers.client import BadRequest, Server

log = logging.getLogger(__name__)
R = TypeVar("R", GenerationRequest, InpaintRequest)

AT_ONCE = 4
"""Calls that wait for an answer together."""
KEPT = 64
"""Pictures of failed calls that are kept for the next try, at most."""
MAX_SIDE = 8192
_OPTIONAL = ("seed", "response_format", "quality", "size")
_SAME_SHAPE = 0.02
"""By what share the sides' ratio of an answer may differ from what was asked for."""


@dataclass(frozen=True)
class RemoteImageSettings:
    """Which model, and how it paints."""

    model: str
    width: int | None = None
    height: int | None = None
    """Pixels; the server's own choice if not given, and 1024 for regions."""
    quality: str = ""


class _RemotePainter:
    """What generating and editing have in common. Safe to use from several threads."""

    def __init__(self, server: Server, settings: RemoteImageSettings) -> None:
        if (settings.width is None) != (settings.height is None):
            raise InvalidInput("give both width and height of the pictures, or neither")
        self.name = settings.model
        self._server, self._settings = server, settings
        self._refused: frozenset[str] = frozenset()
        self._bought: dict[tuple[object, ...], Future[Image]] = {}
        """Being painted, or painted in a call that failed as a whole."""
        self._lock = threading.Lock()

    def unknown_words(self, prompt: str) -> list[str]:
        """None: the vocabulary is open."""
        return []

    def fits(self, prompt: str) -> bool:
        """True: a server says itself when a prompt is too long for it."""
        return True

    def describe(self) -> Mapping[str, object]:
        """Model, server, size and quality; no key."""
        size = {"width": self._settings.width, "height": self._settings.height}
        said = {"quality": self._settings.quality, **size}
        given = {name: value for name, value in said.items() if value}
        return {"name": self.name, "server": self._server.name, "exact": False, **given}

    def _all(self, requests: Sequence[R], one: Callable[[R], Image]) -> list[Image]:
        """Every request's picture, bought once however often and by however many threads it is asked for at a
        time. What was painted before another failed is kept for the next try: it was paid for."""
        for message in sorted({said for request in requests for said in _not_taken(request)}):
            log.warning("%s takes no %s: it is left out", self.name, message)
        keys = [_key(request) for request in requests]
        with ThreadPoolExecutor(AT_ONCE) as pool, self._lock:
            for key, request in zip(keys, requests, strict=True):
                if key not in self._bought:
                    self._bought[key] = pool.submit(one, request)
            mine = {key: self._bought[key] for key in keys}
        failed = {key: bought for key, bought in mine.items() if bought.exception() is not None}
        self._forget(failed or mine)
        return [mine[key].result() for key in keys]

    def _forget(self, bought: Mapping[tuple[object, ...], Future[Image]]) -> None:
        with self._lock:
            for key, future in bought.items():
                if self._bought.get(key) is future:
                    del self._bought[key]
            for key in list(self._bought)[:-KEPT]:
                del self._bought[key]

    def _ask(
        self, call: Callable[[Any], Callable[..., Any]], seed: int, size: str, required: Mapping[str, Any]
    ) -> Image:
        """One picture, without what the server refuses. Raises what `Server.call` raises."""
        quality = self._settings.quality
        wanted = {"size": size, "quality": quality, "response_format": "b64_json", "seed": seed}
        while True:
            kept: dict[str, Any] = {
                name: value for name, value in wanted.items() if value != "" and name not in self._refused
            }
            sent = set(kept)
            if "seed" in kept:  # no argument of the client: OpenAI itself has none
                kept["extra_body"] = {"seed": kept.pop("seed")}
            try:
                return self._send(call, {"model": self.name, "n": 1, **required, **kept})
            except BadRequest as refusal:
                named = [name for name in _OPTIONAL if name in sent and name in str(refusal)]
                if not named:
                    raise
                self._refused |= {named[0]}

    def _send(self, call: Callable[[Any], Callable[..., Any]], body: Mapping[str, Any]) -> Image:
        picture: Image = self._server.call(lambda client: _picture(call(client)(**body)))
        return picture


class RemoteGenerator(_RemotePainter):
    """A Generator over `images.generate`."""

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        """One uint8 (H, W, 3) picture per request, in order. Raises RemoteError and ModelError."""
        return self._all(requests, self._generate)

    def _generate(self, request: GenerationRequest) -> Image:
        settings = self._settings
        size = f"{settings.width}x{settings.height}" if settings.width else ""
        return self._ask(lambda c: c.images.generate, request.seed, size, {"prompt": request.prompt})


class RemoteInpainter(_RemotePainter):
    """An Inpainter over `images.edit`: the mask's transparent pixels are painted anew.

    A crop goes out on a canvas of the model's size, its edge repeated around it, as such models take few
    sizes; its part of the answer comes back.
    """

    alignment = 1

    def __init__(self, server: Server, settings: RemoteImageSettings) -> None:
        super().__init__(server, settings)
        self.native_size = (settings.width or 1024, settings.height or 1024)

    def inpaint(self, requests: Sequence[InpaintRequest]) -> list[Image]:
        """One uint8 picture per request, of its crop's size, in order. Raises RemoteError and ModelError."""
        return self._all(requests, self._edit)

    def _edit(self, request: InpaintRequest) -> Image:
        width, height = self.native_size
        picture, hole, box = on_canvas(request.image, request.mask, (width, height))
        files = {"image": ("image.png", picture, "image/png"), "mask": ("mask.png", hole, "image/png")}
        required = {"prompt": request.prompt, **files}
        answer = self._ask(lambda c: c.images.edit, request.seed, f"{width}x{height}", required)
        painted = Pillow.fromarray(answer)
        if abs(painted.width * height / (painted.height * width) - 1) > _SAME_SHAPE:
            raise ModelError(
                f"{self.name} painted {painted.width}x{painted.height} for {width}x{height}: give the "
                "profile a width and height that it paints"
            )
        crop = painted.resize((width, height), Pillow.Resampling.LANCZOS).crop(box)
        side = (request.image.shape[1], request.image.shape[0])
        return np.asarray(crop.resize(side, Pillow.Resampling.LANCZOS))


def on_canvas(
    image: Image, mask: Mask, size: tuple[int, int]
) -> tuple[bytes, bytes, tuple[int, int, int, int]]:
    """The crop as large as it fits on a canvas of (width, height), its edge repeated around it; the same,
    transparent where it is to be painted. Both as PNG, and the crop's place: left, top, right, bottom."""
    height, width = mask.shape
    scale = min(size[0] / width, size[1] / height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    around = ((top, size[1] - inner[1] - top), (left, size[0] - inner[0] - left))
    resized = np.asarray(Pillow.fromarray(image).resize(inner, Pillow.Resampling.LANCZOS))
    # Every pixel that the mask touches at all.
    share = Pillow.fromarray(mask.astype(np.uint8) * 255).resize(inner, Pillow.Resampling.BILINEAR)
    hole = np.asarray(share) > 0
    whole = np.pad(resized, (*around, (0, 0)), mode="edge")
    alpha = np.where(np.pad(hole, around), 0, 255).astype(np.uint8)
    box = (left, top, left + inner[0], top + inner[1])
    return _png(whole), _png(np.dstack([whole, alpha])), box


def _png(picture: Image) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def _picture(answer: Any) -> Image:
    """The picture in an answer. Raises TypeError for one that holds none, as `Server.call` expects."""
    first = answer.data[0] if answer.data else None
    if first is None or not first.b64_json:
        raise TypeError("no picture in the answer")
    try:
        with Pillow.open(io.BytesIO(base64.b64decode(first.b64_json, validate=True))) as opened:
            if max(opened.size) > MAX_SIDE:
                raise TypeError("larger than any picture asked for")
            return np.asarray(opened.convert("RGB"))
    except (ValueError, OSError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise TypeError("not a picture") from error


def _key(request: GenerationRequest | InpaintRequest) -> tuple[object, ...]:
    if isinstance(request, InpaintRequest):
        return request.image.tobytes(), request.mask.tobytes(), request.prompt, request.seed
    return request.prompt, request.seed


def _not_taken(request: GenerationRequest | InpaintRequest) -> list[str]:
    said = ["negative prompt"] if request.negative_prompt else []
    return [*said, "strength"] if getattr(request, "strength", 1.0) < 1 else said
