"""Scenes of a split, rendered when they are asked for: what the bundled defender is measured on, with seeds
that no training saw, and what another one may be trained on.

Scenes are those of the data set on disk: a seed has one, of one solid or two. Every scene gives a clean and a
flawed picture, each as rendered and after the generator's autoencoder, which is what the defender meets in
use. For detection there are the generator's own paintings too. The truth of a flawed picture is the
renderer's, so it is exact.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from contracts.errors import CheckpointError, InvalidInput
from contracts.records import GenerationRequest, Image
from defender.datasets import Sample
from tabletop import captions
from tabletop.flaws import Pair, pair_of
from tabletop.scenes import SEED_RANGES

GENERATOR = Path(__file__).parent / "weights" / "generator"
RENDERED, DECODED = "rendered", "after the autoencoder"
PAINTING, RECONSTRUCTION = "render against painting", "render against autoencoder"
SCENES = 250
"""How many scenes are looked at unless a person asks for another number of pictures."""
_KEPT = 2_000
"""Scenes kept in memory, about 50 kB each, as a training asks for them in any order again and again."""
_PAINTING_SEED = 72
_PAINTED_AT_ONCE = 8


class RenderedScenes:
    """Four pictures a scene: clean and flawed as rendered, clean and flawed after the autoencoder.

    With `decoded=False` only the first two, and the autoencoder is not needed.
    """

    def __init__(self, scenes: int, split: str = "test", decoded: bool = True) -> None:
        """Scenes of a split, by the split's seeds. Raises InvalidInput for an unknown split or too many."""
        self._first, self._scenes, self._kinds = _first_seed(split, scenes), scenes, 4 if decoded else 2
        self._split = split

    def __len__(self) -> int:
        return self._scenes * self._kinds

    def __getitem__(self, index: int) -> Sample:
        """Raises IndexError behind the end, CheckpointError if there is no autoencoder."""
        scene, kind = divmod(range(len(self))[index], self._kinds)
        seed, flawed, decoded = self._first + scene, kind % 2 == 1, kind >= 2
        findings = _pair(seed).findings if flawed else ()
        return Sample(_picture(seed, flawed, decoded), findings, is_real=not decoded)

    def name(self, index: int) -> str:
        """Split, scene and kind."""
        scene, kind = divmod(index, self._kinds)
        words = f"{('clean', 'flawed')[kind % 2]} {(RENDERED, DECODED)[kind // 2]}"
        return f"{self._split} scene {scene}, {words}"

    @property
    def groups(self) -> tuple[str, ...]:
        """Rendered, or after the autoencoder."""
        return tuple((RENDERED, DECODED)[i % self._kinds // 2] for i in range(len(self)))


class RealOrPainted:
    """Four pictures a scene: two renders, a painting of the same prompt, and a render after the autoencoder.

    Renders count as real; they are clean and flawed by turns, so that a flaw is no sign of either.
    """

    def __init__(self, scenes: int, split: str = "test") -> None:
        """As for RenderedScenes."""
        self._first, self._scenes, self._split = _first_seed(split, scenes), scenes, split

    def __len__(self) -> int:
        return self._scenes * 4

    def __getitem__(self, index: int) -> Sample:
        """Raises IndexError behind the end, CheckpointError if there is no generator."""
        scene, kind = divmod(range(len(self))[index], 4)
        if kind == 1:
            return Sample(self._painting(scene), (), False)
        flawed, decoded = (scene + kind // 2) % 2 == 1, kind == 3
        return Sample(_picture(self._first + scene, flawed, decoded), (), not decoded)

    def _painting(self, scene: int) -> Image:
        start = scene - scene % _PAINTED_AT_ONCE
        seeds = tuple(range(self._first + start, self._first + min(start + _PAINTED_AT_ONCE, self._scenes)))
        return _painted(seeds)[scene - start]

    def name(self, index: int) -> str:
        """Split, scene and kind."""
        scene, kind = divmod(index, 4)
        return (
            f"{self._split} scene {scene}, {('render', 'painting', 'render', 'after the autoencoder')[kind]}"
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """What the picture is told apart from, or told apart as."""
        return (PAINTING, PAINTING, RECONSTRUCTION, RECONSTRUCTION) * self._scenes


def _first_seed(split: str, scenes: int) -> int:
    if split not in SEED_RANGES:
        raise InvalidInput(f"the tabletop world has no split {split!r}: choose {', '.join(SEED_RANGES)}")
    first, stop = SEED_RANGES[split]
    if not 1 <= scenes <= stop - first:
        raise InvalidInput(f"{scenes} scenes of '{split}': choose from 1 to {stop - first}")
    return first


@lru_cache(maxsize=_KEPT)
def _pair(seed: int) -> Pair:
    return pair_of(seed)


def _picture(seed: int, flawed: bool, decoded: bool) -> Image:
    """A scene's clean or flawed picture, as rendered or after the autoencoder."""
    if decoded:
        return _decoded(seed, flawed)
    return _pair(seed).flawed if flawed else _pair(seed).clean


@lru_cache(maxsize=2 * _KEPT)
def _decoded(seed: int, flawed: bool) -> Image:
    from tabletop import autoencoder

    rendered = _picture(seed, flawed, decoded=False)
    return autoencoder.decode(_autoencoder(), autoencoder.encode(_autoencoder(), rendered[None]))[0]


@lru_cache(maxsize=_PAINTED_AT_ONCE)
def _painted(seeds: tuple[int, ...]) -> list[Image]:
    """Paintings of the scenes' captions; every second one asks for all that is sound, as a loop would."""
    requests = []
    for seed in seeds:
        prompt = captions.scene_caption(_pair(seed).scene)
        if seed % 2:
            prompt = captions.with_modifiers(prompt, tuple(captions.MODIFIERS))
        requests.append(GenerationRequest(prompt, _PAINTING_SEED * 1_000_000_000 + seed))
    return _generator().generate(requests)


@lru_cache(maxsize=1)
def _generator() -> Any:
    from controller.generators.diffusers_pipeline import DiffusersGenerator

    return DiffusersGenerator.load(_bundled(GENERATOR), batch_size=_PAINTED_AT_ONCE, exact=False)


@lru_cache(maxsize=1)
def _autoencoder() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(_bundled(GENERATOR / "vae")).eval()


def _bundled(folder: Path) -> Path:
    if not folder.is_dir():
        raise CheckpointError(f"the bundled generator is missing in {folder}: `make train-tabletop` makes it")
    return folder
