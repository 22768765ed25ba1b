"""The rows of the memory bank.

A `steps` row is the proof that a step was done. It is written in the same transaction as the step's other
rows, and its unique key makes a second commit of that step impossible. Whether a round has a diagnosis or
scores is read from `steps`, because a diagnosis without findings has no rows of its own.

A change here needs a script in migrations/versions/ that makes the same change in a database there is.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """Common base; its metadata lists every table."""


class RunRow(Base):
    """A run and who holds it. `id` grows with every new run, so it orders them without trusting clocks.

    The indexes for listings, `ix_runs_by_...`, and that over the words of prompts and ids (`run_words` on
    SQLite, a GIN index on PostgreSQL) are made by the migration alone.
    """

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(32))
    prompt: Mapped[str] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    settings: Mapped[dict[str, Any]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(String(16))
    created: Mapped[str] = mapped_column(String(40))
    lease_holder: Mapped[str | None] = mapped_column(String(400), index=True)
    lease_heartbeat: Mapped[float | None]
    lease_expiry: Mapped[float | None]
    """Both in seconds since 1970, UTC."""
    trials_before: Mapped[int | None] = mapped_column(BigInteger)
    """The latest trial when the run began. What it is told is not newer, so it does not depend on what runs
    beside it, in its own batch or elsewhere."""
    earlier_settings: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    """Settings it had before a person changed them half way, and how many rounds were open then."""
    round_count: Mapped[int] = mapped_column(default=0, server_default="0")
    """Rounds that were begun, so that runs can be sorted by it."""
    rounds: Mapped[list[RoundRow]] = relationship(order_by="RoundRow.round_index")
    steps: Mapped[list[StepRow]] = relationship(order_by="StepRow.id")


class JobRow(Base):
    """What a person asked for: enough to take the run up again, or to do it anew. Kept before the run begins,
    so it names the run by its id."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(String(64), unique=True)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)


class RoundRow(Base):
    """One round, with what is single in it."""

    __tablename__ = "rounds"
    __table_args__ = (UniqueConstraint("run_pk", "round_index"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_pk: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    round_index: Mapped[int]
    prompt: Mapped[str] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    image: Mapped[str | None] = mapped_column(String(64), index=True)
    answer: Mapped[str | None] = mapped_column(Text)
    synthetic_probability: Mapped[float | None]
    findings: Mapped[list[FindingRow]] = relationship(order_by="FindingRow.ordinal")
    scores: Mapped[list[ScoreRow]] = relationship(order_by="ScoreRow.ordinal")
    review: Mapped[ReviewRow | None] = relationship()
    verdict: Mapped[VerdictRow | None] = relationship()
    revision: Mapped[RevisionRow | None] = relationship()
    regions: Mapped[list[RegionRow]] = relationship(order_by="RegionRow.ordinal")
    left_out: Mapped[list[LeftOutRow]] = relationship(order_by="LeftOutRow.ordinal")
    result: Mapped[ResultRow | None] = relationship()


class StepRow(Base):
    """One committed step. Region and candidate count from 1; 0 is a step of the whole round or region."""

    __tablename__ = "steps"
    __table_args__ = (UniqueConstraint("run_pk", "round_index", "step", "region", "candidate"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_pk: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    round_index: Mapped[int]
    step: Mapped[str] = mapped_column(String(32))
    region: Mapped[int]
    candidate: Mapped[int]
    seconds: Mapped[float | None]
    committed_at: Mapped[str] = mapped_column(String(40))
    calls: Mapped[list[ModelCallRow]] = relationship(order_by="ModelCallRow.ordinal")


class ModelCallRow(Base):
    """What one model did for a step: the sample's share of one call."""

    __tablename__ = "model_calls"
    __table_args__ = (UniqueConstraint("step_pk", "ordinal"),)
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    step_pk: Mapped[int] = mapped_column(ForeignKey("steps.id"))
    ordinal: Mapped[int]
    part: Mapped[str] = mapped_column(String(16))
    """Generator, inpainter, defender, scorer or modifier."""
    model: Mapped[str] = mapped_column(Text)
    """A language model's own name, or else the tool's."""
    digest: Mapped[str | None] = mapped_column(Text)
    """Of the weights, where the run's settings have one."""
    batch: Mapped[int | None]
    """Samples that the call was for; not known of calls from before schema 0007."""
    seconds: Mapped[float]
    """The sample's share."""
    requests: Mapped[int]
    """How often a language model was asked; 0 for other models."""
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    usd: Mapped[float]
    """US dollars; 0 where no price is known."""


class ArtifactRow(Base):
    """A file that was written for a person: where it lies, and what is in it."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("run_pk", "machine", "place"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_pk: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    machine: Mapped[str] = mapped_column(String(255))
    place: Mapped[str] = mapped_column(Text)
    """Absolute path on that machine."""
    kind: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(64), index=True)
    """sha256 of the file's bytes."""
    size: Mapped[int] = mapped_column(BigInteger)
    made_at: Mapped[str] = mapped_column(String(40))


class FindingRow(Base):
    """One artifact of a diagnosis; its mask lies in the store."""

    __tablename__ = "findings"
    __table_args__ = (UniqueConstraint("round_pk", "ordinal"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    round_pk: Mapped[int] = mapped_column(ForeignKey("rounds.id"))
    ordinal: Mapped[int]
    phrase: Mapped[str] = mapped_column(Text)
    explanation: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(String(32))
    confidence: Mapped[float]
    mask: Mapped[str] = mapped_column(String(64))


class ScoreRow(Base):
    """One score of a round's picture."""

    __tablename__ = "scores"
    __table_args__ = (UniqueConstraint("round_pk", "ordinal"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    round_pk: Mapped[int] = mapped_column(ForeignKey("rounds.id"))
    ordinal: Mapped[int]
    name: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    value: Mapped[float]


class VerdictRow(Base):
    """The gate's word on a round."""

    __tablename__ = "verdicts"
    id: Mapped[int] = mapped_column(primary_key=True)
    round_pk: Mapped[int] = mapped_column(ForeignKey("rounds.id"), unique=True)
    accepted: Mapped[bool]
    reason: Mapped[str] = mapped_column(Text)
    stop: Mapped[str | None] = mapped_column(Text)


class ReviewRow(Base):
    """A person's word on a round."""

    __tablename__ = "reviews"
    id: Mapped[int] = mapped_column(primary_key=True)
    round_pk: Mapped[int] = mapped_column(ForeignKey("rounds.id"), unique=True)
    decision: Mapped[str] = mapped_column(String(32))
    who: Mapped[str] = mapped_column(Text)
    decided_at: Mapped[str] = mapped_column(String(40))
    prompt: Mapped[str] = mapped_column(Text)
    thresholds: Mapped[dict[str, float]] = mapped_column(JSON)
    note: Mapped[str] = mapped_column(Text)


class RevisionRow(Base):
    """The prompt for the next round."""

    __tablename__ = "revisions"
    id: Mapped[int] = mapped_column(primary_key=True)
    round_pk: Mapped[int] = mapped_column(ForeignKey("rounds.id"), unique=True)
    prompt: Mapped[str] = mapped_column(Text)
    addressed: Mapped[list[str]] = mapped_column(JSON)
    reason: Mapped[str] = mapped_column(Text)
    answers: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))


class RegionRow(Base):
    """One region of an inpainting round. Findings are plain data whose masks lie in the store."""

    __tablename__ = "regions"
    __table_args__ = (UniqueConstraint("round_pk", "ordinal"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    round_pk: Mapped[int] = mapped_column(ForeignKey("rounds.id"))
    ordinal: Mapped[int]
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    core: Mapped[str] = mapped_column(String(64))
    weights: Mapped[str] = mapped_column(String(64))
    crop: Mapped[list[int]] = mapped_column(JSON)
    target: Mapped[list[int]] = mapped_column(JSON)
    gain: Mapped[float]
    prompt: Mapped[str | None] = mapped_column(Text)
    answers: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    accepted: Mapped[bool | None]
    reason: Mapped[str] = mapped_column(Text, default="")
    chosen: Mapped[int | None]
    picture: Mapped[str | None] = mapped_column(String(64), index=True)
    candidates: Mapped[list[CandidateRow]] = relationship(order_by="CandidateRow.ordinal")


class CandidateRow(Base):
    """One painting of a region, and what was measured on the picture with it."""

    __tablename__ = "candidates"
    __table_args__ = (UniqueConstraint("region_pk", "ordinal"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    region_pk: Mapped[int] = mapped_column(ForeignKey("regions.id"))
    ordinal: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    painted: Mapped[str] = mapped_column(String(64), index=True)
    diagnosis: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    scores: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    seam: Mapped[float | None]
    outside: Mapped[str | None] = mapped_column(String(64))
    accepted: Mapped[bool | None]
    reason: Mapped[str] = mapped_column(Text, default="")


class LeftOutRow(Base):
    """One area of an inpainting round that is not repaired."""

    __tablename__ = "left_out"
    __table_args__ = (UniqueConstraint("round_pk", "ordinal"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    round_pk: Mapped[int] = mapped_column(ForeignKey("rounds.id"))
    ordinal: Mapped[int]
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    mask: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)


class ResultRow(Base):
    """The picture after an inpainting round, and the proof that nothing outside changed."""

    __tablename__ = "results"
    id: Mapped[int] = mapped_column(primary_key=True)
    round_pk: Mapped[int] = mapped_column(ForeignKey("rounds.id"), unique=True)
    image: Mapped[str] = mapped_column(String(64), index=True)
    outside: Mapped[str] = mapped_column(String(64))


class LessonRow(Base):
    """What all trials of some words against one kind of flaw came to so far."""

    __tablename__ = "lessons"
    __table_args__ = (
        UniqueConstraint("painter", "kind", "category", "topic", "words"),
        Index("ix_lessons_best_known", "painter", "kind", "category", "topic", "tried"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    painter: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(32))
    category: Mapped[str] = mapped_column(String(32))
    topic: Mapped[str] = mapped_column(String(64))
    words: Mapped[str] = mapped_column(String(200))
    phrase: Mapped[str] = mapped_column(Text)
    """A finding's phrase. The search index is over the topic and this: `lesson_words` on SQLite, GIN indexes
    on PostgreSQL, both made by the migration."""
    tried: Mapped[int] = mapped_column(index=True)
    gone: Mapped[int]
    gain: Mapped[float]
    """Sum over the trials whose change of score is known."""
    gains: Mapped[int]


class TrialRow(Base):
    """One trial, and what its lesson's sums came to with it: so any earlier moment can be asked about."""

    __tablename__ = "trials"
    __table_args__ = (
        UniqueConstraint("round_pk", "region", "lesson_pk"),
        Index("ix_trials_lesson_pk_id", "lesson_pk", "id"),
    )
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    lesson_pk: Mapped[int] = mapped_column(ForeignKey("lessons.id"))
    round_pk: Mapped[int] = mapped_column(ForeignKey("rounds.id"))
    region: Mapped[int]
    was_gone: Mapped[bool]
    tried: Mapped[int]
    gone: Mapped[int]
    gain: Mapped[float]
    gains: Mapped[int]


class RecollectionRow(Base):
    """What a round or region was told of earlier runs. It names the run by its id: to do a run anew, it is
    kept before the run begins."""

    __tablename__ = "recollections"
    __table_args__ = (UniqueConstraint("run_id", "round_index", "region"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(String(64))
    round_index: Mapped[int]
    region: Mapped[int]
    lessons: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
