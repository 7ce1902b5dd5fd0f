"""File locks (flock). One belongs to an open file: forked children share it, the kernel frees it at death.

A lock file is never unlinked: somebody may hold the old file while another locks the new one.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SUPPORTED = sys.platform != "win32"
"""Whether this platform has flock at all."""

if sys.platform != "win32":
    import fcntl


def open_lock(path: Path) -> int:
    """Open a lock file, made when missing; the descriptor is closed by exec and is never 0, 1 or 2."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if fd > 2:
        return fd
    higher = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return higher


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Take the lock if that is possible at once."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def release(fd: int) -> None:
    """Unlock, also for copies of `fd` that a fork in another thread may have made, and close."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def is_held(path: Path) -> bool:
    """Whether some process holds the exclusive lock."""
    fd = open_lock(path)
    try:
        return not try_lock(fd, shared=True)
    finally:
        release(fd)
