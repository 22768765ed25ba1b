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
from controller.scorers.clip import ClipScorer
from defender.legion_defender import LegionDefender
from flows.profiles import GeneratorProfile, ScorerProfile, load_profile
from prompts import load_lexicon


@lru_cache(maxsize=1)
def regeneration_tools(profile_name: str) -> RegenerationTools:
    """Everything the regeneration loop works with. Raises InvalidInput and CheckpointError."""
    profile = load_profile(profile_name)
    generator = _generator(profile.generator, profile.device)
    return RegenerationTools(
        generator=generator,
        defender=defender(profile_name),
        selection_scorer=_scorer(profile.selection_scorer, profile.device),
        reporting_scorers=tuple(_scorer(section, profile.device) for section in profile.reporting_scorers),
        modifier=RuleBasedModifier(load_lexicon(profile.modifier.lexicon), generator.fits),
    )


@lru_cache(maxsize=1)
def defender(profile_name: str) -> Defender:
    """The defender alone, for those who only want a diagnosis. Raises InvalidInput and CheckpointError."""
    profile = load_profile(profile_name)
    return LegionDefender.load(_present(profile.defender.path, "defender"), profile.device)


def _generator(section: GeneratorProfile, device: str) -> DiffusersGenerator:
    return DiffusersGenerator.load(
        _present(section.path, "generator"),
        steps=section.steps,
        guidance_scale=section.guidance_scale,
        device=device,
        dtype=section.dtype,
        batch_size=section.batch_size,
    )


def _scorer(section: ScorerProfile, device: str) -> Scorer:
    return ClipScorer.load(_present(section.path, f"scorer '{section.name}'"), section.name, device)


def _present(path: str, part: str) -> Path:
    """The folder, if there is one: a missing path is no reason to ask a hub for a model of that name."""
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(
            f"the {part}'s weights are missing in {folder}: `make train-tabletop` makes the bundled ones"
        )
    return folder
