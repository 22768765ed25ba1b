"""Every error a person can meet, as one tree.

LegionError                     one line that says what is wrong and what to do; the CLI exits with 1
├── InvalidInput                a prompt, image, file or option that cannot be used
│   └── UnusableSetting         a setting's value; a command may call the setting as it was typed
├── CheckpointError             weights that are missing, incomplete or of another shape
├── ModelError                  a model that failed while running
│   └── RemoteError             a server that failed; worth a retry
└── MemoryBankError             the record of runs cannot be read or written
    ├── StorageUnavailable      its database or store does not answer just now; worth a retry
    ├── RunNotFound
    ├── RunBusy                 another live process holds the run
    ├── SettingsChanged         a resumed run was asked for with other settings
    └── AlreadyCommitted        a second commit of the same step
"""

from __future__ import annotations

from collections.abc import Mapping


class LegionError(Exception):
    """Base of all errors with a message meant for a person."""


class InvalidInput(LegionError):
    """A prompt, image, file or option that cannot be used."""


class UnusableSetting(InvalidInput):
    """A setting whose value cannot be used. The names of settings are kept apart from the words: a person may
    know them by others."""

    def __init__(self, words: str, *names: str) -> None:
        """`words` have a `{}` for each name."""
        super().__init__(words.format(*names))
        self._words, self._names = words, names

    def called(self, known_as: Mapping[str, str]) -> InvalidInput:
        """The same error in a person's words; names that are not in `known_as` stay."""
        return InvalidInput(self._words.format(*(known_as.get(name, name) for name in self._names)))


class CheckpointError(LegionError):
    """Weights that are missing, incomplete or of another shape."""


class ModelError(LegionError):
    """A model that failed while running."""


class RemoteError(ModelError):
    """A server that failed or timed out; trying again may help."""


class MemoryBankError(LegionError):
    """The record of runs cannot be read or written."""


class StorageUnavailable(MemoryBankError):
    """The database or the image store does not answer just now; trying again may help."""


class RunNotFound(MemoryBankError):
    """No run of that id is in the memory bank."""


class RunBusy(MemoryBankError):
    """Another live process holds the run."""


class SettingsChanged(MemoryBankError):
    """A resumed run was asked for with settings other than those it began with."""


class AlreadyCommitted(MemoryBankError):
    """A step that was already committed was committed again."""


WORTH_A_RETRY = (RemoteError, StorageUnavailable)
"""What may pass by itself."""
