"""What the forms of `legion ui` ask for: pydantic models whose descriptions, bounds and choices the page
shows.

Prefect checks a form against the model before it starts a run, so a value out of range is refused where it
was typed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from controller.reviewing import Moment
from flows.jobs.approval import MAX_MINUTES, AfterTimeout, Approval
from flows.profiles.loading import available_profiles
from flows.serving.places import pictures_folder
from flows.settings import MAX_CANDIDATES, MAX_ROUNDS

FORM_SEED = 2**53 - 1
"""The largest whole number that a browser keeps exactly."""


def _with_profiles(schema: dict[str, Any]) -> None:
    """The profiles of this machine as choices, those of its user included."""
    schema["enum"] = available_profiles()


Profile = Annotated[
    str,
    Field(
        title="Profile",
        description="Which models paint, look and judge. `legion doctor` says what each of them still needs.",
        json_schema_extra=_with_profiles,
    ),
]
Seed = Annotated[
    int,
    Field(ge=0, le=FORM_SEED, title="Seed", description="The same seed and words give the same pictures."),
]
RunId = Annotated[
    str,
    Field(
        max_length=64,
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]*)?$",
        title="Run id",
        description="Leave empty for a new run. The id of an interrupted run takes that run up again.",
    ),
]


class Form(BaseModel):
    """What every form has in common: an unknown field is refused."""

    model_config = ConfigDict(extra="forbid")


class ApprovalForm(Form):
    """When a person is asked, and what happens if nobody answers."""

    review: Moment = Field(
        default="none",
        title="Ask for approval",
        description="none: nobody is asked. final: before the run ends. each-round: after every round. "
        "uncertain: where the figures disagree or a finding is doubtful.",
    )
    minutes: int = Field(
        default=60,
        ge=1,
        le=MAX_MINUTES,
        title="Wait for an answer",
        description="Minutes, from 1 to 10080 (a week).",
    )
    after_timeout: AfterTimeout = Field(
        default="gate",
        title="If nobody answers",
        description="gate: go on with the gate's own verdict. stop: end the run and keep its best picture. "
        "fail: end the run as failed; it can be taken up again.",
    )

    def asked(self) -> Approval:
        """The form's values."""
        return Approval(self.review, self.minutes, self.after_timeout)


class RegenerationForm(Form):
    """Paint a prompt, find the flaws, improve the prompt, paint again; the best round is kept."""

    prompt: str = Field(
        min_length=1,
        max_length=2000,
        title="Prompt",
        description="What to paint, such as: a red cone on a wooden table.",
    )
    more_prompts: list[str] = Field(
        default_factory=list,
        max_length=1023,
        title="More prompts",
        description="Painted in the same batch, each as a run of its own.",
    )
    rounds: int = Field(
        3, ge=1, le=MAX_ROUNDS, title="Rounds", description=f"At most so many rounds, from 1 to {MAX_ROUNDS}."
    )
    seed: Seed = 0
    profile: Profile = "tabletop"
    modifier: Literal["profile", "rules", "openai", "local"] = Field(
        "profile",
        title="Prompt modifier",
        description="Who revises the prompt. profile: as the profile says. rules: a word list. openai: a "
        "language model on a server. local: a language model on this machine.",
    )
    llm_model: str = Field(
        "",
        title="Language model",
        description="Its server's name for it, or a GGUF file. Empty: the profile's.",
    )
    llm_base_url: str = Field(
        "", title="Language model's server", description="Up to /v1, for openai only. Empty: the profile's."
    )
    steps: int = Field(0, ge=0, le=1000, title="Sampling steps", description="0 means the profile's own.")
    run_id: RunId = ""
    approval: ApprovalForm = Field(
        default_factory=lambda: ApprovalForm(),
        title="Approval",
        description="Whether a person is asked, and when.",
    )


class InpaintingForm(Form):
    """Repair the flaws of a picture region by region; every pixel outside the regions stays as it is."""

    picture: str = Field(
        min_length=1,
        title="Picture",
        description=f"A picture file or a folder of pictures below {pictures_folder()}, or the id of an "
        "earlier run, whose picture is repaired.",
    )
    prompt: str = Field(
        "", max_length=2000, title="Prompt", description="What it shows. Empty: the defender's own words."
    )
    mask: str = Field(
        "",
        title="Mask",
        description="A picture file: exactly what is white in it is repainted. Empty: what is found.",
    )
    protect: str = Field(
        "", title="Protect", description="A picture file: what is white in it is never touched."
    )
    rounds: int = Field(2, ge=1, le=MAX_ROUNDS, title="Rounds", description=f"From 1 to {MAX_ROUNDS}.")
    candidates: int = Field(
        4,
        ge=1,
        le=MAX_CANDIDATES,
        title="Candidates",
        description=f"Paintings of each region, the best of which is kept or none, 1 to {MAX_CANDIDATES}.",
    )
    min_confidence: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Least confidence",
        description="Findings less sure than this are left alone, 0 to 1; 0 means the profile's own.",
    )
    seed: Seed = 0
    profile: Profile = "tabletop"
    run_id: RunId = ""
    approval: ApprovalForm = Field(
        default_factory=lambda: ApprovalForm(),
        title="Approval",
        description="Whether a person is asked, and when.",
    )


class EvaluationForm(Form):
    """Measure a defender: figures with intervals, beside published ones where the data is the same."""

    task: Literal["localization", "explanation", "detection", "robustness", "guidance"] = Field(
        "localization",
        title="What is measured",
        description="localization: masks. explanation: words. detection: real against generated. robustness: "
        "masks under JPEG, noise and blur. guidance: what the explanations do for the masks.",
    )
    format: Literal["tabletop", "synthscars", "richhf", "loki", "folders", "plain"] = Field(
        "tabletop", title="Data", description="How the data is laid out; tabletop renders its own pictures."
    )
    dataset: str = Field("", title="Folder", description=f"Of the data, below {pictures_folder()}.")
    split: str = Field("test", title="Split", description="The part of the data.")
    limit: int = Field(100, ge=0, title="Pictures", description="So many, evenly spread; 0 means all.")
    profile: Profile = "tabletop"


class BenchmarkForm(Form):
    """Does the loop do better than drawing again as often? Arms side by side on equal budgets."""

    prompts: str = Field(
        "tabletop",
        title="Prompts",
        description=f"tabletop, hpdv2, or a .txt, .csv or .jsonl file below {pictures_folder()}.",
    )
    n: int = Field(12, ge=1, le=100_000, title="How many", description="Of the prompts, evenly spread.")
    seeds: int = Field(1, ge=1, le=100, title="Seeds", description="For each prompt, from 1 to 100.")
    arms: str = Field(
        "one-shot,best-of-n,rewriting,regeneration",
        title="Arms",
        description="What is compared, with commas between, or all.",
    )
    budget: int = Field(
        0, ge=0, le=MAX_ROUNDS, title="Budget", description="Pictures for each prompt; 0: the profile's."
    )
    profile: Profile = "tabletop"


class TrainingForm(Form):
    """Train a defender on your own pictures, or go on with a training that was stopped: the same name does
    both."""

    dataset: str = Field(min_length=1, title="Folder", description=f"Of the data, below {pictures_folder()}.")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        title="Name",
        description="Of the training, in letters, digits, - and _: its folder is called so.",
    )
    format: Literal["synthscars", "loki", "richhf", "folders"] = Field(
        "synthscars", title="Data", description="How the data is laid out; folders is for stage 2."
    )
    split: str = Field("train", title="Split", description="The part of the data that is trained on.")
    stage: Literal["1", "2", "joint"] = Field(
        "1", title="Stage", description="1: localization and explanation. 2: detection. joint: both at once."
    )
    steps: int = Field(0, ge=0, title="Steps", description="Of the optimizer; 0 means three epochs.")
    batch_size: int = Field(
        0,
        ge=0,
        le=4096,
        title="Batch size",
        description="Pictures of a step; 0 means the usual number. A small data set needs a small one.",
    )


FORMS: dict[str, type[Form]] = {
    "regenerate": RegenerationForm,
    "inpaint": InpaintingForm,
    "benchmark": BenchmarkForm,
    "evaluate": EvaluationForm,
    "train": TrainingForm,
}
"""What is served, by the name of its flow."""
