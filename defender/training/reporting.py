"""What a training tells: FOLDER/NAME.jsonl, lines on stderr or a bar in a terminal, and a tracker.

Only the main process speaks. The log of a resumed run continues at its checkpoint: lines of steps that will
be made again are dropped, so that the file reads as if nothing had happened.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from contracts.errors import InvalidInput

Line = Mapping[str, Any]


def check_tracker(tracker: str | None) -> None:
    """Raises InvalidInput for a tracker that is unknown or not installed."""
    if tracker is None:
        return
    if tracker != "tensorboard":
        raise InvalidInput(f"there is no tracker called {tracker}: choose tensorboard")
    if not any(importlib.util.find_spec(name) for name in ("tensorboard", "tensorboardX")):
        raise InvalidInput(
            "the tensorboard tracker is not installed: run pip install 'legion-studio[tensorboard]'"
        )


class Reporter:
    """Speaks for one run; silent in every process but the main one."""

    def __init__(self, accelerator: Accelerator, name: str, folder: Path, steps: int, step: int) -> None:
        """`step` is where the run goes on; what the log says about later ones is dropped."""
        self.accelerator, self.name = accelerator, name
        self._speaks, self._steps = accelerator.is_main_process, steps
        self._console = Console(stderr=True)
        self._path = folder / f"{name}.jsonl"
        if self._speaks:
            _cut(self._path, step)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not (self._speaks and self._console.is_terminal),
        )
        self._task = self._bar.add_task(name, total=steps, completed=step, note="")
        if accelerator.trackers or accelerator.log_with:
            accelerator.init_trackers(name, init_kwargs={"tensorboard": {"purge_step": step}})

    def __enter__(self) -> Reporter:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self.accelerator.trackers:
            self.accelerator.end_training()

    def advance(self, step: int, loss: float) -> None:
        """After every step: moves the bar."""
        self._bar.update(self._task, completed=step, note=f"loss {loss:.3f}")

    def write(self, step: int, line: Line, kind: str = "train") -> None:
        """A line of the log, on stderr, and for the tracker."""
        if not self._speaks:
            return
        with self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": step, **line}) + "\n")
        text = f"{self.name}{told(line)}: {step} of {self._steps}"
        if self._bar.disable:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.console.print(text, markup=False, highlight=False)
        if self.accelerator.trackers:
            numbers = _flat(line)
            self.accelerator.log({f"{kind}/{key}": value for key, value in numbers.items()}, step=step)


def told(line: Line) -> str:
    """A line in words."""
    validation = line.get("validation")
    numbers = line if validation is None else validation
    said = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in numbers.items())
    if validation is None:
        return f" {said}"
    return f" held-out samples: {said}{', the best so far' if line['best'] else ''}"


def _flat(line: Line) -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in line.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {key: value}
    return flat


def _cut(path: Path, step: int) -> None:
    """Drop lines of steps after `step`, and a line that was cut off."""
    if not path.exists():
        return
    kept = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line["step"] <= step:
            kept.append(text + "\n")
    partial = path.with_suffix(".tmp")
    partial.write_text("".join(kept), encoding="utf-8")
    partial.replace(path)
