"""`--reload`: a parent that starts the command again, as its child, whenever code below the current folder changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sync_kit.queue.logs import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

LOOK_EVERY = 0.5
GRACE = 5.0
"""Seconds that a child has beyond its drain timeout, and then once more."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SKIPPED = {"__pycache__", "node_modules"}


class Reloader:
    """Keeps a child that runs `python -m sync_kit.cli` with `arguments`, a new one after each change.

    The child is in a session of its own, so a Ctrl-C reaches the parent alone, which passes it on. After a change it
    has `drain_timeout` seconds to drain, and some more; then it is pressed, and at last killed.
    """

    def __init__(self, arguments: Sequence[str], drain_timeout: float) -> None:
        self._command = [sys.executable, "-m", "sync_kit.cli", *arguments]
        self._patience = drain_timeout + GRACE
        self._root = Path.cwd()
        self._child: subprocess.Popen[bytes] | None = None
        self._told_to_end = False

    def run(self) -> int:
        """Go on until a signal comes; returns the exit code of the last child."""
        for number in PASSED_ON:
            signal.signal(number, self._pass_on)
        _say(f"watching the .py files in {self._root}")
        code = 0
        try:
            while not self._told_to_end:
                seen = self._times()
                code = self._attend(seen)
        finally:  # a parent that dies by an error leaves nobody behind
            self._dismiss()
        return code

    def _attend(self, seen: dict[Path, float]) -> int:
        """One child, until it has ended and there is a reason for the next one."""
        self._child = child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)
        if self._told_to_end:  # a signal came while the child was made
            child.terminate()
        mourned = False
        while not (changed := self._changed(seen)) and not self._told_to_end:
            if child.poll() is not None and not mourned:
                mourned = True
                _say(f"the worker ended with exit code {child.returncode}: waiting for a change")
            time.sleep(LOOK_EVERY)
        if changed and child.poll() is None:
            _say(f"{changed} changed: the worker drains, then starts again")
            child.terminate()
            self._press(child)
        code = child.wait()
        return code if code >= 0 else 128 - code  # as shells say it of who died by a signal

    def _press(self, child: subprocess.Popen[bytes]) -> None:
        """Wait for a child that drains: for a handler that does not end the new code must not wait for ever."""
        if _ends(child, self._patience):
            return
        _say(f"the worker has not ended in {self._patience:g} s: what still runs is handed back")
        child.terminate()
        if not _ends(child, GRACE):
            _say(f"the worker has not ended in {GRACE:g} s more and is killed: what it ran runs again in 30 s or so")
            child.kill()

    def _dismiss(self) -> None:
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            self._press(child)
            child.wait()

    def _pass_on(self, _number: int, _frame: FrameType | None) -> None:
        self._told_to_end = True
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def _changed(self, seen: dict[Path, float]) -> str | None:
        """The first file that is new, gone, or written since."""
        now = self._times()
        different = sorted(path for path, _ in seen.items() ^ now.items())
        return str(different[0].relative_to(self._root)) if different else None

    def _times(self) -> dict[Path, float]:
        return dict(_python_files(self._root))


def _python_files(folder: Path) -> Iterator[tuple[Path, float]]:
    """Python files with the time of their last change; virtual environments and hidden folders are left out."""
    for place, folders, files in os.walk(folder):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED]
        for name in files:
            if name.endswith(".py"):
                path = Path(place, name)
                try:
                    yield path, path.stat().st_mtime
                except OSError:  # it went away meanwhile, may not be seen, or is a link to itself
                    continue


def _ends(child: subprocess.Popen[bytes], within: float) -> bool:
    try:
        child.wait(within)
    except subprocess.TimeoutExpired:
        return False
    return True


def _say(text: str) -> None:
    typer.echo(f"sync-kit: {clean(text)}", err=True)
