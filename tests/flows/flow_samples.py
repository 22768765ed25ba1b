"""Scripted tools and hand-made runs: the flows room is tested without a single weight."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from contracts.records import (
    Answer,
    Diagnosis,
    Finding,
    GenerationRequest,
    Image,
    Revision,
    RevisionRequest,
    Round,
    Run,
    Score,
    Verdict,
)

MODIFIERS = {"physics": "natural shadow", "structure": "perfect shape", "distortion": "clean surface"}
KNOWN = set("a red cone on wooden table natural shadow perfect shape clean surface blue ball the and".split())
SIDE = 64


def picture(seed: int) -> Image:
    """A cone on a table, (64, 64, 3); the seed moves it."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    image = np.where((rows > 34)[..., None], (150, 105, 62), (120, 124, 126)).astype(np.int16)
    image += np.random.default_rng(seed).integers(-6, 7, image.shape, dtype=np.int16)
    center = 26 + seed % 12
    body = (rows > 14) & (rows < 50) & (np.abs(columns - center) < (rows - 14) * 0.42)
    image[body] = np.stack(
        [230 - (columns[body] - center + 16) * 4, 40 + 0 * rows[body], 36 + 0 * rows[body]], -1
    )
    return np.clip(image, 0, 255).astype(np.uint8)


def finding(category: str = "physics", at: tuple[int, int] = (44, 48), radius: int = 9) -> Finding:
    """A round flaw of one category."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    mask = ((rows - at[0]) / 0.6) ** 2 + (columns - at[1]) ** 2 < radius**2
    texts = {
        "physics": (
            "shadow of the red cone",
            "The cone stands in the light but throws no shadow on the table.",
        ),
        "structure": (
            "tip of the red cone",
            "The tip is bent sideways, so that the outline is no longer straight.",
        ),
        "distortion": ("patch of noise", "Colored noise covers the surface where it should be smooth."),
    }
    phrase, explanation = texts[category]
    return Finding(mask, phrase, explanation, category, 0.87)  # type: ignore[arg-type]


class ScriptedGenerator:
    """Paints from the seed alone; remembers every request."""

    name = "scripted generator"

    def __init__(self) -> None:
        self.requests: list[GenerationRequest] = []
        self.prompt_of: dict[str, str] = {}
        self.before_painting = lambda: None

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        self.before_painting()
        self.requests += requests
        images = [picture(request.seed) for request in requests]
        for request, image in zip(requests, images, strict=True):
            self.prompt_of[digest(image)] = request.prompt
        return images

    def unknown_words(self, prompt: str) -> list[str]:
        return [word for word in prompt.replace(",", " ").split() if word.lower() not in KNOWN]

    def describe(self) -> Mapping[str, object]:
        return {"name": self.name, "steps": 4}


class ScriptedDefender:
    """Finds every category whose modifier the prompt lacks."""

    name = "scripted defender"

    def __init__(self, generator: ScriptedGenerator) -> None:
        self.generator = generator

    def diagnose(self, images: Sequence[Image]) -> list[Diagnosis]:
        return [self._one(self.generator.prompt_of.get(digest(image), "")) for image in images]

    def _one(self, prompt: str) -> Diagnosis:
        missing = [category for category, words in MODIFIERS.items() if words not in prompt]
        places = {"physics": (44, 48), "structure": (20, 30), "distortion": (38, 26)}
        return Diagnosis(tuple(finding(c, places[c]) for c in missing[:2]), 0.98, "scripted")

    def describe(self) -> Mapping[str, object]:
        return {"name": self.name}


class ScriptedScorer:
    """More modifiers, more points."""

    def __init__(self, generator: ScriptedGenerator, name: str = "preference") -> None:
        self.generator, self.name = generator, name

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Score]:
        return [Score(self.name, "1", self._one(image)) for image in images]

    def _one(self, image: Image) -> float:
        prompt = self.generator.prompt_of.get(digest(image), "")
        return 0.2 + 0.2 * sum(words in prompt for words in MODIFIERS.values())

    def describe(self) -> Mapping[str, object]:
        return {"name": self.name}


class ScriptedModifier:
    """One finding, one modifier."""

    name = "scripted modifier"

    def revise(self, requests: Sequence[RevisionRequest]) -> list[Revision]:
        return [self._one(request) for request in requests]

    def _one(self, request: RevisionRequest) -> Revision:
        prompt = request.current_prompt
        answers = []
        for item in request.findings[:1]:
            prompt += f", {MODIFIERS[item.category]}"
            answers.append(Answer(MODIFIERS[item.category], item.category, item.phrase))
        return Revision(prompt, tuple(x.phrase for x in answers), "scripted", answers=tuple(answers))

    def describe(self) -> Mapping[str, object]:
        return {"name": self.name}


def digest(image: Image) -> str:
    """A key for a picture."""
    return hashlib.sha256(image.tobytes()).hexdigest()


class Shelf:
    """Pictures by digest, in memory."""

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}

    def add(self, image: Image) -> str:
        self.images[digest(image)] = image
        return digest(image)

    def __call__(self, key: str) -> Image:
        return self.images[key]


def sample_run(
    shelf: Shelf, run_id: str = "20261121-071502-red-cone-7f3a", prompt: str = "a red cone"
) -> Run:
    """Three rounds: two findings, a roll-back, a clean picture."""
    prompts = [prompt, f"{prompt}, natural shadow", f"{prompt}, perfect shape, natural shadow"]
    found: list[tuple[Finding, ...]] = [
        (finding("physics"), finding("structure", (20, 30), 6)),
        (finding("distortion", (38, 26)),),
        (),
    ]
    scores = [(0.41, 0.22), (0.37, 0.24), (0.83, 0.31)]
    verdicts = [
        Verdict(True, "first round"),
        Verdict(False, "score fell from 0.410 to 0.370"),
        Verdict(True, "no artifacts left and the score rose", "no artifacts found"),
    ]
    rounds = tuple(
        Round(
            index=index,
            prompt=prompts[index - 1],
            seed=1000 + index,
            image=shelf.add(picture(index * 3)),
            diagnosis=Diagnosis(found[index - 1], 0.97, ""),
            scores=tuple(
                Score(n, "1", v) for n, v in zip(("preference", "clip"), scores[index - 1], strict=True)
            ),
            verdict=verdicts[index - 1],
            seconds={"paint": 1.21, "diagnose": 0.52, "score": 0.08},
        )
        for index in (1, 2, 3)
    )
    settings = {
        "rounds": 3,
        "patience": 2,
        "tools": {"generator": {"name": "tabletop", "digest": "3f" * 32, "steps": 16, "guidance_scale": 2.0}},
    }
    return Run(run_id, "regeneration", prompt, 7, settings, "finished", "2026-11-21T07:15:02+00:00", rounds)
