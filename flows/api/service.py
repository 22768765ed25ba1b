"""What each route of the API does, without HTTP around it."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from pydantic import BaseModel

from contracts.errors import InvalidInput, RunNotFound
from contracts.records import Image, Mask, Round, Run
from controller.prompt_rules import clean_prompt
from flows.api import bodies
from flows.api.notices import Notices
from flows.api.pictures import Pictures
from flows.api.queue import KeyReused, QueueFull, State, Submission, SubmissionQueue
from flows.api.refusals import Refusal, conflict, not_found, queue_full
from flows.api.runner import Runner, Work
from flows.api.settings import ApiSettings
from flows.files.output import score_table
from flows.files.picture_files import read_picture, write_result
from flows.files.pictures import marked
from flows.jobs import inpainting, regeneration
from flows.profiles.loading import changed_generator, load_profile
from memory_bank import SqlMemoryBank

STOP_SECONDS = 20.0
"""How long a server that ends waits for the step at hand."""
RETRY_AT_MOST = 600


class Service:
    """The queue, the runner, the pictures and the bank of one server."""

    def __init__(self, settings: ApiSettings, bank: SqlMemoryBank, work: Work) -> None:
        """`work` does a job. Raises InvalidInput and LegionError if the profile or the folder cannot be
        used."""
        self.settings, self.bank = settings, bank
        self._profile = load_profile(settings.profile)
        folder = settings.folder
        self.pictures = Pictures(
            folder / "pictures", settings.upload_bytes, settings.pictures_bytes, settings.folders
        )
        self.queue = SubmissionQueue(folder / "queue.sqlite3", settings.queue)
        self.notices = Notices()
        self.runner = Runner(self.queue, self.notices, work, self._profile.generator.batch_size)

    def start(self) -> None:
        """Begin to work the queue off."""
        self.runner.start()

    def stop(self) -> None:
        """Break off at the next step; what is unfinished is taken up at the next start."""
        if self.runner.stop(STOP_SECONDS):
            self.queue.close()
            self.bank.close()

    # --- asking --------------------------------------------------------------------------------------------

    def regenerate(self, asked: bodies.RegenerationAsked, key: str | None) -> tuple[Submission, bool]:
        """Accept a run that paints; and whether it is new. Raises Refusal."""
        prompt = _usable(clean_prompt, asked.prompt)
        named = asked.model_dump(include={"steps", "guidance_scale", "width", "height"})
        painter = {name: value for name, value in named.items() if value is not None}
        profile = _usable(changed_generator, self._profile, painter)

        def make() -> tuple[str, Mapping[str, Any]]:
            run_id = regeneration.new_run_id([prompt])
            job = regeneration.make_job(
                self.settings.profile,
                profile,
                [prompt],
                run_id,
                asked.seed,
                asked.rounds,
                painter=painter,
            )
            return run_id, job.as_parameters()

        return self._submit("regeneration", make, asked, key)

    def inpaint(self, asked: bodies.InpaintingAsked, key: str | None) -> tuple[Submission, bool]:
        """Accept a run that repairs; and whether it is new. Raises Refusal."""
        prompt = _usable(clean_prompt, asked.prompt) if asked.prompt.strip() else ""
        picture = self.pictures.find(asked.picture)
        mask, protect = (
            None if name is None else self.pictures.find_mask(name, picture, protected).path
            for name, protected in ((asked.mask, False), (asked.protect, True))
        )
        request = inpainting.PictureRequest(picture.path, prompt, asked.seed, mask, protect)
        names = {"rounds", "candidates", "tries", "strength", "steps", "guidance_scale"}
        changes = asked.model_dump(include=names)

        def make() -> tuple[str, Mapping[str, Any]]:
            run_id = regeneration.new_run_id([prompt or "picture"])
            job = inpainting.make_job(self.settings.profile, self._profile, [request], run_id, **changes)
            return run_id, job.as_parameters()

        return self._submit("inpainting", make, asked, key)

    def _submit(
        self,
        kind: str,
        make: Callable[[], tuple[str, Mapping[str, Any]]],
        asked: BaseModel,
        key: str | None,
    ) -> tuple[Submission, bool]:
        request = hashlib.sha256(f"{kind} {asked.model_dump_json()}".encode()).hexdigest()
        try:
            submission, new = self.queue.submit(kind, make, request, key)
        except QueueFull as error:
            raise self._full() from error
        except KeyReused as error:
            raise Refusal(422, "key_reused", str(error)) from error
        except InvalidInput as error:
            raise Refusal(422, "invalid", str(error)) from error
        if new:
            self.notices.add(submission.run_id, "state", state="queued")
            self.runner.wake()
        return submission, new

    def cancel(self, run_id: str) -> Submission:
        """Cancel a run: at once if it waits, at its next step if it is worked on; nothing if it has ended.
        Raises Refusal."""
        submission = self.submission(run_id)
        if self.queue.cancel_waiting(run_id):
            self.notices.add(run_id, "end", state="cancelled")
        elif submission.state in ("queued", "running"):
            self.runner.cancel(run_id)
        return self.submission(run_id)

    def resume(self, run_id: str) -> Submission:
        """Let a cancelled or failed run go on where it stood. Raises Refusal."""
        submission = self.submission(run_id)
        try:
            resumed = self.queue.resume(run_id)
        except QueueFull as error:
            raise self._full() from error
        if not resumed:
            raise conflict("not_stopped", f"run {run_id} is {submission.state}: nothing to take up again")
        self.notices.add(run_id, "state", state="queued")
        self.runner.wake()
        return self.submission(run_id)

    def _full(self) -> Refusal:
        seconds = self.runner.seconds_per_run * self.settings.queue / 4
        return queue_full(self.settings.queue, round(min(max(seconds, 1), RETRY_AT_MOST)))

    # --- looking -------------------------------------------------------------------------------------------

    def submission(self, run_id: str) -> Submission:
        """An accepted run. Raises Refusal."""
        found = self.queue.get(run_id)
        if found is None:
            raise not_found(f"run {run_id}")
        return found

    def state(self, submission: Submission) -> bodies.RunState:
        """A run as it stands."""
        run = self._run(submission, outline=True)
        place = f"/v1/runs/{submission.run_id}"
        case = submission.job["cases"][0]
        queued = submission.state == "queued"
        links = {"self": place, "events": f"{place}/events", "cancel": f"{place}/cancel"}
        if run is not None and run.result is not None:
            links |= {"result": f"{place}/result", "report": f"{place}/report"}
        return bodies.RunState(
            run_id=submission.run_id,
            kind=submission.kind,  # type: ignore[arg-type]  # as it was submitted
            state=submission.state,
            prompt=case["prompt"],
            seed=case["seed"],
            waiting=self.queue.position(submission) if queued else None,
            error=submission.error or None,
            submitted=_moment(submission.submitted),
            ended=None if submission.ended is None else _moment(submission.ended),
            rounds=[] if run is None else [bodies.RoundShort(**_short(item)) for item in run.rounds],
            best=None if run is None or run.best is None else run.best.index,
            links=links,
        )

    def latest(self, limit: int, state: State | None, before: int | None) -> bodies.RunList:
        """Runs, newest first."""
        found = self.queue.latest(limit, state, before)
        more = f"/v1/runs?limit={limit}&before={found[-1].number}" if len(found) == limit else None
        if more and state:
            more += f"&state={state}"
        return bodies.RunList(runs=[self.state(item) for item in found], next=more)

    def round(self, run_id: str, index: int) -> bodies.RoundWhole:
        """One round with its findings. Raises Refusal."""
        item = self._round(run_id, index)
        place = f"/v1/runs/{run_id}/rounds/{index}"
        found = item.diagnosis.findings if item.diagnosis is not None else ()
        return bodies.RoundWhole(
            **_short(item),
            seed=item.seed,
            found=[
                bodies.FindingShown(
                    phrase=finding.phrase,
                    explanation=finding.explanation,
                    category=finding.category,
                    confidence=finding.confidence,
                    box=finding.box,
                    area=finding.area,
                    mask=f"{place}/findings/{number}/mask",
                )
                for number, finding in enumerate(found, start=1)
            ],
            picture=f"{place}/picture" if item.image is not None else None,
            seconds=dict(item.seconds),
        )

    def round_picture(self, run_id: str, index: int, with_findings: bool) -> bytes:
        """PNG of a round's picture, the findings drawn in if asked. Raises Refusal."""
        item = self._round(run_id, index)
        if item.image is None:
            raise not_found(f"picture of round {index} of run {run_id} yet")
        image = self.bank.image(item.image)
        found = item.diagnosis.findings if item.diagnosis is not None else ()
        return _png(marked(image, found) if with_findings else image)

    def mask(self, run_id: str, index: int, finding: int) -> bytes:
        """PNG of a finding's mask, white inside. Raises Refusal."""
        item = self._round(run_id, index)
        found = item.diagnosis.findings if item.diagnosis is not None else ()
        if not 1 <= finding <= len(found):
            raise not_found(f"finding {finding} in round {index} of run {run_id}")
        return _png(_gray(found[finding - 1].mask))

    def result(self, run_id: str) -> bytes:
        """PNG of what the run returns. Raises Refusal as long as there is none, and where the picture that
        was sent is gone, whose transparency and notes belong to it."""
        submission, run = self._ended(run_id)
        assert run.result is not None
        image = self.bank.image(run.result)
        if run.kind == "regeneration":
            return _png(image)
        sent = Path(submission.job["cases"][0]["path"])
        if not sent.is_file():
            rounds = "its rounds have the repaired one without its transparency and notes"
            raise Refusal(410, "gone", f"the picture that was sent for run {run_id} was removed: {rounds}")
        source = read_picture(sent)
        with tempfile.TemporaryDirectory() as folder:
            return write_result(source, image, Path(folder) / "result").read_bytes()

    def report(self, run_id: str) -> str:
        """The run's page. Raises Refusal as long as there is no result."""
        from flows.pages.inpainting_report import Named, render_repair_report
        from flows.pages.report import render_report

        _, run = self._ended(run_id)
        if run.kind == "regeneration":
            return render_report([run], self.bank.image)
        return render_repair_report([Named(run, run_id)], self.bank.image)

    def health(self) -> bodies.Health:
        """Is the server well?"""
        counts = self.queue.counts()
        return bodies.Health(
            status="ok",
            profile=Path(self.settings.profile).stem,
            queued=counts["queued"],
            running=counts["running"],
        )

    def _run(self, submission: Submission, outline: bool = False) -> Run | None:
        """The run in the memory bank; None while it has not begun."""
        try:
            read = self.bank.outline if outline else self.bank.load
            return read(submission.run_id)
        except RunNotFound:
            return None

    def _round(self, run_id: str, index: int) -> Round:
        run = self._run(self.submission(run_id))
        found = [] if run is None else [item for item in run.rounds if item.index == index]
        if not found:
            raise not_found(f"round {index} in run {run_id}")
        return found[0]

    def _ended(self, run_id: str) -> tuple[Submission, Run]:
        submission = self.submission(run_id)
        if submission.state in ("queued", "running"):
            raise conflict("not_ended", f"run {run_id} is {submission.state}: wait for its end")
        run = self._run(submission)
        if run is None or run.result is None:
            raise not_found(f"result of run {run_id}, which ended before its first one")
        return submission, run


def work_with(tools_for: Mapping[str, Callable[[Any], Any]], bank: SqlMemoryBank) -> Work:
    """Work in this process: the plain loop, with tools for a job of each kind."""
    execute: Mapping[str, Any] = {"regeneration": regeneration.execute, "inpainting": inpainting.execute}

    def work(kind: str, job: Any, listener: Callable[[Any], None]) -> None:
        execute[kind](job, tools_for[kind](job), bank, on_event=listener)

    return work


def _usable(check: Callable[..., Any], *values: Any) -> Any:
    try:
        return check(*values)
    except InvalidInput as error:
        raise Refusal(422, "invalid", str(error)) from error


def _short(item: Round) -> dict[str, Any]:
    verdict = item.verdict
    return {
        "index": item.index,
        "prompt": item.prompt,
        "findings": None if item.diagnosis is None else len(item.diagnosis.findings),
        "scores": dict(score_table(item)),
        "accepted": None if verdict is None else verdict.accepted,
        "reason": None if verdict is None else verdict.reason,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _gray(mask: Mask) -> Any:
    return mask.astype(np.uint8) * 255


def _png(picture: Image | Pillow.Image) -> bytes:
    buffer = io.BytesIO()
    shown = picture if isinstance(picture, Pillow.Image) else Pillow.fromarray(picture)
    shown.save(buffer, "PNG")
    return buffer.getvalue()
