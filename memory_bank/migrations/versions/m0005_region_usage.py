"""What a language model took to write a region's prompt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """One column."""
    op.add_column("regions", sa.Column("usage", sa.JSON(none_as_null=True), nullable=True))
