"""Where things are, and how Prefect is kept quiet and offline. Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
"""The folder that holds the rooms; the paths inside a bundled profile are relative to it."""

MAX_ROUNDS = 50
MAX_BATCH = 1024
MAX_CANDIDATES = 16

PREFECT_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The default of 20 s is close on slow machines, where a fresh Prefect home alone took 15 s; a server that
    # cannot start at all is given up only after this time.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "60",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}

PREFECT_QUIET = {
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    # Prefect's page gets what a run says, and the traceback of a failure; the terminal gets neither: the
    # command line has its own progress, and tells a failure once, in one line.
    "PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL": "INFO",
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}


def prepare_prefect(verbose: bool = False, environ: MutableMapping[str, str] | None = None) -> None:
    """Set what a quiet, offline Prefect needs, before `prefect` is imported; a person's own settings win.

    Prefect's home and API address are left as they are: whoever has a server sees the runs there, everybody
    else gets Prefect's temporary server and finds the runs later with `prefect server start`.
    """
    env = os.environ if environ is None else environ
    for name, value in PREFECT_DEFAULTS.items():
        env.setdefault(name, value)
    if not verbose:
        for name, value in PREFECT_QUIET.items():
            env.setdefault(name, value)
