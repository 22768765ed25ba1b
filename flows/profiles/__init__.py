"""Profiles: which models a run uses and how, as TOML files with a section for each part."""
