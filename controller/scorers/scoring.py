"""What all scorers with a network share: batches, checks of the numbers, the signature."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch

from contracts.errors import InvalidInput, ModelError
from contracts.memory import out_of_memory
from contracts.records import Image, Score
from controller.scorers.signature import signature

DIGITS = 6
"""Decimals that are kept; those behind are rounding noise of float32."""
REMEMBERED = 4096
"""Prompts that are kept in their encoded form: the loop scores every round against the same prompt."""

log = logging.getLogger(__name__)


class BatchedScorer(ABC):
    """A Scorer whose subclass says what a batch is worth. Not for several threads at once."""

    kind: str
    """What a profile calls this kind of scorer."""

    def __init__(
        self,
        name: str,
        release: str,
        weights: str,
        options: Mapping[str, object],
        device: torch.device,
        batch_size: int,
    ) -> None:
        """Scores are kept under `name` and signed with all the rest but device and batch size.

        Raises InvalidInput for a batch size below 1.
        """
        if batch_size < 1:
            raise InvalidInput(f"batch size {batch_size} cannot be used: choose 1 or more")
        self.name, self._device = name, device
        self._version = signature(self.kind, release, weights, options)
        self._described = {
            "name": name,
            "kind": self.kind,
            "release": release,
            "weights": weights,
            **options,
            "version": self._version,
        }
        # Kernels are chosen by the batch's size and differ in the seventh digit. On a CPU, where a batch
        # saves little, pictures go one at a time, so that a score is the same alone and in a batch.
        self._batch_size = 1 if device.type == "cpu" else batch_size

    @torch.inference_mode()
    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Score]:
        """One score per picture (uint8, H x W x 3) and its own prompt, rounded to 6 decimals.

        Raises InvalidInput if there is not one prompt per picture, ModelError if the network gives no number
        or the device has no memory for a single picture.
        """
        if len(images) != len(prompts):
            raise InvalidInput(f"{len(images)} images and {len(prompts)} prompts: give one prompt per image")
        values: list[float] = []
        while len(values) < len(images):
            stop = len(values) + self._batch_size
            values += self._batch(images[len(values) : stop], prompts[len(values) : stop])
        return [Score(self.name, self._version, round(value, DIGITS)) for value in values]

    def describe(self) -> Mapping[str, object]:
        """Name, kind, release, digest of the weights, every option that changes a number, and the version
        they make."""
        return dict(self._described)

    def _batch(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        """Values of as many pictures as fit into memory: fewer than were given, but never none."""
        try:
            values = self._values(images, prompts)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(images) == 1:
                raise ModelError(
                    f"the scorer {self.name} has no memory for one picture on {self._device}: "
                    "use dtype bfloat16 or another device"
                ) from error
            self._batch_size = len(images) // 2
            log.warning("%s: out of memory, going on with batches of %d", self.name, self._batch_size)
            return []
        if not bool(values.isfinite().all()):
            raise ModelError(
                f"the scorer {self.name} gave a value that is no number: its weights are damaged"
            )
        return [float(value) for value in values]

    @abstractmethod
    def _values(self, images: Sequence[Image], prompts: Sequence[str]) -> torch.Tensor:
        """float32 (N,): what each picture is worth."""


def within(ids: Sequence[int], limit: int, name: str, prompt: str) -> list[int]:
    """A prompt's tokens, cut to the encoder's limit with the closing token kept; says so where it cuts."""
    if len(ids) <= limit:
        return list(ids)
    log.warning(
        "%s reads the first %d of %d tokens of the prompt %r",
        name,
        limit - 2,
        len(ids) - 2,
        prompt if len(prompt) <= 60 else f"{prompt[:57]}...",
    )
    return [*ids[: limit - 1], ids[-1]]
