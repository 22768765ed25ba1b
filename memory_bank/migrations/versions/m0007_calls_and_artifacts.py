"""Every model call by its step, in the place of two records of what language models took; and files made."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

TAKEN = ("requests", "input_tokens", "output_tokens", "usd")
"""Columns of both, the first of which was called `calls`."""


def upgrade() -> None:
    """Two tables; what is known of language models' calls moves there."""
    calls = op.create_table(
        "model_calls",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("step_pk", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("batch", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("usd", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["step_pk"], ["steps.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("step_pk", "ordinal"),
    )
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_pk", sa.Integer(), nullable=False),
        sa.Column("machine", sa.String(length=255), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_pk", "machine", "place"),
    )
    op.create_index("ix_artifacts_digest", "artifacts", ["digest"])
    columns = ("step_pk", "ordinal", "part", "model", "seconds", *TAKEN)
    for taken in (_of_revisions(), _of_regions()):
        op.execute(calls.insert().from_select(columns, taken))
    op.drop_table("revision_usage")
    op.drop_column("regions", "usage")


def _of_revisions() -> sa.Select[Any]:
    usage = _table("revision_usage", "revision_pk", "calls", *TAKEN[1:])
    revisions = _table("revisions", "id", "round_pk")
    taken = [usage.c[name] for name in ("calls", *TAKEN[1:])]
    return _calls(revisions.c.round_pk, "revision", sa.literal(0), taken).join_from(
        revisions, usage, usage.c.revision_pk == revisions.c.id
    )


def _of_regions() -> sa.Select[Any]:
    regions = sa.table("regions", *map(sa.column, ("round_pk", "ordinal")), sa.column("usage", sa.JSON))
    numbers = [regions.c.usage[name].as_integer() for name in ("calls", "input_tokens", "output_tokens")]
    taken = [*numbers, regions.c.usage["usd"].as_float()]
    return _calls(regions.c.round_pk, "prompt", regions.c.ordinal, taken).where(regions.c.usage.is_not(None))


def _calls(round_pk: Any, step: str, region: Any, taken: list[Any]) -> sa.Select[Any]:
    """The rows of a modifier's calls for a step of the rounds that `round_pk` names."""
    rounds = _table("rounds", "id", "run_pk", "round_index")
    steps = _table("steps", "id", "run_pk", "round_index", "step", "region", "seconds")
    runs = sa.table("runs", sa.column("id"), sa.column("settings", sa.JSON))
    said = runs.c.settings["modifier"]
    model = sa.func.coalesce(said["model"].as_string(), said["name"].as_string(), "modifier")
    seconds = sa.func.coalesce(steps.c.seconds, 0.0)
    return sa.select(steps.c.id, sa.literal(0), sa.literal("modifier"), model, seconds, *taken).where(
        rounds.c.id == round_pk,
        runs.c.id == rounds.c.run_pk,
        steps.c.run_pk == rounds.c.run_pk,
        steps.c.round_index == rounds.c.round_index,
        steps.c.step == step,
        steps.c.region == region,
    )


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *map(sa.column, columns))
