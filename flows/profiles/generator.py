"""The section of a profile that says who paints: a diffusers checkpoint, or a model on a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from flows.settings import MAX_BATCH

SERVER_KEYS = frozenset({"model", "base_url", "key_variable", "timeout", "attempts", "quality"})
BOTH_KEYS = frozenset({"kind", "batch_size", "width", "height"})
KEPT_FOR_OTHERS = ("dtype", "batch_size", "exact", "offload", "quantize", "vae_tiling", "vae_slicing")
"""What stays if another checkpoint takes the place of the profile's: it is about the machine."""


class LoraProfile(BaseModel):
    """A low-rank adapter: its .safetensors file, and how much of it is added."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(min_length=1)
    scale: float = 1.0


class GeneratorProfile(BaseModel):
    """Who paints, and how. docs/models.md explains each key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["diffusers", "openai-images"]
    path: str = ""
    """diffusers: a folder in the layout of diffusers, or a name on the hub such as "org/name"."""
    variant: str = ""
    """diffusers: such as "fp16", for the files that carry it in their names."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """The checkpoint's own default if not given; and so below."""
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    width: int | None = Field(default=None, ge=8, le=8192)
    height: int | None = Field(default=None, ge=8, le=8192)
    max_sequence_length: int | None = Field(default=None, ge=1, le=4096)
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    batch_size: int = Field(default=16, ge=1, le=MAX_BATCH)
    """Pictures per model call at most; on a GPU fewer if fewer fit."""
    exact: bool | None = None
    """Whether a picture is the same alone and in a batch, bit for bit, by painting one per model call: on a
    CPU if not given. False paints `batch_size` together, which is quicker there."""
    offload: Literal["none", "model", "sequential"] = "none"
    quantize: Literal["none", "8bit", "4bit"] = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    loras: tuple[LoraProfile, ...] = ()
    model: str = ""
    """openai-images: as the server calls it; and so below."""
    base_url: str | None = None
    key_variable: str | None = Field(default=None, min_length=1)
    timeout: float = Field(default=180.0, gt=0)
    attempts: int = Field(default=3, ge=1, le=20)
    quality: str = ""

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> GeneratorProfile:
        remote = self.kind == "openai-images"
        needed = "model" if remote else "path"
        if not getattr(self, needed):
            raise PydanticCustomError("missing_key", f"{needed} is missing: which model paints?")
        wrong = self.model_fields_set & SERVER_KEYS
        if remote:
            wrong = self.model_fields_set - SERVER_KEYS - BOTH_KEYS
        if wrong:
            raise PydanticCustomError(
                "no_such_key", f"{min(wrong)} is no key of a generator of kind {self.kind}"
            )
        return self


def with_changes(section: GeneratorProfile, changes: Mapping[str, Any]) -> GeneratorProfile:
    """The section with options of a command in place of its own values. Another checkpoint keeps what is
    about the machine and paints as it does by itself otherwise. Raises pydantic's ValidationError."""
    kept = section.model_dump(exclude_unset=True)
    if "path" in changes:
        kept = {"kind": "diffusers"} | {key: kept[key] for key in KEPT_FOR_OTHERS if key in kept}
    return GeneratorProfile.model_validate({**kept, **changes})
