"""Alembic's scripts, one file per released change of the tables. A released file is never edited again."""
