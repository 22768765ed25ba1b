"""Addresses, ports and the names of settings that the parts of `legion ui` agree on. Imports nothing
heavy."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from contracts.errors import InvalidInput

IMAGE_URL_VARIABLE = "LEGION_IMAGE_URL"
"""Where a browser reaches the image server, if that is not where `legion ui` starts it."""
PICTURES_VARIABLE = "LEGION_PICTURES"
"""The folder whose pictures a form may name."""
PREFECT_PORT = 4200
IMAGE_PORT = 4201
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Address:
    """A host and a port to listen at."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Where this machine reaches it: a host that means "everywhere" is reached by the loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"

    @property
    def public(self) -> bool:
        """May other machines reach it?"""
        return self.host not in LOOPBACK


def check_free(address: Address, what: str, option: str) -> None:
    """Raises InvalidInput if nobody can listen there: the port is taken or no port, or the host is another
    machine's."""
    if not 1 <= address.port <= 65535:
        raise InvalidInput(f"{option} is {address.port}: choose a port from 1 to 65535")
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InvalidInput(
                f"{what} cannot listen at {address.host}:{address.port} ({reason}): end the program that "
                f"uses it, or choose another port with {option}"
            ) from error


def checked_url(text: str, source: str) -> str:
    """An http address without a slash at its end. Raises InvalidInput."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"{source} is {text!r}: write it as http://HOST:PORT")
    return text.rstrip("/")


def image_url_given() -> str | None:
    """The image server's address as the environment says, or None. Raises InvalidInput."""
    given = os.environ.get(IMAGE_URL_VARIABLE)
    return checked_url(given, IMAGE_URL_VARIABLE) if given else None


def reports_folder() -> Path:
    """Where forms leave reports: each in a folder of its own, which the image server shows."""
    from memory_bank.places import home

    return home().absolute() / "reports"


def inside(folder: Path, name: str) -> Path:
    """A file or folder that a form names, links followed. Raises InvalidInput if it is not there, or not
    below `folder`."""
    path = (folder / Path(name).expanduser()).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidInput(
            f"{name} is not below {folder}: name something in it, or start legion ui with another --pictures"
        )
    if not path.exists():
        raise InvalidInput(f"there is no {name} below {folder}")
    return path


def pictures_folder() -> Path:
    """The folder whose pictures a form may name: as the environment says, else the current one."""
    return Path(os.environ.get(PICTURES_VARIABLE) or ".").expanduser().resolve()
