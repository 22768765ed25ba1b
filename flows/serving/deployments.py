"""The flows behind the forms of `legion ui`.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image as Pillow
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun

from contracts.errors import InvalidInput, LegionError, RunNotFound
from flows.inpainting import run_inpainting
from flows.jobs import inpainting
from flows.jobs import regeneration as jobs
from flows.jobs.inpainting import InpaintingJob, readable
from flows.profiles.loading import changed_generator, load_profile
from flows.regeneration import run_regeneration
from flows.serving.board import board_here
from flows.serving.cancelling import flow_run_here
from flows.serving.parameters import (
    BenchmarkForm,
    EvaluationForm,
    InpaintingForm,
    RegenerationForm,
    TrainingForm,
)
from flows.serving.places import inside, pictures_folder, reports_folder
from flows.serving.relaying import publish, run_command
from flows.serving.showing import flow_name
from memory_bank import open_memory_bank
from memory_bank.places import home


def _name(kind: str, noun: str) -> Any:
    def name() -> str:
        from prefect.runtime import flow_run

        about = subjects(flow_run.parameters["form"])
        return flow_name(kind, about[0], len(about), noun)

    return name


def subjects(form: Any) -> list[str]:
    """What a form asks about, as far as it can be told before it is checked."""
    values = form if isinstance(form, dict) else form.model_dump()
    names = ("picture", "prompt", "name", "dataset", "prompts", "format")
    first = next((values[name] for name in names if values.get(name)), "no words")
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


@flow(name="inpaint", flow_run_name=_name("inpaint", "picture"), persist_result=False)
def inpaint(form: InpaintingForm) -> None:
    """Repair the flaws of a picture region by region; every pixel outside the regions stays as it is."""
    job, failures = readable(inpainting_job(form, _moment_and_id()))
    for path, reason in failures:
        get_run_logger().warning("Left out: %s", reason if path in reason else f"{path}: {reason}")
    if not job.cases:
        raise InvalidInput(failures[0][1])
    run_inpainting(job, form.approval.asked())


def inpainting_job(form: InpaintingForm, fresh: tuple[Any, str]) -> InpaintingJob:
    """The form as a job. Raises InvalidInput, also for whatever is not below the pictures' folder."""
    folder = pictures_folder()
    mask, protect = (inside(folder, name) if name else None for name in (form.mask, form.protect))
    picture, prompt = _picture(form.picture, form.prompt, folder)
    requests = inpainting.requests_for([picture], prompt, form.seed, mask, protect)
    for request in requests:  # links in a folder and lines of a file may lead elsewhere
        if picture.is_relative_to(folder):
            for path in (request.path, request.mask, request.protect):
                inside(folder, str(path or folder))
    return inpainting.make_job(
        form.profile,
        load_profile(form.profile),
        requests,
        form.run_id or inpainting.new_run_id(requests, lambda names: jobs.new_run_id(names, *fresh)),
        regions={"min_confidence": form.min_confidence or None},
        rounds=form.rounds,
        candidates=form.candidates,
    )


def _picture(named: str, prompt: str, folder: Path) -> tuple[Path, str]:
    """The file, and its words: of a picture below the folder, or of what an earlier run returned."""
    try:
        return inside(folder, named), prompt
    except InvalidInput as error:
        found = _returned_by(named)
        if found is None:
            raise InvalidInput(f"{error}; nor is it the id of a run") from None
    path, words = found
    return path, prompt or words


def _returned_by(run_id: str) -> tuple[Path, str] | None:
    """The picture that a run returned, as a file, and its prompt; None if there is no such run."""
    bank = open_memory_bank()
    try:
        run = bank.load(jobs.check_run_id(run_id))
    except (InvalidInput, RunNotFound):
        return None
    if run.result is None:
        raise InvalidInput(f"run {run_id} has returned no picture yet")
    path = home().absolute() / "returned" / f"{run_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(bank.image(run.result)).save(path)
    return path, run.prompt


@flow(name="benchmark", flow_run_name=_name("benchmark", "prompt"), persist_result=False)
def benchmark(form: BenchmarkForm) -> None:
    """Compare the loop with drawing again as often, on equal budgets."""
    words = ["--n", str(form.n), "--seeds", str(form.seeds), "--arms", form.arms, "--profile", form.profile]
    words += ["--budget", str(form.budget)] if form.budget else []
    named = form.prompts in ("tabletop", "hpdv2")
    prompts = form.prompts if named else str(inside(pictures_folder(), form.prompts))
    key = _report_name("benchmark")
    out = reports_folder() / key
    with closing(board_here(profile=form.profile, kind="benchmark")) as board:
        run_command(["benchmark", "--prompts", prompts, *words, "--no-prefect", "--out", str(out)], board)
        publish(f"benchmark on {form.prompts}", key, out / "table.md", True, board)


@flow(name="evaluate", flow_run_name=_name("evaluate", "data set"), persist_result=False)
def evaluate(form: EvaluationForm) -> None:
    """Measure a defender."""
    data = [str(inside(pictures_folder(), form.dataset))] if form.dataset else []
    limit = ["--limit", str(form.limit)] if form.limit else []
    key = _report_name("evaluate")
    out = reports_folder() / key
    words = ["--format", form.format, "--split", form.split, *limit, "--profile", form.profile]
    with closing(board_here(profile=form.profile, kind="evaluation")) as board:
        run_command(["evaluate", form.task, *data, *words, "--out", str(out)], board)
        publish(f"{form.task} on {form.dataset or form.format}", key, out / "table.md", False, board)


@flow(name="train", flow_run_name=_name("train", "data set"), persist_result=False)
def train(form: TrainingForm) -> None:
    """Train a defender on your own pictures, or go on with a training that was stopped."""
    data, out = inside(pictures_folder(), form.dataset), home().absolute() / "trained" / form.name
    words = ["--format", form.format, "--split", form.split, "--stage", form.stage]
    words += ["--steps", str(form.steps)] if form.steps else []
    words += ["--batch-size", str(form.batch_size)] if form.batch_size else []
    with closing(board_here(kind="training")) as board:
        facts = run_command(["train", "network", str(data), *words, "--out", str(out)], board)
    get_run_logger().info("The checkpoint: %s", facts.get("best") or facts.get("last"))


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
    run = _this_run()
    return run.created, run.id.hex[-4:]


def _report_name(kind: str) -> str:
    """The folder for this flow run's report: tried again, it finds what is finished."""
    return f"{kind}-{_this_run().id.hex[-8:]}"


def _this_run() -> FlowRun:
    run = flow_run_here()
    if run is None:
        raise LegionError("this is a flow: start it from its form")
    return run


FLOWS = (regenerate, inpaint, benchmark, evaluate, train)
"""In the order of the page."""
