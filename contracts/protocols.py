"""What a part must do to take its place in a loop. Everything works on batches; a single item is a batch
of one.

Results may not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from contracts.records import (
    Answer,
    Candidate,
    Content,
    Diagnosis,
    GenerationRequest,
    Image,
    InpaintRequest,
    LeftOut,
    Lesson,
    Mask,
    ModelCall,
    Recollection,
    RegionPlan,
    Repair,
    Review,
    Revision,
    RevisionRequest,
    Round,
    Run,
    RunStatus,
    Score,
    Symptom,
    Trial,
    Verdict,
)


class Generator(Protocol):
    """Prompt -> picture."""

    name: str

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Image]: ...

    def unknown_words(self, prompt: str) -> list[str]:
        """Words the model was never taught, in order; empty where the model's vocabulary is open."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Name, checkpoint digest, steps, guidance scale, dtype: what a record needs to paint it again."""
        ...


class Inpainter(Protocol):
    """Crop, mask and prompt -> the crop with the masked part painted anew."""

    name: str
    native_size: tuple[int, int]
    """Width and height the model paints best at, multiples of `alignment`."""
    alignment: int
    """Both sides of a crop must be multiples of this."""

    def inpaint(self, requests: Sequence[InpaintRequest]) -> list[Image]:
        """One uint8 picture per request, of its crop's size, in order. Pixels outside the mask may differ
        from the crop's: whoever pastes the result takes none of them."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Name, checkpoint digest, steps, guidance scale, dtype: what a record needs to paint it again."""
        ...


class Defender(Protocol):
    """Picture -> findings."""

    name: str

    def diagnose(self, images: Sequence[Image]) -> list[Diagnosis]: ...

    def describe(self) -> Mapping[str, object]: ...


class Scorer(Protocol):
    """Picture and prompt -> how much a person would like it."""

    name: str

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Score]: ...

    def describe(self) -> Mapping[str, object]: ...


class PromptModifier(Protocol):
    """Findings -> a prompt that says what should be seen instead."""

    name: str

    def revise(self, requests: Sequence[RevisionRequest]) -> list[Revision]: ...

    def describe(self) -> Mapping[str, object]: ...


class MemoryBank(Protocol):
    """The record of every step. Each commit is durable before it returns, and possible only once.

    `seconds` is a sample's share of what a step took; `calls` are the models that were called for it, and
    what they took.
    """

    def begin(
        self, run_id: str, *, kind: str, prompt: str, seed: int, settings: Mapping[str, object]
    ) -> AbstractContextManager[Run]:
        """Create the run, or take it up again, and hold it until the context ends.

        Raises RunBusy if a live process holds it, SettingsChanged if it began with other values.
        Leaving the context by an exception marks an unfinished run "interrupted".
        """
        ...

    def load(self, run_id: str) -> Run:
        """The run with all that was committed. Raises RunNotFound."""
        ...

    def runs(self, limit: int = 50) -> list[Run]:
        """The latest runs, newest first."""
        ...

    def keep_job(self, run_id: str, parameters: Mapping[str, object]) -> None:
        """Keep what a person asked for, as plain values; the first word stands."""
        ...

    def lost(self, run_id: str) -> Sequence[Content]:
        """What the run's record names and is not there whole, each once; nothing for an unknown run."""
        ...

    def outline(self, run_id: str) -> Run:
        """The run with masks and weights left empty, so that lost files hide nothing. Raises RunNotFound."""
        ...

    def allow_changes(self, run_id: str) -> None:
        """Let `begin` take an unfinished run up with other settings, and `keep_job` keep another job."""
        ...

    def put_back(self, kind: Literal["image", "mask", "weight"], pixels: Image | Mask) -> str:
        """Store content that was made anew; its digest tells whether it is what was lost."""
        ...

    def open_round(self, run_id: str, index: int, prompt: str, seed: int) -> Round: ...

    def commit_image(
        self, run_id: str, index: int, image: Image, seconds: float, calls: Sequence[ModelCall] = ()
    ) -> str:
        """Store the picture and return its digest."""
        ...

    def commit_diagnosis(
        self,
        run_id: str,
        index: int,
        diagnosis: Diagnosis,
        seconds: float,
        calls: Sequence[ModelCall] = (),
    ) -> None: ...

    def commit_scores(
        self,
        run_id: str,
        index: int,
        scores: Sequence[Score],
        seconds: float,
        calls: Sequence[ModelCall] = (),
    ) -> None: ...

    def commit_verdict(self, run_id: str, index: int, verdict: Verdict, trials: Sequence[Trial] = ()) -> None:
        """Store the gate's word, and what the round taught."""
        ...

    def commit_review(self, run_id: str, index: int, review: Review) -> None:
        """Store a person's word on a round, before its verdict."""
        ...

    def recall(
        self, run_id: str, index: int, region: int, painter: str, symptoms: Sequence[Symptom]
    ) -> tuple[Lesson, ...]:
        """What runs before this one taught about such flaws, the best first. The first answer is kept with
        the round (region 0) or region, and given again whenever it is asked for."""
        ...

    def recollections(self, run_id: str) -> Sequence[Recollection]:
        """All that the run was told so far."""
        ...

    def keep_recollections(self, run_id: str, told: Sequence[Recollection]) -> None:
        """Let `recall` tell a run, before it begins, what it was told elsewhere."""
        ...

    def commit_revision(
        self,
        run_id: str,
        index: int,
        revision: Revision,
        seconds: float,
        calls: Sequence[ModelCall] = (),
    ) -> None: ...

    def commit_plan(
        self, run_id: str, index: int, regions: Sequence[RegionPlan], left_out: Sequence[LeftOut]
    ) -> None:
        """Regions are numbered from 1 in this order; candidates of each from 1 too."""
        ...

    def commit_region_prompt(
        self,
        run_id: str,
        index: int,
        region: int,
        prompt: str,
        seconds: float,
        answers: Sequence[Answer] = (),
        calls: Sequence[ModelCall] = (),
    ) -> None: ...

    def commit_painting(
        self,
        run_id: str,
        index: int,
        region: int,
        candidate: int,
        image: Image,
        seed: int,
        seconds: float,
        calls: Sequence[ModelCall] = (),
    ) -> str:
        """Store the painted crop and return its digest."""
        ...

    def commit_look(
        self,
        run_id: str,
        index: int,
        region: int,
        candidate: int,
        look: Candidate,
        seconds: float,
        calls: Sequence[ModelCall] = (),
    ) -> None:
        """Store what was measured on the picture with this candidate, and the gate's word on it."""
        ...

    def commit_repair(
        self,
        run_id: str,
        index: int,
        region: int,
        repair: Repair,
        picture: Image | None,
        trials: Sequence[Trial] = (),
    ) -> str | None:
        """Store what became of a region and what it taught, with the whole picture if it was accepted; that
        one's digest."""
        ...

    def commit_result(self, run_id: str, index: int, image: str, outside: str) -> None:
        """Store the digests of the picture after the round and of the pixels outside all supports so far."""
        ...

    def finish(self, run_id: str, status: RunStatus) -> None: ...

    def image(self, digest: str) -> Image:
        """The stored picture. Raises MemoryBankError if it is missing or its content does not match."""
        ...
