"""The commands of `legion`, one file each: its options, and what it does.

Every module has `add(commands)`, which registers its parser and handler with flows/cli.py. Nothing heavy is
imported before a command runs.
"""
