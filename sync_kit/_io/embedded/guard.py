"""The guard: parent of an embedded server. Restarts it when it dies, stops it when all users are gone.

A program, never imported by sync_kit, with nothing but the standard library:

    python -I -S guard.py <run directory> <descriptor of start.lock> <path of server.lock> <command...>
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds between a server's death and its next start; doubled each time, forgotten after a good life."""

GOOD_LIFE = 10.0
STOP_PATIENCE = 5.0
"""Seconds from SIGTERM to SIGKILL."""

TAKEOVER_PATIENCE = 4.0
"""Seconds that an earlier server gets to go."""

UNHEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Only the end of all users ends the guard."""

LARGEST_LOG = 256 * 1024
HOUSEKEEPING = 3600.0


def main() -> None:
    """Detach from the process that started us, then guard."""
    run, start, server_lock, *command = sys.argv[1:]
    os.set_inheritable(int(start), False)
    os.umask(0o077)
    _plain_signals()
    # The starter's process gets no long-lived child: no zombie, no stranger for its own waitpid().
    if os.fork():
        os._exit(0)
    Guard(run, command).run(int(start), server_lock)


def _plain_signals() -> None:
    for number in (signal.SIGCHLD, *UNHEARD):
        signal.signal(number, signal.SIG_DFL)
    # Blocked and not ignored: a new server process must not lose one before it has a handler.
    signal.pthread_sigmask(signal.SIG_SETMASK, UNHEARD)


class Guard:
    """One guard and its server process."""

    def __init__(self, run: str, command: list[str]) -> None:
        self._run = run
        self._command = command
        self._prctl = _prctl()
        self._mutex = threading.Lock()
        self._gone = threading.Event()
        self._done = threading.Event()
        self._users = _open(self._path("users.lock"))
        self._pid = 0

    def run(self, start: int, server_lock: str) -> None:
        """Take over, serve until all users are gone, leave nothing behind."""
        held = [self._take_over(server_lock), _lock(self._path("guard.lock"))]
        fcntl.flock(start, fcntl.LOCK_UN)
        os.close(start)
        threading.Thread(target=self._watch_users, daemon=True).start()
        threading.Thread(target=self._keep_house, daemon=True).start()
        self._serve()
        self._done.set()
        _unlink(self._path("s"))
        # The users' lock stays ours until the process ends, so newcomers find all of this finished.
        for fd in reversed(held):
            os.close(fd)

    def _path(self, name: str) -> str:
        return os.path.join(self._run, name)

    def _take_over(self, path: str) -> int:
        fd = _open(path)
        began = time.monotonic()
        if not _try_lock(fd):
            _say(f"waiting for an earlier server, which holds {path}")
        while not _try_lock(fd):
            waited = time.monotonic() - began
            if waited > TAKEOVER_PATIENCE:
                sys.exit("guard: it did not end; does it belong to another user or run-time directory?")
            self._dismiss(signal.SIGTERM if waited < TAKEOVER_PATIENCE / 2 else signal.SIGKILL)
            time.sleep(0.02)
        # The server inherits this lock: it is free only when guard and server are both gone.
        os.set_inheritable(fd, True)
        return fd

    def _dismiss(self, number: int) -> None:
        if _is_held(self._path("guard.lock")):
            sys.exit("guard: another guard is in charge")
        if _try_lock(self._users):
            sys.exit("guard: all users left meanwhile")
        pid = _listener(self._path("s"))
        if pid > 0:
            _kill(pid, number)

    def _serve(self) -> None:
        pause = 0.0
        while not self._gone.wait(pause):
            began = time.monotonic()
            try:
                self._one_life()
            except OSError as error:
                _say(f"cannot start a process: {error}")
            lived_well = time.monotonic() - began > GOOD_LIFE
            pause = FIRST_PAUSE if lived_well else min(LONGEST_PAUSE, pause * 2 or FIRST_PAUSE)

    def _one_life(self) -> None:
        with self._mutex:
            if self._gone.is_set():
                return
            _shorten_log()
            guard = os.getpid()
            self._pid = os.fork()
            if self._pid == 0:
                self._become_server(guard)
        _, status = os.waitpid(self._pid, 0)
        with self._mutex:
            self._pid = 0
        _say(f"the server ended with status {os.waitstatus_to_exitcode(status)}")

    def _become_server(self, guard: int) -> NoReturn:
        try:
            if self._prctl is not None:
                self._prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG
            if os.getppid() == guard:
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                os.execv(self._command[0], self._command)
        except BaseException as error:
            _say(f"cannot start {self._command[0]}: {error}")
        finally:
            os._exit(127)

    def _watch_users(self) -> None:
        fcntl.flock(self._users, fcntl.LOCK_EX)
        self._stop(signal.SIGTERM)
        if not self._done.wait(STOP_PATIENCE):
            self._stop(signal.SIGKILL)

    def _stop(self, number: int) -> None:
        with self._mutex:
            self._gone.set()
            if self._pid:
                _kill(self._pid, number)

    def _keep_house(self) -> None:
        while not self._done.wait(HOUSEKEEPING):
            with self._mutex:
                _shorten_log()
                # Cleaners of /tmp remove what looks old.
                for name in ("", "users.lock", "start.lock", "guard.lock", "server.lock", "log"):
                    _touch(self._path(name))


def _prctl() -> Any:
    """Linux: lets a child ask for a signal when its parent dies, however it dies. Loaded before any fork."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None


def _listener(path: str) -> int:
    """The process id of the server behind a socket, as the kernel knows it; 0 if there is none."""
    import socket

    level, option, size = 0, 2, 4  # macOS: SOL_LOCAL, LOCAL_PEERPID
    if sys.platform == "linux":
        level, option, size = socket.SOL_SOCKET, socket.SO_PEERCRED, 12
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.2)
            client.connect(path)
            return int.from_bytes(client.getsockopt(level, option, size)[:4], sys.byteorder)
    except OSError:
        return 0


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _lock(path: str) -> int:
    fd = _open(path)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _try_lock(fd: int, mode: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(path: str) -> bool:
    fd = _open(path)
    try:
        return not _try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _touch(path: str) -> None:
    try:
        os.utime(path)
    except OSError:
        pass


def _shorten_log() -> None:
    if os.fstat(1).st_size > LARGEST_LOG:
        os.ftruncate(1, 0)


def _say(text: str) -> None:
    os.write(2, f"guard {os.getpid()}: {text}\n".encode(errors="replace"))


if __name__ == "__main__":
    main()
