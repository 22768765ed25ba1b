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
from contracts.protocols import Defender, Generator, PromptModifier, Scorer
from controller.generators.diffusers_inpainting import DiffusersInpainter
from controller.generators.diffusers_pipeline import DiffusersGenerator
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
from flows.language_profile import ModifierProfile
from flows.profiles import (
    DefenderProfile,
    GeneratorProfile,
    Profile,
    ScorerProfile,
    changed,
    changed_modifier,
    load_profile,
)
from prompts import load_lexicon
from servers.budget import Budget


@lru_cache(maxsize=1)
def regeneration_tools(profile_name: str) -> RegenerationTools:
    """Everything the regeneration loop works with. Raises InvalidInput and CheckpointError."""
    profile = load_profile(profile_name)
    generator = _generator(profile.generator, profile.device)
    selection, *reporting = scorers(profile_name)
    return RegenerationTools(
        generator=generator,
        defender=defender(profile_name),
        selection_scorer=selection,
        reporting_scorers=tuple(reporting),
        modifier=_modifier(profile.modifier, generator),
    )


def with_modifier(
    tools: RegenerationTools, profile_name: str, changes: Mapping[str, object]
) -> RegenerationTools:
    """The same tools with another modifier; `changes` are values of its section of the profile. Raises
    InvalidInput, CheckpointError, and ModelError if a server does not say what it offers."""
    section = changed_modifier(load_profile(profile_name).modifier, changes)
    return replace(tools, modifier=_modifier(section, tools.generator))


@lru_cache(maxsize=1)
def defender(profile_name: str, **changes: object) -> Defender:
    """The defender alone, for those who only want a diagnosis; `changes` are values of its section of the
    profile. Raises InvalidInput and CheckpointError.
    """
    profile = load_profile(profile_name)
    section = changed(profile.defender, changes)
    loaded: Defender = (
        legion(profile_name, **changes) if section.kind == "legion" else _vision(section, profile)
    )
    if section.tiles > 1:
        loaded = TiledDefender(loaded, Tiling(section.tiles, min_confidence=section.tile_confidence))
    asked_twice = any(section.kind == "artifact-area" for section in _scorer_sections(profile))
    return RememberingDefender(loaded) if asked_twice else loaded


def _vision(section: DefenderProfile, profile: Profile) -> VisionDefender:
    """A vision model on a server, with SAM if the profile names its weights."""
    sam = SamBoxes.load(section.path, section.device or profile.device) if section.path else None
    settings = VisionSettings(tries=section.tries, min_confidence=section.min_confidence)
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
    profile = load_profile(profile_name)
    section = changed(profile.defender, changes)
    if section.kind != "legion":
        raise InvalidInput(f"the defender of profile '{profile.name}' is a vision model: this needs LEGION")
    return LegionDefender.load(
        _present(section.path, "defender"),
        section.device or profile.device,
        section.dtype,
        section.batch_size,
        four_bit=section.four_bit,
    )


@lru_cache(maxsize=1)
def scorers(profile_name: str) -> tuple[Scorer, ...]:
    """The profile's scorers, the selecting one first. Raises InvalidInput and CheckpointError."""
    profile = load_profile(profile_name)
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
    return load_scorer(section.kind, section.path, section.name, **options)


def _scorer_sections(profile: Profile) -> tuple[ScorerProfile, ...]:
    return (profile.selection_scorer, *profile.reporting_scorers)


@lru_cache(maxsize=1)
def inpainting_tools(
    profile_name: str, steps: int | None = None, guidance_scale: float | None = None
) -> InpaintingTools:
    """Everything the inpainting loop works with; steps and guidance are the profile's if None. Raises
    InvalidInput and CheckpointError."""
    profile = load_profile(profile_name)
    section = profile.inpainting
    shared = regeneration_tools(profile_name)
    sampling = {
        "steps": section.steps if steps is None else steps,
        "guidance_scale": section.guidance_scale if guidance_scale is None else guidance_scale,
        "batch_size": profile.generator.batch_size,
    }
    if section.path:
        folder = _present(section.path, "inpainter")
        dtype = profile.generator.dtype
        inpainter = DiffusersInpainter.load(folder, device=profile.device, dtype=dtype, **sampling)
    else:
        inpainter = DiffusersInpainter.share(shared.generator, **sampling)
    gate = RegionGateSettings(shared.selection_scorer.name, **section.gate.model_dump())
    return InpaintingTools(
        inpainter=inpainter,
        defender=shared.defender,
        selection_scorer=shared.selection_scorer,
        reporting_scorers=shared.reporting_scorers,
        modifier=shared.modifier,
        gate=MeasuredGate(gate),
    )


@lru_cache(maxsize=1)
def inpainting_tools(
    profile_name: str, steps: int | None = None, guidance_scale: float | None = None
) -> InpaintingTools:
    """Everything the inpainting loop works with; steps and guidance are the profile's if None. Raises
    InvalidInput and CheckpointError."""
    profile = load_profile(profile_name)
    section = profile.inpainting
    shared = regeneration_tools(profile_name)
    sampling: dict[str, Any] = {
        "steps": section.steps if steps is None else steps,
        "guidance_scale": section.guidance_scale if guidance_scale is None else guidance_scale,
        "batch_size": profile.generator.batch_size,
    }
    if section.path:
        folder = _present(section.path, "inpainter")
        dtype = profile.generator.dtype
        inpainter = DiffusersInpainter.load(folder, device=profile.device, dtype=dtype, **sampling)
    else:
        generator = shared.generator
        assert isinstance(generator, DiffusersGenerator)
        inpainter = DiffusersInpainter.share(generator, **sampling)
    gate = RegionGateSettings(shared.selection_scorer.name, **section.gate.model_dump())
    return InpaintingTools(
        inpainter=inpainter,
        defender=shared.defender,
        selection_scorer=shared.selection_scorer,
        reporting_scorers=shared.reporting_scorers,
        modifier=shared.modifier,
        gate=MeasuredGate(gate),
    )


def _generator(section: GeneratorProfile, device: str) -> DiffusersGenerator:
    return DiffusersGenerator.load(
        _present(section.path, "generator"),
        steps=section.steps,
        guidance_scale=section.guidance_scale,
        device=device,
        dtype=section.dtype,
        batch_size=section.batch_size,
    )


def _modifier(section: ModifierProfile, generator: Generator) -> PromptModifier:
    """The rules, or a language model with the rules behind it."""
    rules = RuleBasedModifier(load_lexicon(section.lexicon), getattr(generator, "fits", None))
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
    return LanguageModelModifier(chat, rules, settings, generator.unknown_words)


def _present(path: str, part: str) -> Path:
    """The folder, if there is one: a missing path is no reason to ask a hub for a model of that name."""
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(
            f"the {part}'s weights are missing in {folder}: `make train-tabletop` makes the bundled ones"
        )
    return folder
