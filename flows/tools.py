"""Which tools a job is done with: those of this process, or those of worker processes.

LEGION_TOOLS says so: `here` (the default) loads the profile's models in this process; `workers` asks the
processes started with `legion worker`, which this machine reaches through Prefect's server and the shared
store.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput

if TYPE_CHECKING:
    from controller.inpainting import InpaintingTools
    from controller.regeneration import RegenerationTools
    from flows.jobs.inpainting import InpaintingJob
    from flows.jobs.regeneration import Job

VARIABLE = "LEGION_TOOLS"
PLACES = ("here", "workers")


def with_workers() -> bool:
    """Do workers do the work of models? Raises InvalidInput for a word that LEGION_TOOLS does not know."""
    chosen = os.environ.get(VARIABLE) or PLACES[0]
    if chosen not in PLACES:
        raise InvalidInput(f"{VARIABLE} is {chosen!r}: write {' or '.join(PLACES)}")
    return chosen == "workers"


def regeneration_tools(job: Job) -> RegenerationTools:
    """What the regeneration loop works with. Raises InvalidInput, CheckpointError, and LegionError if
    workers cannot be reached."""
    if with_workers():
        from flows.workers import tools

        return tools.regeneration_tools(job, _ask(job.profile))
    from flows import assemble

    if not job.modifier:
        return assemble.regeneration_tools(job.profile, **job.painter)
    found = assemble.regeneration_tools(job.profile, own_modifier=False, **job.painter)
    return assemble.with_modifier(found, job.profile, job.modifier)


def inpainting_tools(job: InpaintingJob) -> InpaintingTools:
    """What the inpainting loop works with; raises as `regeneration_tools`."""
    if with_workers():
        from flows.workers import tools

        return tools.inpainting_tools(job, _ask(job.profile))
    from flows import assemble

    return assemble.inpainting_tools(job.profile, job.steps, job.guidance_scale, **job.painter)


@lru_cache(maxsize=4)
def _ask(profile: str) -> Any:
    from flows.settings import prepare_prefect

    prepare_prefect()
    from flows.workers.exchange import Exchange
    from flows.workers.tasks import ask_workers

    return ask_workers(profile, Exchange())
