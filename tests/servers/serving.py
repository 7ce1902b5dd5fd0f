"""A web server as a child of ours, on a unix socket: no port can be somebody else's."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
GRACE = 1
"""Seconds that a server gives open requests."""
PATIENCE = 20.0

COMMANDS: dict[str, list[str]] = {
    "uvicorn": ["uvicorn", "--uds", "{socket}", "--loop", "{loop}", "--timeout-graceful-shutdown", str(GRACE)],
    "hypercorn": ["hypercorn", "--bind", "unix:{socket}", "-k", "{loop}", "--graceful-timeout", str(GRACE)],
    "granian": [
        *("granian", "--interface", "asgi", "--uds", "{socket}", "--loop", "{loop}"),
        *("--workers-kill-timeout", str(GRACE + 1)),
    ],
}


class Serving:
    """A server that runs the app of `tests/servers/app.py`, or another one, until it is told to end."""

    def __init__(self, command: list[str], environment: Mapping[str, str], home: Path, app: str) -> None:
        self.home = home
        self.socket = home / "socket"
        self._log = (home / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", *(part.replace("{socket}", str(self.socket)) for part in command), app],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def said(self) -> str:
        """What it wrote so far."""
        return (self.home / "log").read_text(errors="replace")

    @contextlib.contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """A client of it."""
        transport = httpx.HTTPTransport(uds=str(self.socket))
        with httpx.Client(transport=transport, base_url="http://server", timeout=PATIENCE) as made:
            yield made

    def answers(self, path: str = "/live") -> int:
        """The status that it answers with; 0 if it does not."""
        with socket.socket(socket.AF_UNIX) as probe:  # httpx leaves its own open when it cannot connect
            if probe.connect_ex(str(self.socket)) != 0:
                return 0
        with self.client() as client:
            return client.get(path).status_code

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, while it runs."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"not {what} in time:\n{self.said}"
            assert self._process.poll() is None, f"ended before it was {what}:\n{self.said}"
            time.sleep(0.02)

    def terminate(self) -> None:
        """SIGTERM to the server itself, as containers send it."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.wait(PATIENCE)

    def close(self) -> None:
        """No process of it and no file is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its session: the server and its workers
        self._process.wait()
        self._log.close()
        shutil.rmtree(self.home, ignore_errors=True)


def start(
    name: str, *options: str, loop: str = "asyncio", app: str = "tests.servers.app:app", **variables: str
) -> Serving:
    """Start a server; it may not answer yet."""
    home = Path(tempfile.mkdtemp(prefix="sk-"))
    command = [*(part.replace("{loop}", loop) for part in COMMANDS[name]), *options]
    return Serving(command, variables, home, app)
