"""The only file that knows every concrete class: a profile becomes tools, once per process.

The bundled default takes the same path as any other profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from contracts.errors import CheckpointError, InvalidInput
from contracts.hub import hub_name
from contracts.protocols import Defender, Generator, Inpainter, PromptModifier, Scorer
from controller.generators import hub
from controller.generators.diffusers_inpainting import DiffusersInpainter
from controller.generators.diffusers_pipeline import DiffusersGenerator
from controller.generators.loading import Lora, best_device
from controller.generators.remote_images import RemoteGenerator, RemoteImageSettings, RemoteInpainter
from controller.generators.shelf import Shelf, ShelvedDefender, ShelvedScorer
from controller.inpainting import InpaintingTools
from controller.llm_modifier import LanguageModelModifier, RevisionSettings
from controller.modifiers import RuleBasedModifier
from controller.regeneration import RegenerationTools
from controller.region_gate import MeasuredGate, RegionGateSettings
from controller.scorers.artifact_area import ArtifactAreaScorer, RememberingDefender
from controller.scorers.kinds import load_scorer
from defender import checkpoint
from defender.checkpoint import Thresholds
from defender.legion_defender import LegionDefender
from defender.sam_boxes import SamBoxes
from defender.tiling import TiledDefender, Tiling
from defender.vision_defender import VisionDefender, VisionSettings
from flows.language_models import local_chat, price_given, remote_chat
from flows.profiles.generator import GeneratorProfile
from flows.profiles.language import ModifierProfile
from flows.profiles.loading import (
    DefenderProfile,
    Profile,
    ScorerProfile,
    changed,
    changed_generator,
    changed_modifier,
    load_profile,
)
from prompts import load_lexicon
from servers.budget import Budget
from servers.client import Server, ServerSettings

SHELF = Shelf()
"""Every model of this process that takes much memory, each loaded once: pipelines, LEGION, scorers."""


@lru_cache(maxsize=2)
def regeneration_tools(profile_name: str, own_modifier: bool = True, **painter: object) -> RegenerationTools:
    """Everything the regeneration loop works with; `painter` are values in place of those of the profile's
    generator. Without its own modifier, which may want a key or a server, rules stand there until
    `with_modifier` puts another. Raises InvalidInput and CheckpointError."""
    profile = _profile(profile_name, painter)
    if not own_modifier:
        rules = changed_modifier(profile.modifier, {"kind": "rules"})
        profile = profile.model_copy(update={"modifier": rules})
    generator = _generator(profile)
    around = _around(generator, profile_name, profile, profile.looking)
    return RegenerationTools(generator=generator, **around)


def with_modifier(
    tools: RegenerationTools, profile_name: str, changes: Mapping[str, object]
) -> RegenerationTools:
    """The same tools with another modifier; `changes` are values of its section of the profile. Raises
    InvalidInput, CheckpointError, and ModelError if a server does not say what it offers."""
    painter: Any = tools.generator
    return replace(tools, modifier=_changed_modifier(profile_name, tuple(changes.items()), painter))


@lru_cache(maxsize=2)
def _changed_modifier(
    profile_name: str, changes: tuple[tuple[str, object], ...], painter: Generator
) -> PromptModifier:
    """Kept between the calls of a worker: it knows what its server takes, and when that failed."""
    return _modifier(changed_modifier(load_profile(profile_name).modifier, dict(changes)), painter)


@lru_cache(maxsize=2)
def defender(profile_name: str, **changes: object) -> Defender:
    """The defender alone, for those who only want a diagnosis; `changes` are values of its section of the
    profile. Raises InvalidInput and CheckpointError.
    """
    profile = _profile(profile_name)
    section = changed(profile.defender, changes)
    loaded: Defender = _vision(section, profile) if section.kind == "vlm" else _legion(section, profile)
    if section.tiles > 1:
        loaded = TiledDefender(loaded, Tiling(section.tiles, min_confidence=section.tile_confidence))
    asked_twice = any(section.kind == "artifact-area" for section in _scorer_sections(profile))
    return RememberingDefender(loaded) if asked_twice else loaded


def generator(profile_name: str, exact: bool | None = None) -> Generator:
    """The generator alone; `exact` is as for `DiffusersGenerator.load`. Raises InvalidInput and
    CheckpointError."""
    return _generator(_profile(profile_name), exact)


def inpainter(profile_name: str, exact: bool | None = None) -> Inpainter:
    """The inpainter alone, as `generator`."""
    return _inpainter(_profile(profile_name), None, None, exact)


def modifier(profile_name: str, painter: Generator | Inpainter) -> PromptModifier:
    """The modifier alone, writing what this painter reads. Raises as `with_modifier`."""
    return _modifier(load_profile(profile_name).modifier, painter)


def remembering(defender: Defender, pictures: int) -> Defender:
    """The defender, which looks at none of the last `pictures` again."""
    return RememberingDefender(defender, pictures)


def area_scorer(name: str, defender: Defender) -> Scorer:
    """The share of a picture in which this defender finds nothing."""
    return ArtifactAreaScorer(name, defender)


def profile_scorer(section: ScorerProfile, profile_name: str) -> Scorer:
    """One scorer on the profile's device. Raises InvalidInput and CheckpointError."""
    return scorer(section, profile_name, _profile(profile_name).device)


def _vision(section: DefenderProfile, profile: Profile) -> VisionDefender:
    """A vision model on a server, with SAM if the profile names its weights."""
    sam = SamBoxes.load(section.path, section.device or profile.device) if section.path else None
    settings = VisionSettings(
        tries=section.tries,
        min_confidence=section.min_confidence,
        budget=Budget(**section.budget.model_dump()),
        price=price_given(section),
    )
    return VisionDefender(remote_chat(section), sam, settings)


def defender_folder(profile_name: str, given: Path | None = None) -> Path:
    """Where the defender's checkpoint lies: as given, or as the profile says. Raises CheckpointError."""
    path = str(given.expanduser()) if given else load_profile(profile_name).defender.path
    return _present(path, "defender").resolve()


def save_thresholds(folder: Path, thresholds: Thresholds) -> None:
    """Write thresholds into a defender's checkpoint. Raises CheckpointError if it cannot be written."""
    try:
        checkpoint.save_thresholds(folder, thresholds)
    except OSError as error:
        raise CheckpointError(
            f"cannot write to {folder} ({error.strerror}): calibrate a copy with --out"
        ) from error


def legion(profile_name: str, **changes: object) -> LegionDefender:
    """The profile's LEGION itself, whole view and no memory, for those who look inside: evaluation and
    calibration. `changes` and errors as for `defender`.
    """
    profile = _profile(profile_name)
    section = changed(profile.defender, changes)
    if section.kind != "legion":
        raise InvalidInput(f"the defender of profile '{profile.name}' is a vision model: this needs LEGION")
    return _load_legion(section, profile)


def _legion(section: DefenderProfile, profile: Profile) -> ShelvedDefender:
    """LEGION from the shelf. Raises CheckpointError."""
    place = section.path, section.clip, section.sam
    kept = section.device or profile.device, section.dtype, section.four_bit, section.batch_size
    key = ("defender", *place, *kept)
    limit = section.artifact_probability
    return ShelvedDefender(
        SHELF,
        key,
        lambda: _load_legion(section, profile),
        f"artifact probability {limit}",
        lambda legion: legion if limit is None else legion.at(artifact_probability=limit),
    )


def _load_legion(section: DefenderProfile, profile: Profile) -> LegionDefender:
    return LegionDefender.load(
        _present(section.path, "defender"),
        section.device or profile.device,
        section.dtype,
        section.batch_size,
        four_bit=section.four_bit,
        clip=section.clip or None,
        sam=section.sam or None,
    )


@lru_cache(maxsize=1)
def scorers(profile_name: str) -> tuple[Scorer, ...]:
    """The profile's scorers, the selecting one first. Raises InvalidInput and CheckpointError."""
    profile = _profile(profile_name)
    return tuple(scorer(section, profile_name, profile.device) for section in _scorer_sections(profile))


def scorer(section: ScorerProfile, profile_name: str, device: str) -> Scorer:
    """One scorer; "artifact-area" asks the profile's defender. Raises InvalidInput and CheckpointError."""
    if section.kind == "artifact-area":
        return ArtifactAreaScorer(section.name, defender(profile_name), section.min_confidence)
    options: dict[str, object] = {
        "device": device,
        "dtype": section.dtype,
        "batch_size": section.batch_size,
    }
    if section.kind == "hpsv2":
        options["antialias"] = section.antialias
    kind, path, name = section.kind, section.path, section.name
    key = ("scorer", kind, path, name, *options.items())
    return ShelvedScorer(SHELF, key, lambda: load_scorer(kind, path, name, **options))


def _scorer_sections(profile: Profile) -> tuple[ScorerProfile, ...]:
    return (profile.selection_scorer, *profile.reporting_scorers)


@lru_cache(maxsize=1)
def inpainting_tools(
    profile_name: str, steps: int | None = None, guidance_scale: float | None = None, **painter: object
) -> InpaintingTools:
    """Everything the inpainting loop works with; steps and guidance are the profile's if None, `painter` is
    as for `regeneration_tools`. Raises InvalidInput and CheckpointError."""
    profile = _profile(profile_name, painter)
    inpainter = _inpainter(profile, steps, guidance_scale)
    around = _around(inpainter, profile_name, profile, {})
    limits = profile.inpainting.gate.model_dump()
    gate = MeasuredGate(RegionGateSettings(around["selection_scorer"].name, **limits))
    return InpaintingTools(inpainter=inpainter, gate=gate, **around)


def _around(
    painter: Generator | Inpainter, profile_name: str, profile: Profile, looking: Mapping[str, object]
) -> dict[str, Any]:
    """The parts that both loops have, for that painter; `looking` is changed about the defender."""
    selection, *reporting = scorers(profile_name)
    return {
        "defender": defender(profile_name, **looking),
        "selection_scorer": selection,
        "reporting_scorers": tuple(reporting),
        "modifier": _modifier(profile.modifier, painter),
    }


def _profile(name: str, painter: Mapping[str, object] | None = None) -> Profile:
    """The profile with another painter, and with a device that is here where it leaves that open."""
    profile = changed_generator(load_profile(name), painter or {})
    return profile.model_copy(update={"device": best_device()}) if profile.device == "auto" else profile


def _generator(profile: Profile, exact: bool | None = None) -> Generator:
    section = profile.generator
    if section.kind == "openai-images":
        return RemoteGenerator(*_remote(section))
    sampling: dict[str, Any] = {"steps": section.steps, "guidance_scale": section.guidance_scale}
    if exact is not None:
        sampling["exact"] = exact
    options = {**_painting(profile), **sampling}
    return DiffusersGenerator.load(_painter_path(section.path, "generator"), **options)


def _inpainter(
    profile: Profile, steps: int | None, guidance_scale: float | None, exact: bool | None = None
) -> Inpainter:
    """The profile's own inpainter, or one over the generator's weights, which are loaded once."""
    section = profile.inpainting
    sampling: dict[str, Any] = {
        "steps": section.steps if steps is None else steps,
        "guidance_scale": section.guidance_scale if guidance_scale is None else guidance_scale,
    }
    if (exact := section.exact if exact is None else exact) is not None:
        sampling["exact"] = exact
    if not section.path and profile.generator.kind == "openai-images":
        return RemoteInpainter(*_remote(profile.generator))
    if not section.path:
        generator = _generator(profile)
        assert isinstance(generator, DiffusersGenerator)
        return DiffusersInpainter.share(generator, batch_size=profile.generator.batch_size, **sampling)
    options = {**_painting(profile), "loras": (), "variant": section.variant, **sampling}
    return DiffusersInpainter.load(_painter_path(section.path, "inpainter"), **options)


def _painting(profile: Profile) -> dict[str, Any]:
    """What a generator and an inpainter of one profile have in common."""
    section = profile.generator
    same = ("dtype", "variant", "offload", "quantize", "vae_tiling", "vae_slicing")
    size = ("width", "height", "max_sequence_length", "batch_size", "exact")
    return {
        **{name: getattr(section, name) for name in (*same, *size)},
        "loras": tuple(Lora(lora.path, lora.scale) for lora in section.loras),
        "device": profile.device,
        "shelf": SHELF,
    }


def _remote(section: GeneratorProfile) -> tuple[Server, RemoteImageSettings]:
    """A painter's server, and how it is to paint. Raises InvalidInput without a key where one is needed."""
    place = ServerSettings(section.base_url, section.key_variable, section.timeout, section.attempts)
    return Server(place), RemoteImageSettings(section.model, section.width, section.height, section.quality)


def on_this_machine(name: str, variant: str = "") -> bool:
    """Are all weights of a name on the hub here? Asks no network."""
    return hub.present(name, variant) is not None


def _painter_path(path: str, part: str) -> Path | str:
    """A name on the hub as it is, a folder if it exists."""
    return path if hub_name(path) else _present(path, part)


def _modifier(section: ModifierProfile, painter: Generator | Inpainter) -> PromptModifier:
    """The rules, or a language model with the rules behind it."""
    rules = RuleBasedModifier(load_lexicon(section.lexicon), getattr(painter, "fits", None))
    if section.kind == "rules":
        return rules
    settings = RevisionSettings(
        tries=section.tries,
        examples=section.examples,
        budget=Budget(**section.budget.model_dump()),
        price=price_given(section),
        concurrency=section.concurrency,
    )
    chat = local_chat(section) if section.kind == "local" else remote_chat(section)
    return LanguageModelModifier(chat, rules, settings, getattr(painter, "unknown_words", _no_words))


def _no_words(_prompt: str) -> list[str]:
    """Of a painter with an open vocabulary no word is unknown."""
    return []


def _present(path: str, part: str) -> Path:
    """The folder, if there is one: a missing path is no reason to ask a hub for a model of that name."""
    folder = Path(path)
    if folder.is_file() and part == "defender":
        raise CheckpointError(
            f"{folder} is a file, not a folder: `legion weights import {folder} DST --config DIR "
            "--clip DIR` makes one of it (docs/checkpoints.md)"
        )
    if not folder.is_dir():
        raise CheckpointError(
            f"the {part}'s weights are missing in {folder}: `legion doctor` says how to get them"
        )
    return folder
