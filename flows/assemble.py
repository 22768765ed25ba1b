"""The only file that knows every concrete class: a profile becomes tools, once per process.

The bundled default takes the same path as any other profile.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from contracts.errors import CheckpointError
from contracts.protocols import Defender, Scorer
from controller.generators.diffusers_pipeline import DiffusersGenerator
from controller.modifiers import RuleBasedModifier
from controller.regeneration import RegenerationTools
from controller.scorers.artifact_area import ArtifactAreaScorer, RememberingDefender
from controller.scorers.kinds import load_scorer
from defender.legion_defender import LegionDefender
from flows.profiles import GeneratorProfile, Profile, ScorerProfile, load_profile
from prompts import load_lexicon


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
        modifier=RuleBasedModifier(load_lexicon(profile.modifier.lexicon), generator.fits),
    )


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


def _present(path: str, part: str) -> Path:
    """The folder, if there is one: a missing path is no reason to ask a hub for a model of that name."""
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(
            f"the {part}'s weights are missing in {folder}: `make train-tabletop` makes the bundled ones"
        )
    return folder
