"""A disk that is soon full, and folders that nobody may write to: also where tests run as root."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import traceback
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_PRIVATE_EVERYWHERE = (1 << 18) | (1 << 14)
_CAPABILITIES_VERSION = 0x20080522
SIZE = 8_000_000


def in_a_child(work: Callable[[], object]) -> None:
    """Do it in a process of its own, whose disks, limits and rights are its own; an error is raised here."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told = ""
        try:
            work()
        except BaseException:
            told = traceback.format_exc()
        os.write(writing, json.dumps(told[-60_000:]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert told == b'""', json.loads(told) if told else "the process died"


def without_rights_of_root() -> None:
    """From now on this process may write only where permissions say so. Nothing to do for other users."""
    header = struct.pack("Ii", _CAPABILITIES_VERSION, 0)
    nothing = struct.pack("6I", *[0] * 6)
    if os.geteuid() == 0 and _LIBC.syscall(126 if os.uname().machine == "x86_64" else 91, header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


class SmallDisk:
    """A small tmpfs over a folder, seen by this process alone; where that may not be mounted, a limit on the
    size of this process's files, which fails writes in the same places."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.is_mounted = _mounts_are_ours() and 0 == _LIBC.mount(
            b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={SIZE}".encode()
        )

    def fill(self) -> None:
        """Not a byte more."""
        if not self.is_mounted:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            return
        with contextlib.suppress(OSError), open(self.folder / "filler", "ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """There is space again."""
        if not self.is_mounted:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            return
        (self.folder / "filler").unlink()


def _mounts_are_ours() -> bool:
    """Get mounts that nobody else sees, as root or in a world where this user is root."""
    user, group = os.getuid(), os.getgid()
    if _LIBC.unshare(_NEW_MOUNTS | (0 if user == 0 else _NEW_USER)):
        return False
    if user:
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        except OSError:
            return False
    return 0 == _LIBC.mount(b"none", b"/", None, _PRIVATE_EVERYWHERE, None)
