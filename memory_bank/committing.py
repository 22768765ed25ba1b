"""Every step of both loops, each committed once: content first, then one transaction with all its rows.

Pictures and masks are stored before the transaction that names them, so a row never points at a file that
was not written; a crash in between leaves a file that nothing names, which does no harm.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from contracts.errors import AlreadyCommitted, MemoryBankError, ModelError
from contracts.records import (
    Answer,
    Candidate,
    Diagnosis,
    Finding,
    Image,
    LeftOut,
    ModelCall,
    RegionPlan,
    Repair,
    Review,
    Revision,
    Round,
    Score,
    Trial,
    Verdict,
)
from memory_bank.costs import keep_calls
from memory_bank.experience import learn
from memory_bank.holding import Holding
from memory_bank.rows import finite, held_run, now, region_row, round_row
from memory_bank.settings import check_run_id, check_seed, check_text
from memory_bank.tables import (
    CandidateRow,
    FindingRow,
    LeftOutRow,
    RegionRow,
    ResultRow,
    ReviewRow,
    RevisionRow,
    RoundRow,
    RunRow,
    ScoreRow,
    StepRow,
    VerdictRow,
)


class Committing(Holding):
    """The part of the memory bank that commits steps."""

    def open_round(self, run_id: str, index: int, prompt: str, seed: int) -> Round:
        """Begin round `index` (1, then one more each time). Raises AlreadyCommitted."""
        check_text(prompt, "prompt")
        check_seed(seed)

        def rows(session: Session, run: RunRow) -> None:
            last = session.scalars(select(RoundRow.round_index).where(RoundRow.run_pk == run.id)).all()
            if index != len(last) + 1:
                raise MemoryBankError(f"run {run_id} cannot open round {index}: {len(last) + 1} is next")
            session.add(RoundRow(run_pk=run.id, round_index=int(index), prompt=prompt, seed=int(seed)))
            run.round_count = int(index)

        self._commit(run_id, index, "open", None, rows)
        return Round(index=int(index), prompt=prompt, seed=int(seed))

    def commit_image(
        self, run_id: str, index: int, image: Image, seconds: float, calls: Sequence[ModelCall] = ()
    ) -> str:
        """Store the uint8 (H, W, 3) picture and return its digest. Raises AlreadyCommitted."""
        digest = self._store.put_image(image)

        def rows(session: Session, run: RunRow) -> None:
            round_row(session, run, index).image = digest

        self._commit(run_id, index, "image", seconds, rows, calls=calls)
        return digest

    def commit_diagnosis(
        self, run_id: str, index: int, diagnosis: Diagnosis, seconds: float, calls: Sequence[ModelCall] = ()
    ) -> None:
        """Store the findings with their bool (H, W) masks. Raises AlreadyCommitted, ModelError for NaN."""
        probability = diagnosis.synthetic_probability
        if probability is not None:
            probability = finite(probability, "synthetic probability")
        confidences = [finite(f.confidence, f"confidence of {f.phrase!r}") for f in diagnosis.findings]
        masks = [self._store.put_mask(finding.mask) for finding in diagnosis.findings]

        def rows(session: Session, run: RunRow) -> None:
            row = round_row(session, run, index)
            row.answer, row.synthetic_probability = diagnosis.answer, probability
            kept = zip(diagnosis.findings, confidences, masks, strict=True)
            session.add_all(
                FindingRow(
                    round_pk=row.id,
                    ordinal=ordinal,
                    phrase=finding.phrase,
                    explanation=finding.explanation,
                    category=finding.category,
                    confidence=confidence,
                    mask=mask,
                )
                for ordinal, (finding, confidence, mask) in enumerate(kept)
            )

        self._commit(run_id, index, "diagnosis", seconds, rows, calls=calls)

    def commit_scores(
        self,
        run_id: str,
        index: int,
        scores: Sequence[Score],
        seconds: float,
        calls: Sequence[ModelCall] = (),
    ) -> None:
        """Store the scores in their order. Raises AlreadyCommitted, ModelError for NaN."""
        values = [finite(score.value, f"score {score.name}") for score in scores]

        def rows(session: Session, run: RunRow) -> None:
            row = round_row(session, run, index)
            session.add_all(
                ScoreRow(
                    round_pk=row.id, ordinal=ordinal, name=score.name, version=score.version, value=value
                )
                for ordinal, (score, value) in enumerate(zip(scores, values, strict=True))
            )

        self._commit(run_id, index, "scores", seconds, rows, calls=calls)

    def commit_verdict(self, run_id: str, index: int, verdict: Verdict, trials: Sequence[Trial] = ()) -> None:
        """Store the gate's word on the round, and what it taught. Raises AlreadyCommitted."""

        def rows(session: Session, run: RunRow) -> None:
            row = round_row(session, run, index)
            session.add(
                VerdictRow(
                    round_pk=row.id, accepted=bool(verdict.accepted), reason=verdict.reason, stop=verdict.stop
                )
            )
            learn(session, run.kind, row.id, 0, trials)

        self._commit(run_id, index, "verdict", None, rows)

    def commit_review(self, run_id: str, index: int, review: Review) -> None:
        """Store a person's word on the round. Raises AlreadyCommitted."""
        for text, what in ((review.prompt, "prompt"), (review.note, "note"), (review.who, "name")):
            check_text(text, what)
        limits = {name: finite(value, name) for name, value in review.thresholds.items()}

        def rows(session: Session, run: RunRow) -> None:
            session.add(
                ReviewRow(
                    round_pk=round_row(session, run, index).id,
                    decision=review.decision,
                    who=review.who,
                    decided_at=review.when,
                    prompt=review.prompt,
                    thresholds=limits,
                    note=review.note,
                )
            )

        self._commit(run_id, index, "review", None, rows)

    def commit_revision(
        self, run_id: str, index: int, revision: Revision, seconds: float, calls: Sequence[ModelCall] = ()
    ) -> None:
        """Store the prompt for the next round. Raises AlreadyCommitted."""
        check_text(revision.prompt, "revised prompt")

        def rows(session: Session, run: RunRow) -> None:
            row = round_row(session, run, index)
            session.add(
                RevisionRow(
                    round_pk=row.id,
                    prompt=revision.prompt,
                    addressed=list(revision.addressed),
                    reason=revision.reason,
                    answers=_answer_values(revision.answers),
                )
            )

        self._commit(run_id, index, "revision", seconds, rows, calls=calls)

    def commit_plan(
        self, run_id: str, index: int, regions: Sequence[RegionPlan], left_out: Sequence[LeftOut]
    ) -> None:
        """Store what is to be repaired, numbered from 1, and what not. Raises AlreadyCommitted."""
        planned = [self._region_values(region) for region in regions]
        passed = [
            (self._finding_values(x.findings), self._store.put_mask(x.mask), x.reason) for x in left_out
        ]

        def rows(session: Session, run: RunRow) -> None:
            row = round_row(session, run, index)
            session.add_all(
                RegionRow(round_pk=row.id, ordinal=ordinal, **values)
                for ordinal, values in enumerate(planned, start=1)
            )
            session.add_all(
                LeftOutRow(round_pk=row.id, ordinal=ordinal, findings=findings, mask=mask, reason=reason)
                for ordinal, (findings, mask, reason) in enumerate(passed)
            )

        self._commit(run_id, index, "plan", None, rows)

    def commit_region_prompt(
        self,
        run_id: str,
        index: int,
        region: int,
        prompt: str,
        seconds: float,
        answers: Sequence[Answer] = (),
        calls: Sequence[ModelCall] = (),
    ) -> None:
        """Store what the painter is told about a region, and what is new in it. Raises AlreadyCommitted."""
        check_text(prompt, "region's prompt")

        def rows(session: Session, run: RunRow) -> None:
            row = region_row(session, run, index, region)
            row.prompt, row.answers = prompt, _answer_values(answers)

        self._commit(run_id, index, "prompt", seconds, rows, region, calls=calls)

    def commit_painting(
        self,
        run_id: str,
        index: int,
        region: int,
        candidate: int,
        image: Image,
        seed: int,
        seconds: float,
        calls: Sequence[ModelCall] = (),
    ) -> str:
        """Store the painted crop, uint8 (h, w, 3), and return its digest. Raises AlreadyCommitted."""
        check_seed(seed)
        digest = self._store.put_image(image)

        def rows(session: Session, run: RunRow) -> None:
            row = region_row(session, run, index, region)
            session.add(CandidateRow(region_pk=row.id, ordinal=candidate, seed=int(seed), painted=digest))

        self._commit(run_id, index, "paint", seconds, rows, region, candidate, calls)
        return digest

    def commit_look(
        self,
        run_id: str,
        index: int,
        region: int,
        candidate: int,
        look: Candidate,
        seconds: float,
        calls: Sequence[ModelCall] = (),
    ) -> None:
        """Store what was measured on the picture with a candidate, and the gate's word on it.

        Raises AlreadyCommitted, ModelError for NaN or a measurement that is missing.
        """
        if look.diagnosis is None or look.scores is None or look.seam is None or look.accepted is None:
            raise ModelError(f"candidate {candidate} of region {region} was not measured: nothing to commit")
        values = {
            "diagnosis": self._diagnosis_values(look.diagnosis),
            "scores": [
                {"name": s.name, "version": s.version, "value": finite(s.value, f"score {s.name}")}
                for s in look.scores
            ],
            "seam": finite(look.seam, "seam"),
            "outside": look.outside,
            "accepted": bool(look.accepted),
            "reason": look.reason,
        }

        def rows(session: Session, run: RunRow) -> None:
            painted = region_row(session, run, index, region).candidates
            row = next((c for c in painted if c.ordinal == candidate), None)
            if row is None:
                raise MemoryBankError(f"candidate {candidate} of region {region} of {run_id} is not painted")
            for name, value in values.items():
                setattr(row, name, value)

        self._commit(run_id, index, "look", seconds, rows, region, candidate, calls)

    def commit_repair(
        self,
        run_id: str,
        index: int,
        region: int,
        repair: Repair,
        picture: Image | None,
        trials: Sequence[Trial] = (),
    ) -> str | None:
        """Store what became of a region and what it taught, and the whole picture with it if it was accepted;
        its digest.

        Raises AlreadyCommitted, ModelError if the verdict is missing or does not go with the picture.
        """
        if repair.accepted is None or repair.accepted != (picture is not None):
            raise ModelError(f"region {region} of round {index} is decided without a picture, or undecided")
        digest = None if picture is None else self._store.put_image(picture)

        def rows(session: Session, run: RunRow) -> None:
            row = region_row(session, run, index, region)
            row.accepted, row.reason, row.chosen = bool(repair.accepted), repair.reason, repair.chosen
            row.picture = digest
            learn(session, run.kind, row.round_pk, region, trials)

        self._commit(run_id, index, "repair", None, rows, region)
        return digest

    def commit_result(self, run_id: str, index: int, image: str, outside: str) -> None:
        """Store the digests of the picture after the round and of all pixels outside the supports.

        Raises AlreadyCommitted.
        """

        def rows(session: Session, run: RunRow) -> None:
            row = round_row(session, run, index)
            session.add(ResultRow(round_pk=row.id, image=image, outside=outside))

        self._commit(run_id, index, "result", None, rows)

    def _commit(
        self,
        run_id: str,
        index: int,
        step: str,
        seconds: float | None,
        rows: Callable[[Session, RunRow], None],
        region: int = 0,
        candidate: int = 0,
        calls: Sequence[ModelCall] = (),
    ) -> None:
        """One transaction: the run is still ours, the step is new, its rows and those of its model calls are
        written.

        If the connection is lost while it is committed, the moment tells on the next try whether it was.
        """
        check_run_id(run_id)
        moment, place_of = now(), (int(index), step, int(region), int(candidate))
        tries = itertools.count()

        def work(session: Session) -> None:
            run = held_run(session, run_id)
            if next(tries) and _committed_at(session, run, place_of) == moment:
                return
            done = StepRow(
                run_pk=run.id,
                round_index=int(index),
                step=step,
                region=int(region),
                candidate=int(candidate),
                seconds=None if seconds is None else float(seconds),
                committed_at=moment,
            )
            session.add(done)
            try:
                session.flush()
            except IntegrityError as error:
                place = _place(index, region, candidate)
                raise AlreadyCommitted(
                    f"step {step!r} of {place} of run {run_id} was already committed; "
                    "load the run and go on from its next step"
                ) from error
            keep_calls(session, done.id, run.settings, calls)
            rows(session, run)

        self._database.write(work)

    def _region_values(self, region: RegionPlan) -> dict[str, Any]:
        return {
            "findings": self._finding_values(region.findings),
            "core": self._store.put_mask(region.core),
            "weights": self._store.put_weights(region.weights),
            "crop": [int(side) for side in region.crop],
            "target": [int(side) for side in region.target],
            "gain": finite(region.gain, "gain"),
        }

    def _finding_values(self, findings: Sequence[Finding]) -> list[dict[str, Any]]:
        """Findings as JSON, their masks in the store."""
        return [
            {
                "phrase": f.phrase,
                "explanation": f.explanation,
                "category": f.category,
                "confidence": finite(f.confidence, f"confidence of {f.phrase!r}"),
                "mask": self._store.put_mask(f.mask),
            }
            for f in findings
        ]

    def _diagnosis_values(self, diagnosis: Diagnosis) -> dict[str, Any]:
        probability = diagnosis.synthetic_probability
        return {
            "findings": self._finding_values(diagnosis.findings),
            "answer": diagnosis.answer,
            "synthetic_probability": None
            if probability is None
            else finite(probability, "synthetic probability"),
        }


def _committed_at(session: Session, run: RunRow, place: tuple[int, str, int, int]) -> str | None:
    key = (StepRow.round_index, StepRow.step, StepRow.region, StepRow.candidate)
    same = [column == value for column, value in zip(key, place, strict=True)]
    return session.scalar(select(StepRow.committed_at).where(StepRow.run_pk == run.id, *same))


def _place(index: int, region: int, candidate: int) -> str:
    """`round 2`, `round 2, region 1`, `round 2, region 1, candidate 3`."""
    named = (("round", index), ("region", region), ("candidate", candidate))
    return ", ".join(f"{name} {number}" for name, number in named if number)


def _answer_values(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    return [asdict(answer) for answer in answers]
