"""Alembic runs this. The connection comes from memory_bank/schema.py, inside its transaction."""

from __future__ import annotations

from alembic import context

from memory_bank.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
