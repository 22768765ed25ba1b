"""Adapters that turn picture and prompt into a Score; kinds.py lists them, importing one imports no other."""
