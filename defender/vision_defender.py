"""A vision-language model on a server as a defender: it points at flaws, SAM draws their outline.

What the model answers is untrusted: each finding is checked, boxes are clipped to the picture, and what
cannot be read is asked for again. Where no answer can be used there is no diagnosis: that is an error, never
"no artifacts found", because the gate would let the picture pass.
"""

from __future__ import annotations

import base64
import io
import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image as PILImage
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from contracts.errors import InvalidInput, ModelError
from contracts.records import CATEGORIES, Box, Diagnosis, Finding, Image, Mask, Usage
from defender.categories import categorize
from prompts import digest, render
from servers.budget import Budget, BudgetSpent, Meter, Price, price_of
from servers.chat import Chat, Message

GRID = 1000
"""Boxes are asked for in thousandths of the picture's sides."""
MOST_FINDINGS = 20
MARGIN = 0.15
"""How far SAM's mask may reach out of a box, as a share of its sides: models draw boxes a little tight."""


log = logging.getLogger(__name__)


class BoxMasks(Protocol):
    """What turns boxes into masks: SAM."""

    digest: str

    def masks(self, image: Image, boxes: Sequence[Box]) -> list[tuple[Mask, float]]: ...


@dataclass(frozen=True)
class VisionSettings:
    """How a picture is shown and its answer read. Raises InvalidInput for numbers out of range."""

    tries: int = 3
    """Answers at most per picture."""
    min_confidence: float = 0.3
    """What the model says less surely is dropped, 0..1."""
    shortest_side: int = 512
    """Smaller pictures are enlarged for the model; it would overlook what is a few pixels wide."""
    longest_side: int = 1536
    """Larger ones are reduced: servers do so anyway, and charge for size."""
    concurrency: int = 4
    budget: Budget = Budget()
    """Of all pictures together, as long as the defender lives."""
    price: Price | None = None
    """None takes the table's."""

    def __post_init__(self) -> None:
        if self.tries < 1 or self.concurrency < 1:
            raise InvalidInput("a vision model needs at least 1 try and 1 request at a time")
        if not 0 <= self.min_confidence <= 1:
            raise InvalidInput(f"a confidence of {self.min_confidence:g} cannot be used: choose 0 to 1")
        if not 1 <= self.shortest_side <= self.longest_side:
            raise InvalidInput("the shortest side must be 1 or more, and no longer than the longest")


class Claim(BaseModel):
    """One finding as a model states it."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)
    box: list[float] = Field(min_length=4, max_length=4)
    phrase: str = Field(min_length=1, max_length=200)
    explanation: str = Field(default="", max_length=1_000)
    category: str = ""
    confidence: float = 0.5

    @field_validator("box")
    @classmethod
    def _is_finite(cls, box: list[float]) -> list[float]:
        if not all(math.isfinite(side) for side in box):
            raise ValueError("is not made of numbers")
        return box


class VisionDefender:
    """A Defender that asks a vision-language model."""

    name = "vlm"

    def __init__(self, chat: Chat, sam: BoxMasks | None, settings: VisionSettings | None = None) -> None:
        """Without SAM, the boxes themselves are the masks. Raises InvalidInput if there is a budget in
        dollars and no price."""
        self.chat, self.sam, self.settings = chat, sam, settings or VisionSettings()
        price = price_of(chat.settings.model, self.settings.price, self.settings.budget)
        self._meter = Meter(self.settings.budget, Usage(), price)

    @property
    def spent(self) -> Usage:
        """What all pictures so far took."""
        return self._meter.used

    def diagnose(self, images: Sequence[Image]) -> list[Diagnosis]:
        """One diagnosis per picture (uint8 RGB, any size), independent of the others in the call.

        Raises InvalidInput for anything but uint8 (H, W, 3); RemoteError if the server fails; ModelError if
        it refuses, gives no usable answer after the last try, or the budget is spent.
        """
        for number, image in enumerate(images, start=1):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise InvalidInput(
                    f"picture {number} must be uint8 RGB of shape (height, width, 3), "
                    f"not {image.dtype} {image.shape}"
                )
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            answers = list(pool.map(self._ask, images))
        log.info(
            "%s: %d calls and %d tokens so far, $%.4f",
            self.name,
            self.spent.calls,
            self.spent.tokens,
            self.spent.usd,
        )
        return [self._diagnosis(image, *answer) for image, answer in zip(images, answers, strict=True)]

    def describe(self) -> Mapping[str, object]:
        """What a record needs to diagnose again; no key."""
        return {
            "name": self.name,
            **self.chat.describe(),
            "instruction": digest("vision/task"),
            "min_confidence": self.settings.min_confidence,
            "sides": [self.settings.shortest_side, self.settings.longest_side],
            "sam": None if self.sam is None else self.sam.digest,
        }

    def _ask(self, image: Image) -> tuple[list[Claim], str, Usage]:
        """What the model claims about a picture, its text, and what it took."""
        meter = self._meter.part()
        asked: list[Message] = [
            {"role": "system", "content": render("vision/task")},
            {"role": "user", "content": [_text_part(render("vision/request")), self._picture_part(image)]},
        ]
        messages, problem = asked, ""
        for number in range(1, self.settings.tries + 1):
            try:
                answer = self.chat.ask(messages, _SCHEMA, "findings", meter, seed=number)
            except BudgetSpent as limit:
                raise ModelError(
                    f"{self.chat.settings.model} can look at no more pictures, {limit}: raise "
                    "[defender.budget] in the profile; what is done is kept"
                ) from limit
            claims, problem = ([], answer.problem) if answer.data is None else read_claims(answer.data)
            if not problem:
                return claims, answer.text, meter.used
            said = {"role": "assistant", "content": answer.text[:2_000] or "-"}
            messages = [*asked, said, {"role": "user", "content": render("vision/again", problem=problem)}]
        raise ModelError(
            f"{self.chat.settings.model} gave no usable diagnosis in {self.settings.tries} tries "
            f"({problem}): try another vision model"
        )

    def _diagnosis(self, image: Image, claims: Sequence[Claim], text: str, usage: Usage) -> Diagnosis:
        shape = (image.shape[0], image.shape[1])
        sure = [claim for claim in claims if claim.confidence >= self.settings.min_confidence]
        placed = [(claim, box) for claim in sure if (box := box_in(claim.box, shape)) is not None]
        boxes = [box for _, box in placed]
        drawn = [None] * len(boxes) if self.sam is None else self.sam.masks(image, boxes)
        findings = tuple(
            _finding(claim, _outline(box, None if mask is None else mask[0], shape))
            for (claim, box), mask in zip(placed, drawn, strict=True)
        )
        return Diagnosis(findings, None, " ".join(text.split()), usage)

    def _picture_part(self, image: Image) -> dict[str, Any]:
        picture = PILImage.fromarray(image)
        height, width = image.shape[:2]
        scale = max(1.0, self.settings.shortest_side / min(height, width))
        scale = min(scale, self.settings.longest_side / max(height, width))
        if scale != 1.0:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            picture = picture.resize(size, PILImage.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        encoded = base64.b64encode(buffer.getvalue()).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}


def read_claims(data: Mapping[str, Any]) -> tuple[list[Claim], str]:
    """The claims of an answer, and what is wrong with it; empty if it can be used.

    Claims that cannot be read are left out; an answer is useless if it has claims and none can be read.
    """
    listed = data.get("findings")
    if not isinstance(listed, list):
        return [], "'findings' is no list"
    claims, problem = [], ""
    for item in listed[:MOST_FINDINGS]:
        try:
            claims.append(_claim(item))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "a finding"
            problem = f"'{where}' of a finding is not as asked for: {first['msg'].lower()}"
    return claims, "" if claims else problem


def box_in(box: Sequence[float], shape: tuple[int, int]) -> Box | None:
    """Pixels of a box given in thousandths (or in shares, if no side is above 1) of a picture of (H, W).

    Corners in the wrong order are exchanged, what is outside the picture is cut off, a thin box is one pixel
    wide. None if nothing of it is in the picture.
    """
    unit = 1.0 if max(box) <= 1.0 else float(GRID)
    height, width = shape
    left, right = sorted((box[0] / unit * width, box[2] / unit * width))
    top, bottom = sorted((box[1] / unit * height, box[3] / unit * height))
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        return None
    left, top = min(int(max(left, 0)), width - 1), min(int(max(top, 0)), height - 1)
    right, bottom = min(math.ceil(right), width), min(math.ceil(bottom), height)
    return Box(left, top, max(right, left + 1), max(bottom, top + 1))


def _claim(item: object) -> Claim:
    """Raises ValidationError."""
    claim = Claim.model_validate(item)
    confidence = claim.confidence if math.isfinite(claim.confidence) else 0.0
    return claim.model_copy(update={"confidence": min(max(confidence, 0.0), 1.0)})


def _finding(claim: Claim, mask: Mask) -> Finding:
    said = claim.category.lower()
    category = next((known for known in CATEGORIES if known == said), None)
    return Finding(
        mask,
        claim.phrase,
        claim.explanation,
        category or categorize(claim.phrase, claim.explanation),
        claim.confidence,
    )


def _outline(box: Box, mask: Mask | None, shape: tuple[int, int]) -> Mask:
    """SAM's mask near the box; the box itself where SAM sees nothing in it."""
    inside = np.zeros(shape, dtype=bool)
    if mask is not None:
        wide, high = MARGIN * (box.right - box.left), MARGIN * (box.bottom - box.top)
        rows = slice(max(0, round(box.top - high)), round(box.bottom + high))
        columns = slice(max(0, round(box.left - wide)), round(box.right + wide))
        inside[rows, columns] = mask[rows, columns]
    if not inside.any():
        inside[box.top : box.bottom, box.left : box.right] = True
    return inside


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "findings": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "box": {"type": "array", "items": {"type": "integer"}},
                    "phrase": {"type": "string"},
                    "explanation": {"type": "string"},
                    "category": {"type": "string", "enum": list(CATEGORIES)},
                    "confidence": {"type": "number"},
                },
                "required": ["box", "phrase", "explanation", "category", "confidence"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["findings"],
    "additionalProperties": False,
}
