"""Where the API server listens, who may use it, and its limits."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import InvalidInput

TOKEN_VARIABLE = "LEGION_API_TOKEN"
MIN_TOKEN = 16
MAX_QUEUE = 10_000
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class ApiSettings:
    """All that `legion serve` can be told."""

    folder: Path
    """Where the queue and the pictures that programs send are kept."""
    profile: str = "tabletop"
    host: str = "127.0.0.1"
    port: int = 4280
    token: str = ""
    """Programs must show it; empty on loopback alone."""
    queue: int = 64
    """Runs that may wait."""
    upload_bytes: int = 20 * MEGABYTE
    """Of one picture."""
    pictures_bytes: int = 2_000 * MEGABYTE
    """Of all pictures kept."""
    folders: tuple[Path, ...] = ()
    """Where pictures may be named by path instead of being sent."""
    listeners: int = 64
    """Programs that may listen to events at the same time."""
    connections: int = 256
    """Open at the same time."""


def is_loopback(host: str) -> bool:
    """Is the address one that only this machine reaches?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(file: Path | None, environ: Mapping[str, str] | None = None) -> str:
    """The token from a file, else from LEGION_API_TOKEN, else none. Raises InvalidInput for one that is easy
    to guess or cannot stand in a header; the token itself is never repeated."""
    env = os.environ if environ is None else environ
    if file is None:
        token, place = env.get(TOKEN_VARIABLE, "").strip(), TOKEN_VARIABLE
    else:
        try:
            token, place = file.expanduser().read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise InvalidInput(f"the token file {file} cannot be read ({reason})") from error
        if not token:
            raise InvalidInput(f"the token file {file} is empty: write one of {MIN_TOKEN} characters or more")
    if token and (len(token) < MIN_TOKEN or not all("!" <= c <= "~" for c in token)):
        raise InvalidInput(
            f"the token in {place} cannot be used: write {MIN_TOKEN} or more letters, digits and signs, "
            "without spaces"
        )
    return token


def check_access(settings: ApiSettings) -> ApiSettings:
    """The settings. Raises InvalidInput where others could reach the server without a token."""
    if not settings.token and not is_loopback(settings.host):
        raise InvalidInput(
            f"{settings.host} can be reached from other machines: put a token of {MIN_TOKEN} or more "
            f"characters into {TOKEN_VARIABLE} or a --token-file, or listen on 127.0.0.1"
        )
    return settings


def allowed_folders(given: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders with all links followed. Raises InvalidInput for one that is not there."""
    folders = tuple(folder.expanduser().resolve() for folder in given)
    for folder, name in zip(folders, given, strict=True):
        if not folder.is_dir():
            raise InvalidInput(f"--allow {name}: there is no such folder")
    return folders
