"""The only file that knows every concrete class: a profile becomes tools, once per process.

The bundled default takes the same path as any other profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from contracts.errors import CheckpointError
from contracts.protocols import Defender, Generator, PromptModifier, Scorer
from controller.generators.diffusers_pipeline import DiffusersGenerator
from controller.llm_modifier import LanguageModelModifier, RevisionSettings
from controller.modifiers import RuleBasedModifier
from controller.regeneration import RegenerationTools
from controller.scorers.artifact_area import ArtifactAreaScorer, RememberingDefender
from controller.scorers.kinds import load_scorer
from defender.legion_defender import LegionDefender
from flows.language_models import local_chat, price_given, remote_chat
from flows.language_profile import ModifierProfile
from flows.profiles import GeneratorProfile, Profile, ScorerProfile, changed_modifier, load_profile
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
def defender(profile_name: str) -> Defender:
    """The defender alone, for those who only want a diagnosis. Raises InvalidInput and CheckpointError."""
    profile = load_profile(profile_name)
    loaded = LegionDefender.load(_present(profile.defender.path, "defender"), profile.device)
    asked_twice = any(section.kind == "artifact-area" for section in _scorer_sections(profile))
    return RememberingDefender(loaded) if asked_twice else loaded


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
