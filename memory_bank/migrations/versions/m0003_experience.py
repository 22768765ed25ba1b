"""What was tried against which flaw, what runs were told of it, and settings changed half way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Four columns, three tables, and a search index in the database's own kind."""
    op.add_column("runs", sa.Column("trials_before", sa.BigInteger(), nullable=True))
    for table, column in (("runs", "earlier_settings"), ("revisions", "answers"), ("regions", "answers")):
        op.add_column(table, sa.Column(column, sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "lessons",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("painter", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("category", sa.String(length=32), nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("words", sa.String(length=200), nullable=False),
        sa.Column("phrase", sa.Text(), nullable=False),
        sa.Column("tried", sa.Integer(), nullable=False),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.Column("gain", sa.Double(), nullable=False),
        sa.Column("gains", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("painter", "kind", "category", "topic", "words"),
    )
    op.create_index("ix_lessons_best_known", "lessons", ["painter", "kind", "category", "topic", "tried"])
    op.create_index("ix_lessons_tried", "lessons", ["tried"])
    op.create_table(
        "trials",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lesson_pk", sa.Integer(), nullable=False),
        sa.Column("round_pk", sa.Integer(), nullable=False),
        sa.Column("region", sa.Integer(), nullable=False),
        sa.Column("was_gone", sa.Boolean(), nullable=False),
        sa.Column("tried", sa.Integer(), nullable=False),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.Column("gain", sa.Double(), nullable=False),
        sa.Column("gains", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["lesson_pk"], ["lessons.id"]),
        sa.ForeignKeyConstraint(["round_pk"], ["rounds.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("round_pk", "region", "lesson_pk"),
    )
    op.create_index("ix_trials_lesson_pk_id", "trials", ["lesson_pk", "id"])
    op.create_table(
        "recollections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("round_index", sa.Integer(), nullable=False),
        sa.Column("region", sa.Integer(), nullable=False),
        sa.Column("lessons", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "round_index", "region"),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE lesson_words USING fts5(topic, phrase, content='', "
            "tokenize='porter unicode61')"
        )
    else:
        for column in ("topic", "phrase"):
            op.execute(
                f"CREATE INDEX ix_lessons_search_{column} ON lessons "
                f"USING gin (to_tsvector('english', {column}))"
            )
