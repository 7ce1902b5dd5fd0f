"""The private directory where a server's users, its guard and the server meet."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sync_kit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "SYNC_KIT_RUNTIME_DIR"
LONGEST_SOCKET_PATH = 103
"""In bytes: what macOS takes; Linux takes 107."""


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one server: its socket, its log and its lock files."""

    path: Path

    @property
    def socket(self) -> Path:
        """Where the server listens."""
        return self.path / "s"

    @property
    def log(self) -> Path:
        """What the guard and the server say."""
        return self.path / "log"

    @property
    def users(self) -> Path:
        """Held shared by every user; the guard waits for it exclusively."""
        return self.path / "users.lock"

    @property
    def start(self) -> Path:
        """Held by whoever starts a guard, then by that guard until it is in charge."""
        return self.path / "start.lock"

    @property
    def guard(self) -> Path:
        """Held by the guard in charge: no earlier server is left."""
        return self.path / "guard.lock"

    @property
    def server(self) -> Path:
        """Held by guard and server of an in-memory server (a persistent one: in its data directory)."""
        return self.path / "server.lock"


def run_directory(identity: str) -> RunDirectory:
    """Make, or check, the directory of one server. Raises `ConfigurationError` when it is not ours alone."""
    base = _base(identity)
    run = _run_below(base, identity)
    try:
        if os.environ.get(VARIABLE):
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(run.path.parent)
        _make_private(run.path)
    except OSError as error:
        raise ConfigurationError(
            f"the run-time directory {run.path} of the embedded server cannot be made: {error}; "
            f"set {VARIABLE} to a short directory that you own"
        ) from error
    return run


def _run_below(base: Path, identity: str) -> RunDirectory:
    return RunDirectory(base / f"sync-kit-{os.geteuid()}" / identity)


def _base(identity: str) -> Path:
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        return next(base for base in _candidates() if _fits(base, identity))
    base = Path(chosen).absolute()
    if not _fits(base, identity):
        raise ConfigurationError(f"{VARIABLE} is too long for the path of a unix socket: shorten it")
    return base


def _candidates() -> Iterator[Path]:
    session = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    # After sudo or su the variable may name the directory of the other user.
    if session.is_absolute() and _is_mine(session):
        yield session
    try:
        yield Path(tempfile.gettempdir()).absolute()
    except OSError:
        pass
    yield Path("/tmp")


def _is_mine(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _fits(base: Path, identity: str) -> bool:
    return len(os.fsencode(_run_below(base, identity).socket)) <= LONGEST_SOCKET_PATH


def _make_private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} is a link or belongs to somebody else, so the embedded server will not use it: "
            f"remove it or set {VARIABLE}"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(f"{path} is open to other users: chmod 700 it or set {VARIABLE}")
