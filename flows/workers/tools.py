"""The tools of both loops, whose work is done by workers: the same records in and out, the same digests.

Importing this loads no model library: a machine that only runs loops needs no GPU and little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contracts.errors import ModelError
from contracts.records import (
    Diagnosis,
    GenerationRequest,
    Image,
    InpaintRequest,
    Revision,
    RevisionRequest,
    Score,
)
from controller.inpainting import InpaintingTools
from controller.regeneration import RegenerationTools
from controller.region_gate import MeasuredGate, RegionGateSettings
from flows.jobs.inpainting import InpaintingJob
from flows.jobs.regeneration import Job
from flows.profiles.loading import load_profile
from flows.workers.models import FACTS

Ask = Callable[[str, str, Mapping[str, Any], Mapping[str, Any]], Any]
"""Part, method, which tool of the part, arguments -> the worker's answer."""


class _Part:
    """One tool. What it says of itself is asked once, and every worker has to say the same."""

    name: str
    """The tool's own, by which its scores are signed."""

    def __init__(self, ask: Ask, part: str, tool: Mapping[str, Any]) -> None:
        """Raises what `ask` raises."""
        self._ask, self._part, self._tool = ask, part, dict(tool)
        answer = ask(part, FACTS, self._tool, {})
        self._facts: Mapping[str, Any] = answer["value"]
        self._fingerprint: str = answer["tool"]
        self.name = self._facts["name"]

    def _call(self, method: str, **arguments: Any) -> Any:
        answer = self._ask(self._part, method, self._tool, arguments)
        if answer["tool"] != self._fingerprint:
            raise ModelError(
                f"two workers differ in the {self._part}: give them the same weights and version, then "
                "resume the run"
            )
        return answer["value"]

    def describe(self) -> Mapping[str, object]:
        """As the tool in the worker says: a run may go on with workers or without."""
        described: Mapping[str, object] = self._facts["describe"]
        return described


class WorkerGenerator(_Part):
    """Prompt -> picture, in a worker."""

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        """One picture for each request."""
        return list(self._call("generate", requests=list(requests)))

    def unknown_words(self, prompt: str) -> list[str]:
        """Words the model was never taught, in order."""
        return list(self._call("unknown_words", prompt=prompt))


class WorkerInpainter(_Part):
    """Crop, mask and prompt -> the crop with the masked part painted anew, in a worker."""

    def __init__(self, ask: Ask, part: str, tool: Mapping[str, Any]) -> None:
        super().__init__(ask, part, tool)
        width, height = self._facts["native_size"]
        self.native_size = (int(width), int(height))
        self.alignment = int(self._facts["alignment"])

    def inpaint(self, requests: Sequence[InpaintRequest]) -> list[Image]:
        """One picture for each request."""
        return list(self._call("inpaint", requests=list(requests)))


class WorkerDefender(_Part):
    """Picture -> findings, in a worker."""

    def diagnose(self, images: Sequence[Image]) -> list[Diagnosis]:
        """One diagnosis for each picture."""
        return list(self._call("diagnose", images=list(images)))


class WorkerScorer(_Part):
    """Picture and prompt -> how much a person would like it, in a worker."""

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Score]:
        """One score for each picture with its prompt."""
        return list(self._call("score", images=list(images), prompts=list(prompts)))


class WorkerModifier(_Part):
    """Findings -> a prompt, in a worker: there is the painter whose words it has to keep to."""

    def revise(self, requests: Sequence[RevisionRequest]) -> list[Revision]:
        """One revision for each request."""
        return list(self._call("revise", requests=list(requests)))


def regeneration_tools(job: Job, ask: Ask) -> RegenerationTools:
    """What the regeneration loop works with. Raises InvalidInput for an unknown profile."""
    painter = dict(job.painter)
    return RegenerationTools(
        generator=WorkerGenerator(ask, "generator", {"painter": painter}),
        modifier=WorkerModifier(ask, "modifier", {"painter": painter, "changes": dict(job.modifier)}),
        **_looking(job.profile, ask, load_profile(job.profile).looking),
    )


def inpainting_tools(job: InpaintingJob, ask: Ask) -> InpaintingTools:
    """What the inpainting loop works with. Raises InvalidInput for an unknown profile."""
    painter = dict(job.painter)
    tool = {"painter": painter, "steps": job.steps, "guidance_scale": job.guidance_scale}
    profile = load_profile(job.profile)
    limits = profile.inpainting.gate.model_dump()
    return InpaintingTools(
        inpainter=WorkerInpainter(ask, "inpainter", tool),
        modifier=WorkerModifier(ask, "region modifier", tool),
        gate=MeasuredGate(RegionGateSettings(profile.selection_scorer.name, **limits)),
        **_looking(job.profile, ask, {}),
    )


def _looking(profile_name: str, ask: Ask, looking: Mapping[str, object]) -> dict[str, Any]:
    """The parts that both loops have; `looking` is changed about the defender."""
    profile = load_profile(profile_name)
    selection, *reporting = (
        WorkerScorer(ask, "scorers", {"scorer": section.name})
        for section in (profile.selection_scorer, *profile.reporting_scorers)
    )
    return {
        "defender": WorkerDefender(ask, "defender", {"looking": dict(looking)}),
        "selection_scorer": selection,
        "reporting_scorers": tuple(reporting),
    }
