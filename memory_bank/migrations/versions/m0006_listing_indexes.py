"""How many rounds a run has, and an index for every filter and order of a listing, words of prompts too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ORDERS = {
    "id": "id",
    "rounds": "round_count, id",
    "prompt": "lower(substr(prompt, 1, 200)), id DESC",
}
"""What a listing is sorted by. A whole prompt may be too long for an index of PostgreSQL."""
PARTS = {"finished": "status = 'finished'", "open": "status <> 'finished'"}


def upgrade() -> None:
    """One column, filled; indexes named `ix_runs_by_...`; and a search index in the database's own kind."""
    op.add_column("runs", sa.Column("round_count", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE runs SET round_count = (SELECT count(*) FROM rounds WHERE rounds.run_pk = runs.id)")
    for name, columns in ORDERS.items():
        if name != "id":
            op.execute(f"CREATE INDEX ix_runs_by_{name} ON runs ({columns})")
        op.execute(f"CREATE INDEX ix_runs_by_kind_{name} ON runs (kind, {columns})")
        for part, condition in PARTS.items():
            op.execute(f"CREATE INDEX ix_runs_by_{part}_{name} ON runs ({columns}) WHERE {condition}")
    op.execute("CREATE INDEX ix_runs_by_moment ON runs (created, id)")
    if op.get_bind().dialect.name == "sqlite":
        _search_sqlite()
    else:
        _search_postgresql()


def _search_sqlite() -> None:
    """FTS5 over the table itself, by groups of three characters; triggers keep it up to date."""
    op.execute(
        "CREATE VIRTUAL TABLE run_words USING fts5(prompt, run_id, content='runs', content_rowid='id', "
        "tokenize='trigram')"
    )
    new = "INSERT INTO run_words (rowid, prompt, run_id) VALUES (new.id, new.prompt, new.run_id);"
    old = (
        "INSERT INTO run_words (run_words, rowid, prompt, run_id) "
        "VALUES ('delete', old.id, old.prompt, old.run_id);"
    )
    for name, event, work in (
        ("insert", "INSERT", new),
        ("delete", "DELETE", old),
        ("update", "UPDATE OF prompt, run_id", old + new),
    ):
        op.execute(f"CREATE TRIGGER run_words_{name} AFTER {event} ON runs BEGIN {work} END")
    op.execute("INSERT INTO run_words (run_words) VALUES ('rebuild')")


def _search_postgresql() -> None:
    """The same groups in an array under GIN: what pg_trgm does, without an extension, which not every server
    has and not every user may install."""
    op.execute(
        "CREATE FUNCTION legion_trigrams(words text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS "
        # Characters beside each other: cutting pieces out of a text reads it anew for each of them.
        "$$ SELECT coalesce(array_agg(three), '{}') FROM ("
        "SELECT c || lead(c) OVER along || lead(c, 2) OVER along AS three "
        "FROM unnest(string_to_array(lower(words), NULL)) WITH ORDINALITY AS one (c, place) "
        "WINDOW along AS (ORDER BY place)) AS threes WHERE three IS NOT NULL $$"
    )
    op.execute(
        "CREATE INDEX ix_runs_by_words ON runs USING gin (legion_trigrams(prompt || chr(10) || run_id))"
    )
