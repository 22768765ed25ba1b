"""A profile as a studio: what programs give to `controller.regenerate` and `controller.inpaint`.

No Prefect here. With LEGION_TOOLS=workers the models are those of workers (flows/tools.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from contracts.protocols import MemoryBank
from controller.inpainting import InpaintingSettings, InpaintingTools
from controller.regeneration import RegenerationSettings, RegenerationTools
from controller.studio import Studio
from flows import tools
from flows.jobs import inpainting, regeneration
from flows.profiles.loading import changed_generator, changed_modifier, load_profile
from memory_bank import open_memory_bank


def open_studio(
    profile: str = "tabletop",
    bank: MemoryBank | None = None,
    *,
    generator: Mapping[str, object] | None = None,
    modifier: Mapping[str, object] | None = None,
) -> Studio:
    """A studio with the models of a profile, each loaded once and when it is first needed.

    `profile` is a bundled name or the path of a .toml; `bank` is where runs are kept, by default where the
    commands keep theirs. `generator` and `modifier` are values in place of those of the profile's sections,
    such as `generator={"steps": 30}`. Raises InvalidInput for what a profile cannot have, and
    MemoryBankError; models that are missing raise CheckpointError when they are needed.
    """
    chosen = changed_generator(load_profile(profile), generator or {})
    changed_modifier(chosen.modifier, modifier or {})
    painting = regeneration.make_job(profile, chosen, [], "", 0, modifier=modifier, painter=generator)
    repairing = inpainting.make_job(profile, chosen, [], "", painter=generator)

    @cache
    def for_regeneration() -> tuple[RegenerationTools, RegenerationSettings]:
        return tools.regeneration_tools(painting), painting.settings()

    @cache
    def for_inpainting() -> tuple[InpaintingTools, InpaintingSettings]:
        return tools.inpainting_tools(repairing), repairing.settings()

    return Studio(bank or open_memory_bank(), for_regeneration, for_inpainting, _new_ids)


def _new_ids(subjects: Sequence[str]) -> list[str]:
    return regeneration.run_ids(regeneration.new_run_id(subjects), len(subjects))
