"""Options, constants and small helpers that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contracts.protocols import MemoryBank

DEFAULT_OUT = Path("out")
INTERRUPTED = 130


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of every command."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout and nothing else"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--verbose", action="store_true", help="show what the libraries say")


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    """Where results go."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder for the report, pictures and masks (default: {default})",
    )


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Which models."""
    parser.add_argument(
        "--profile",
        default="tabletop",
        help="which models: a bundled name or your own .toml (default: tabletop)",
    )


def waiting(what: str) -> Any:
    """A spinner on stderr while something takes long."""
    from flows.console import waiting

    return waiting(what)


def bank() -> MemoryBank:
    """The memory bank that the settings name."""
    from memory_bank import open_memory_bank

    return open_memory_bank()
