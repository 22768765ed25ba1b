"""The section of a profile that says what a benchmark reports beside its scorers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class BenchmarkProfile(BaseModel):
    """What `legion benchmark` needs that no loop may see."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    judge: str = ""
    """Folder of the tabletop world's judge; without one, scorers alone report."""
    suffix: str = Field(default="best quality, highly detailed, sharp focus", min_length=1)
    """Quality words that the arm `suffix` puts after every prompt."""
