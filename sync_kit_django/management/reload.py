"""`--reload`: a parent that starts the command again, as its child, whenever that ends because code has changed.

What is watched is Django's business: the child has its reloader, on a thread. (Django runs the command on a thread and
ends the process at a change; a worker has to handle signals and to let jobs end.)
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from django.apps import apps
from django.utils import autoreload

from sync_kit._io.loops import Loop, current_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

log = logging.getLogger("sync_kit")

RELOAD = 3
"""The exit code of a child that is to be started again, as Django has it."""
PARENT = "SYNC_KIT_RELOADS"
"""The environment variable that tells a child who its parent is, and when it was born (epoch seconds)."""
GRACE = 5.0
"""Seconds that a child has beyond its drain timeout."""
LOOK_EVERY = 0.5
LOOK_BACK = 1.0
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def is_child() -> bool:
    """Whether this process was started by a `Parent`."""
    return os.environ.get(PARENT, "").partition(" ")[0] == str(os.getppid())


class Parent:
    """Keeps a child that runs the same command.

    The child is in a session of its own, so a Ctrl-C reaches the parent alone, which passes it on.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._child: subprocess.Popen[bytes] | None = None
        self._told_to_end = False

    def run(self) -> int:
        """Go on until a signal comes or the child has ended well; returns its exit code."""
        for number in PASSED_ON:
            signal.signal(number, self._pass_on)
        goes_on, code = True, RELOAD
        while goes_on:
            seen = self._seen()
            code = self._attend()
            goes_on = code != 0 and (code == RELOAD or self._sees_change(seen, code)) and not self._told_to_end
        return 0 if code == RELOAD else code

    def _sees_change(self, seen: dict[Path, float], code: int) -> bool:
        """Wait until the code is other than it was when a child was started that could not go on."""
        if not self._told_to_end:
            self._say(f"The worker ended with exit code {code}: waiting for a change.")
        while not self._told_to_end:
            if self._seen() != seen:
                return True
            time.sleep(LOOK_EVERY)
        return False

    def _attend(self) -> int:
        """One child, until it has ended."""
        environment = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true", PARENT: f"{os.getpid()} {time.time()}"}
        command = [*map(str, autoreload.get_child_arguments())]
        child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        self._child = child
        if self._told_to_end:  # a signal came while the child was made
            child.terminate()
        try:
            code = child.wait()
        finally:  # a parent that dies by an error leaves nobody behind
            child.terminate()
        return code if code >= 0 else 128 - code  # as shells say it of who died by a signal

    def _pass_on(self, _number: int, _frame: FrameType | None) -> None:
        self._told_to_end = True
        if self._child is not None:
            self._child.terminate()

    def _seen(self) -> dict[Path, float]:
        """When the files were written that may have to do with a child that does not start."""
        reloader = autoreload.StatReloader()
        for app in apps.get_app_configs():
            if not autoreload.is_django_path(app.path):
                reloader.watch_dir(app.path, "**/*.py")
        reloader.watch_dir(Path.cwd(), "*.py")
        return dict(reloader.snapshot_files())


class Watch:
    """In a child: waits until Django's reloader finds that code has changed.

    Args:
        patience: seconds that the worker has to end then; a plain function that does not end must not keep the new
            code waiting for ever.

    Attributes:
        changed: whether it has.
    """

    def __init__(self, patience: float) -> None:
        self.changed = False
        self._patience = patience

    async def until_changed(self) -> None:
        """Wait for it."""
        self._loop, self._over = Loop(current_token()), anyio.Event()
        threading.Thread(target=self._watch, name="sync-kit-reload", daemon=True).start()
        await self._over.wait()

    async def until_left(self) -> None:
        """Wait until the parent is gone, killed: nobody would start this process again, or pass a signal on to it."""
        while is_child():  # noqa: ASYNC110 (the system tells nobody)
            await anyio.sleep(LOOK_EVERY)
        log.warning("the process that reloads this worker is gone: it drains and ends")

    def _watch(self) -> None:
        autoreload.autoreload_started.connect(self._look_back_soon, weak=False)
        with suppress(SystemExit):
            _reload()
        self._end()

    def _look_back_soon(self, **_: object) -> None:
        """Django's reloader is about to look for the first time, and will take what it sees for what is running."""
        timer = threading.Timer(LOOK_BACK, self._look_back)
        timer.daemon = True
        timer.start()

    def _look_back(self) -> None:
        born = float(os.environ[PARENT].split()[1])
        if any(born < written < time.time() for _, written in autoreload.StatReloader().snapshot_files()):
            self._end()

    def _end(self) -> None:
        if self.changed:
            return
        self.changed = True
        log.info("code has changed: the worker drains, then starts again")
        self._loop.call_soon(self._over.set)
        time.sleep(self._patience)
        log.error("the worker has not ended in %g s: what it ran runs again in 30 s or so", self._patience)
        os._exit(RELOAD)


def _reload() -> None:
    """Django's reloader: it leaves by `SystemExit`."""
    try:
        autoreload.get_reloader().run(threading.current_thread())
    except autoreload.WatchmanUnavailable:  # it was there, and went away
        autoreload.StatReloader().run(threading.current_thread())
