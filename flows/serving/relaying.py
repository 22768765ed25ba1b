"""A form that runs a `legion` command: the same words as in a terminal, its lines in the run's log, its
tables on the run's pages. The command is a process of its own, which is interrupted, as by Ctrl-C, if the run
is cancelled.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from prefect import get_run_logger

from contracts.errors import LegionError
from flows.serving.board import Board, Page, show_progress
from flows.serving.showing import image_url

ENDING_SECONDS = 10.0
HEARING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""What a script starts in the background ignores SIGINT and hands that on; the command is to hear it."""
LEGION = f"{HEARING}from flows.cli import main; raise SystemExit(main())"
PROGRESS = re.compile(r": (\d+) of (\d+)$")
"""How `flows.terminal.progress.counting` says how far it is where there is no terminal."""


def run_command(words: Sequence[str], board: Board) -> dict[str, Any]:
    """Run `legion WORDS --json`; what it printed. The board shows how far it is. Raises LegionError with the
    command's own words if it fails."""
    log = get_run_logger()
    log.info("legion %s", " ".join(words))
    name = " ".join(words[:2])

    def hear(line: str) -> None:
        if share := PROGRESS.search(line):
            show_progress(board, int(share[1]) / max(1, int(share[2])), name)
        log.info(line)

    show_progress(board, 0.0, name)
    printed = relay([sys.executable, "-c", LEGION, *words, "--json"], hear)
    show_progress(board, 1.0, name)
    return cast(dict[str, Any], json.loads(printed))


def relay(command: Sequence[str], hear: Callable[[str], None]) -> str:
    """Run a command, pass on each line of its stderr, and return its stdout. Raises LegionError."""
    lines: list[str] = []
    with _process(command) as process:
        assert process.stdout is not None and process.stderr is not None
        out: list[str] = []
        reader = threading.Thread(target=lambda stream: out.append(stream.read()), args=(process.stdout,))
        reader.start()
        for line in process.stderr:
            if line.strip():
                lines.append(line.rstrip())
                hear(lines[-1].removeprefix("error: "))
        reader.join()
        code = process.wait()
    if code != 0:
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        raise LegionError(said[-1] if said else f"the command ended with exit code {code}")
    return "".join(out)


def publish(title: str, key: str, table: Path, has_page: bool, board: Board) -> None:
    """A table as Markdown and, where the folder of that name has a page, the link to it."""
    pages = [Page("markdown", table.read_text(encoding="utf-8"), title, key)]
    base = image_url()
    if has_page and base is not None:
        link = f"{base}/reports/{key}/report.html"
        pages.append(Page("markdown", f"[report: {title}]({link})", title, f"{key}-page"))
        get_run_logger().info("The report: %s", link)
    board.put("the table", lambda: pages)


@contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
