"""The flows behind the forms of `legion ui`.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.context import FlowRunContext

from contracts.errors import LegionError
from flows.jobs import regeneration as jobs
from flows.profiles.loading import changed_generator, load_profile
from flows.regeneration import run_regeneration
from flows.serving.parameters import RegenerationForm
from flows.serving.showing import flow_name


def _name(kind: str, noun: str) -> Any:
    def name() -> str:
        from prefect.runtime import flow_run

        return flow_name(kind, subjects(flow_run.parameters["form"]), noun)

    return name


def subjects(form: Any) -> list[str]:
    """What a form asks about, as far as it can be told before it is checked."""
    values = form if isinstance(form, dict) else form.model_dump()
    first = values.get("prompt") or values.get("picture") or "no words"
    return [str(first), *values.get("more_prompts", [])]


@flow(name="regenerate", flow_run_name=_name("regenerate", "prompt"), persist_result=False)
def regenerate(form: RegenerationForm) -> None:
    """Paint a prompt, find the flaws, improve the prompt, paint again; the best round is kept."""
    run_regeneration(regeneration_job(form, _moment_and_id()), form.approval.asked())


def regeneration_job(form: RegenerationForm, fresh: tuple[Any, str]) -> jobs.Job:
    """The form as a job; `fresh` are the moment and the letters of a new run's id. Raises InvalidInput."""
    prompts = jobs.check_prompts([form.prompt, *form.more_prompts])
    painter = {"steps": form.steps} if form.steps else {}
    profile = changed_generator(load_profile(form.profile), painter)
    return jobs.make_job(
        form.profile,
        profile,
        prompts,
        form.run_id or jobs.new_run_id(prompts, *fresh),
        form.seed,
        form.rounds,
        None,
        _modifier(form),
        painter,
    )


def _modifier(form: RegenerationForm) -> dict[str, object]:
    """What the form says about the modifier, as values of the profile's section."""
    kind = None if form.modifier == "profile" else form.modifier
    named = {
        "kind": kind,
        "gguf" if kind == "local" else "model": form.llm_model or None,
        "base_url": form.llm_base_url or None,
    }
    return {key: value for key, value in named.items() if value is not None}


def _moment_and_id() -> tuple[Any, str]:
    """When this flow run was asked for, and four letters of its id: tried again, it finds its run again."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise LegionError("this is a flow: start it from its form")
    return context.flow_run.created, context.flow_run.id.hex[-4:]


FLOWS = (regenerate,)
"""In the order of the page."""
