"""The section of a profile that says how pictures are inpainted."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic_core import PydanticCustomError

from contracts.errors import InvalidInput
from controller.region_gate import RegionGateSettings
from controller.regions import RegionSettings
from flows.settings import MAX_CANDIDATES, MAX_ROUNDS


def _section(settings: type, **elsewhere: Any) -> type[BaseModel]:
    """A section with the fields of a settings class: its names, types, defaults and rules are written once.
    `elsewhere` are fields that do not come from a profile, each with a value that will do."""
    hints = get_type_hints(settings)
    known: Any = {f.name: (hints[f.name], f.default) for f in fields(settings) if f.name not in elsewhere}

    def check(section: BaseModel) -> BaseModel:
        try:
            settings(**section.model_dump(), **elsewhere)
        except InvalidInput as error:
            raise PydanticCustomError("unusable", "{said}", {"said": str(error)}) from error
        return section

    validators: Any = {"check": model_validator(mode="after")(check)}
    config = ConfigDict(extra="forbid", frozen=True)
    return create_model(f"{settings.__name__}Section", __config__=config, __validators__=validators, **known)


Regions: Any = _section(RegionSettings)
Gate: Any = _section(RegionGateSettings, selection_score="any")


class InpaintingProfile(BaseModel):
    """Defaults of `legion inpaint`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = ""
    """A checkpoint of its own, a folder or a name on the hub; without one, the generator's weights paint."""
    variant: str = ""
    """As for a generator."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """If not given: the generator's, or, of a checkpoint of its own, what that one is best used with."""
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    """As `steps`."""
    exact: bool | None = None
    """Whether a region is the same alone and in a batch, bit for bit; the generator's if not given."""
    strength: float = Field(default=1.0, gt=0, le=1)
    rounds: int = Field(default=2, ge=1, le=MAX_ROUNDS)
    candidates: int = Field(default=2, ge=1, le=MAX_CANDIDATES)
    tries: int = Field(default=2, ge=1, le=MAX_ROUNDS)
    quality: str = ""
    """Words that every region is painted with, such as "sharp focus, fine detail"."""
    match_colors: bool = True
    memory: bool = False
    """As for the loop: whether the words for regions look up what helped in earlier runs."""
    regions: Regions = Regions()
    gate: Gate = Gate()
