"""The `legion` command. Everything heavy is imported by the command that needs it, so that `--help` is quick.

stdout carries results, stderr everything else. Errors are one line and exit code 1; Ctrl-C is exit code 130.
The commands are in flows/commands/, one file each.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from contracts.errors import InvalidInput, LegionError
from flows.commands import (
    benchmark,
    calibrate,
    diagnose,
    doctor,
    evaluate,
    inpaint,
    memory,
    profiles,
    regenerate,
    resume,
    runs,
    score,
    serve,
    tabletop,
    train,
    ui,
    upkeep,
    weights,
    worker,
)
from flows.commands.options import INTERRUPTED

COMMANDS = (
    regenerate,
    inpaint,
    diagnose,
    score,
    runs,
    resume,
    memory,
    upkeep,
    ui,
    serve,
    worker,
    profiles,
    doctor,
    weights,
    benchmark,
    evaluate,
    calibrate,
    tabletop,
    train,
)
"""In the order of `legion --help`."""


class _Parser(argparse.ArgumentParser):
    """argparse that speaks like the rest: one line, exit code 1."""

    def error(self, message: str) -> NoReturn:
        if found := re.fullmatch(r"argument (\S+): invalid (int|float) value: '(.*)'", message, re.DOTALL):
            option, kind, given = found.groups()
            message = f"{option} is {given}: choose a {'whole number' if kind == 'int' else 'number'}"
        # What an option that does not exist leaves behind, where a further command may stand.
        if found := re.fullmatch(r"argument \[(\w+)\]: invalid choice: '(.*?)' .*", message, re.DOTALL):
            message = (
                f"{found[2]} was not expected: only {found[1]} may stand there, or an option is misspelt"
            )
        raise InvalidInput(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = _Parser(
        prog="legion",
        description="Paint from a prompt, find the flaws, improve the prompt, keep the best picture.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        if words[:1] == ["train"] and words[1:2] != [train.NETWORK]:
            return train.train(words[1:])
        arguments = build_parser().parse_args(words)
        if arguments.version:
            return _print_version()
        if arguments.command is None:
            build_parser().print_help(sys.stderr)
            return 1
        _quiet_libraries(arguments.verbose)
        handler: Callable[[argparse.Namespace, Sequence[str]], int] = arguments.handler
        return handler(arguments, words)
    except LegionError as error:
        return _fail(str(error), debug)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our stdout went away, as `head` does; without this Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", debug)


def _fail(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _print_version() -> int:
    from importlib.metadata import version

    print(f"legion {version('legion-studio')}")
    return 0


def _quiet_libraries(verbose: bool) -> None:
    """Keep loading bars and advice of libraries off the terminal; a person's own settings win."""
    if verbose:
        return
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DIFFUSERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TQDM_DISABLE", "1"),
        ("PYTHONWARNINGS", "ignore"),
    ):
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")


if __name__ == "__main__":
    sys.exit(main())
