"""What a program sends and gets, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from contracts.records import Category
from controller.prompt_rules import MAX_CHARACTERS
from flows.api.queue import State
from flows.settings import MAX_CANDIDATES, MAX_ROUNDS

MAX_SIDE = 2048
MAX_STEPS = 200
MAX_SAFE = 2**53 - 1
"""The largest seed: many programs' JSON has no larger whole numbers, and would send another one."""
DIGEST_WORDS = "the digest of a picture that was sent, or the absolute path of a file in an allowed folder"


def _as_whole(value: Any) -> Any:
    """31.0 is a whole number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_whole = BeforeValidator(_as_whole)
Seed = Annotated[int, Field(ge=0, le=MAX_SAFE), _whole]
Rounds = Annotated[int, Field(ge=1, le=MAX_ROUNDS), _whole]
Candidates = Annotated[int, Field(ge=1, le=MAX_CANDIDATES), _whole]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS), _whole]
Side = Annotated[int, Field(ge=8, le=MAX_SIDE), _whole]
Guidance = Annotated[float, Field(ge=0, le=100)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class RegenerationAsked(_Asked):
    """Paint a prompt, diagnose, improve the prompt, paint again."""

    prompt: str = Field(
        min_length=1,
        max_length=MAX_CHARACTERS,
        description="what to paint",
        examples=["a red cone on a wooden table"],
    )
    seed: Seed = Field(0, description="same prompt and seed, same pictures")
    rounds: Rounds | None = Field(
        None, description="rounds at most; the profile's if not given, and so below"
    )
    steps: Steps | None = Field(None, description="sampling steps")
    guidance_scale: Guidance | None = Field(None, description="guidance of the sampling")
    width: Side | None = Field(None, description="of the pictures, in pixels")
    height: Side | None = Field(None, description="of the pictures, in pixels")


class InpaintingAsked(_Asked):
    """Find the flaws of a picture, repair them one by one, leave every other pixel alone."""

    picture: str = Field(min_length=1, max_length=1024, description=DIGEST_WORDS)
    prompt: str = Field(
        "", max_length=MAX_CHARACTERS, description="what the picture shows; the defender's words if empty"
    )
    seed: Seed = Field(0, description="same picture and seed, same result")
    mask: str | None = Field(
        None, min_length=1, max_length=1024, description=f"repaint exactly what is white: {DIGEST_WORDS}"
    )
    protect: str | None = Field(
        None, min_length=1, max_length=1024, description=f"never touch what is white: {DIGEST_WORDS}"
    )
    rounds: Rounds | None = Field(None, description="the profile's if not given; so below")
    candidates: Candidates | None = Field(None, description="paintings of each region")
    tries: Rounds | None = Field(None, description="rounds until a region is given up")
    strength: float | None = Field(None, gt=0, le=1, description="how much is given up for noise")
    steps: Steps | None = Field(None, description="sampling steps")
    guidance_scale: Guidance | None = Field(None, description="guidance of the sampling")


class PictureKept(BaseModel):
    """A picture that was sent."""

    picture: str = Field(description="sha256 of its bytes: its name in requests")
    width: int
    height: int
    bytes: int


class RoundShort(BaseModel):
    """One round at a glance."""

    index: int
    prompt: str
    findings: int | None = Field(description="how many flaws were found; null before the diagnosis")
    scores: dict[str, float]
    accepted: bool | None
    reason: str | None


class RunState(BaseModel):
    """A run as it stands."""

    run_id: str
    kind: Literal["regeneration", "inpainting"]
    state: State
    prompt: str
    seed: int
    waiting: int | None = Field(description="runs before this one, while it is queued")
    error: str | None = Field(description="why it failed")
    submitted: str = Field(description="UTC, ISO 8601")
    ended: str | None
    rounds: list[RoundShort]
    best: int | None = Field(description="the round whose picture is the result; null while there is none")
    links: dict[str, str]


class RunList(BaseModel):
    """Runs, newest first."""

    runs: list[RunState]
    next: str | None = Field(description="where older ones are; null at the end")


class FindingShown(BaseModel):
    """One flaw."""

    phrase: str
    explanation: str
    category: Category
    confidence: float
    box: tuple[int, int, int, int] = Field(description="left, top, right, bottom in pixels, half open")
    area: float = Field(description="share of the picture, 0..1")
    mask: str = Field(description="where its mask is")


class RoundWhole(RoundShort):
    """One round with all that was found."""

    seed: int
    found: list[FindingShown]
    picture: str | None = Field(description="where its picture is")
    seconds: dict[str, float]


class Health(BaseModel):
    """Is the server well?"""

    status: Literal["ok"]
    profile: str
    queued: int
    running: int


class Refused(BaseModel):
    """Why a request was not carried out."""

    code: str = Field(description="for programs", examples=["queue_full"])
    error: str = Field(description="one line for a person")
