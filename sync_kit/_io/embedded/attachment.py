"""Being a user of an embedded server: brings it up when needed and keeps it up."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from sync_kit._io.embedded import locks
from sync_kit._io.embedded.launch import launch
from sync_kit._io.embedded.rundir import RunDirectory, run_directory
from sync_kit._io.embedded.target import Target, parse
from sync_kit.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 10.0
"""Seconds until an attempt to attach gives up."""

LOADING_PATIENCE = 60.0
"""The same, once the server has said that it is reading its data."""

_BETWEEN_STARTS = 0.5
_LOG_TAIL = 2000


class Attachment:
    """One user's hold on an embedded server: the server runs until the last hold is gone.

    The hold ends with `close()` or with the process. A forked child shares it: then it ends with the
    last of them. It is not given up when this object is forgotten.
    """

    def __init__(self, run: RunDirectory, target: Target, held: int) -> None:
        self._run = run
        self._target = target
        self._held = [held]

    @property
    def socket(self) -> str:
        """The path of the server's unix socket; it stays the same when the server is restarted."""
        return str(self._run.socket)

    def ensure(self) -> None:
        """Return when the server answers, starting it again if server and guard were killed. Blocks.

        Raises `Unavailable` like `attach`, and when this attachment is closed.
        """
        if not self._held:
            raise Unavailable("this attachment to the embedded server is closed: attach again")
        _Wait(self._run, self._target).until_up()

    def close(self) -> None:
        """Give up the hold; a second call does nothing."""
        try:
            held = self._held.pop()
        except IndexError:
            return
        # Closed and not unlocked: unlocking would take the hold from forked children too.
        os.close(held)


def attach(url: str, namespace: str) -> Attachment:
    """Become a user of the server that `url` means, started when it is not running. Blocks.

    Raises:
        ConfigurationError: url, directories or server program are not usable here.
        Unavailable: the server did not come up in time.
    """
    if not locks.SUPPORTED:
        raise ConfigurationError("embedded:// needs flock, which Windows lacks: use the url of a running server")
    target = parse(url, namespace)
    run = run_directory(target.identity)
    if target.directory:
        _make_data_directory(target.directory)
    return Attachment(run, target, _join(run, target))


def _join(run: RunDirectory, target: Target) -> int:
    """The held users' lock, once the server answers."""
    waiting = _Wait(run, target)
    held = locks.open_lock(run.users)
    try:
        # Held before looking at the server: from here on it is not stopped under our feet.
        waiting.until(lambda: locks.try_lock(held, shared=True))
        waiting.until_up()
    except BaseException:
        locks.release(held)
        raise
    return held


def _make_data_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the embedded server's data directory {path} cannot be made: {error}") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(f"the embedded server's data directory {path} is not writable: use another one")


class _Wait:
    """One attempt to bring a server up, with its deadline."""

    def __init__(self, run: RunDirectory, target: Target) -> None:
        self._run = run
        self._target = target
        self._began = time.monotonic()
        self._give_up = self._began + PATIENCE
        self._next_start = self._began

    def until_up(self) -> None:
        self.until(self._is_up)

    def until(self, condition: Callable[[], bool]) -> None:
        pause = 0.002
        while not condition():
            if time.monotonic() > self._give_up:
                raise Unavailable(f"the embedded server did not come up in time{self._log_tail()}")
            time.sleep(pause)
            pause = min(pause * 1.2, 0.025)

    def _is_up(self) -> bool:
        # With a guard in charge no earlier server is left: whoever answers is its server.
        if not locks.is_held(self._run.guard):
            self._start_guard()
            return False
        answer = _ping(str(self._run.socket))
        if answer.startswith(b"-LOADING"):
            self._give_up = self._began + LOADING_PATIENCE
            return False
        return bool(answer)

    def _start_guard(self) -> None:
        if time.monotonic() < self._next_start:
            return
        start = locks.open_lock(self._run.start)
        launcher = None
        try:
            if locks.try_lock(start) and not locks.is_held(self._run.guard):
                self._next_start = time.monotonic() + _BETWEEN_STARTS
                launcher = self._launch(start)
        finally:
            # Once a guard has inherited the lock, it is the guard's: unlocking here would free it for all.
            locks.release(start) if launcher is None else os.close(start)
        if launcher is not None:
            self._await_detached(launcher)

    def _launch(self, start: int) -> subprocess.Popen[bytes]:
        try:
            return launch(self._run, self._target, start)
        except OSError as error:
            raise Unavailable(f"the embedded server's guard cannot be started: {error}") from error

    def _await_detached(self, launcher: subprocess.Popen[bytes]) -> None:
        try:
            status = launcher.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise Unavailable("the embedded server's guard does not start") from error
        finally:
            launcher.kill()
            launcher.wait()
        if status:
            raise Unavailable(f"the embedded server's guard ended with status {status}{self._log_tail()}")

    def _log_tail(self) -> str:
        try:
            tail = self._run.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip()
        except OSError:
            tail = ""
        return f"; the end of {self._run.log}:\n{tail}" if tail else f" and said nothing in {self._run.log}"


def _ping(path: str) -> bytes:
    """The server's first words, or nothing if there are none within a second."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(path)
            client.sendall(b"PING\r\n")
            return client.recv(64)
    except OSError:
        return b""
