"""Records as JSON, their pictures and masks as digests in a store.

Only the records of `contracts` are read back: an answer cannot make anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Protocol

import numpy as np

from contracts import records
from contracts.errors import InvalidInput
from contracts.records import Image, Mask

RECORD, IMAGE, MASK, VALUES = "record", "image", "mask", "values"


class Store(Protocol):
    """Where pictures and masks are kept."""

    def put_image(self, image: Image) -> str: ...
    def put_mask(self, mask: Mask) -> str: ...
    def image(self, digest: str) -> Image: ...
    def mask(self, digest: str) -> Mask: ...


def encode(value: Any, store: Store) -> Any:
    """JSON values; arrays go into the store. Raises InvalidInput for what is neither plain nor a record."""
    if isinstance(value, np.ndarray):
        if value.dtype == np.bool_:
            return {MASK: store.put_mask(value)}
        return {IMAGE: store.put_image(value)}
    if is_dataclass(value) and getattr(records, type(value).__name__, None) is type(value):
        named = {field.name: encode(getattr(value, field.name), store) for field in fields(value)}
        return {RECORD: type(value).__name__, VALUES: named}
    if isinstance(value, Mapping):
        return {VALUES: {str(key): encode(item, store) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        return [encode(item, store) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise InvalidInput(f"a {type(value).__name__} cannot be sent to a worker")


def decode(value: Any, store: Store) -> Any:
    """The inverse of `encode`; lists come back as tuples. Raises InvalidInput for a record of another
    version."""
    if isinstance(value, list):
        return tuple(decode(item, store) for item in value)
    if not isinstance(value, Mapping):
        return value
    if MASK in value:
        return store.mask(value[MASK])
    if IMAGE in value:
        return store.image(value[IMAGE])
    named = {key: decode(item, store) for key, item in value[VALUES].items()}
    if RECORD not in value:
        return named
    kind = getattr(records, value[RECORD], None)
    try:
        if not is_dataclass(kind) or not isinstance(kind, type):
            raise TypeError("no record of that name")
        return kind(**named)
    except TypeError as error:
        raise InvalidInput(
            f"a {value[RECORD]} of another version ({error}): install the same version on all machines"
        ) from error
