"""What a person asked for, by which a run is taken up again, and indexes from a picture to its round."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """One table, and one index for each column that names a picture."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id"),
    )
    for table, column in (
        ("rounds", "image"),
        ("candidates", "painted"),
        ("regions", "picture"),
        ("results", "image"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column])
