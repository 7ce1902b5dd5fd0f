"""Worker processes, and ways to end them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from tests.chaos.chores import QUEUE
from tests.jobs.conftest import until

if TYPE_CHECKING:
    from typing_extensions import Self

    from tests.chaos.worker import Settings

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("worker.py")
SOON = 20.0
"""Seconds after which a process that has not started or not ended is stuck."""


class Process:
    """One worker process."""

    def __init__(self, settings: Settings, log: Path) -> None:
        command = [sys.executable, str(SCRIPT), json.dumps(asdict(settings))]
        with log.open("wb") as told:
            self._child = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=told)
        self.pid = self._child.pid
        self.log = log

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

    async def up(self) -> None:
        """Wait until it takes jobs and handles signals."""
        await until(self._has_started, SOON)

    async def kill(self) -> None:
        """SIGKILL; returns when it is dead."""
        self._child.kill()
        await anyio.to_thread.run_sync(self._child.wait, SOON)

    async def terminate(self) -> None:
        """SIGTERM; returns when it has ended, which it does in good order."""
        self._child.terminate()
        code = await anyio.to_thread.run_sync(self._child.wait, SOON)
        assert code == 0, f"ended with {code}:\n{self.said()}"

    def stop(self) -> None:
        """SIGSTOP; returns when it stands still."""
        self._child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        """SIGCONT."""
        self._child.send_signal(signal.SIGCONT)

    def bury(self) -> None:
        """End it in any case."""
        self._child.kill()
        self._child.wait()

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    async def _has_started(self) -> bool:
        assert self.runs, f"ended with {self._child.returncode}:\n{self.said()}"
        return f"worker of queue {QUEUE!r} started" in self.log.read_text(errors="replace")


class Fleet:
    """All worker processes of a test. None is left when its `with` block ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._numbers = itertools.count()
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.bury()

    async def start(self, settings: Settings) -> Process:
        """One more process; returns when it is up."""
        process = Process(settings, self._home / f"worker{next(self._numbers)}.log")
        self._processes.append(process)
        await process.up()
        return process

    async def end(self) -> None:
        """Let all that run end in good order."""
        for process in self._processes:
            if process.runs:
                await process.terminate()
