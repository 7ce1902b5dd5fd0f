"""One life of a worker beside an app: it is watched, and started again when it breaks; the app goes on."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING

import anyio

from sync_kit._io.loops import Loop, current_token
from sync_kit.errors import ConfigurationError
from sync_kit.options import shown
from sync_kit.queue.worker import leave

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from anyio.abc import TaskStatus
    from typing_extensions import Self

    from sync_kit.queue.source import Source
    from sync_kit.queue.worker import Worker

log = logging.getLogger("sync_kit")

SWITCH = "SYNC_KIT_WORKER"
"""The environment variable that switches workers beside apps off (or on)."""
WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
CLOSING = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds until a worker that has crashed is started again: the first time, and at most."""
MOST_SILENT = 30.0
"""Seconds without a sign of life in Redis after which a worker is in trouble: three were due."""


class Beside:
    """A worker from the start of a lifespan to its end, in a task of its own.

    If it ran in the task of the lifespan, a crash would end that, and with it what the app has opened there.
    """

    def __init__(self, make: Callable[[], Worker], name: str) -> None:
        self._make = make
        self._name = name
        self._state = "starting"
        self._is_quiet = False
        self._crashes = 0

    @property
    def state(self) -> str:
        """In a word: starting, running, quiet, draining, drained, stuck, silent or crashed."""
        if self._state == "running" and self._worker.silent > MOST_SILENT:
            return "silent"
        return "stuck" if self._state == "running" and not self._worker.healthy else self._state

    async def __aenter__(self) -> Self:
        self._loop, self._end = Loop(current_token()), anyio.Event()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        try:
            await self._tasks.start(self._live)
        except BaseException as error:
            await leave(self._tasks, type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._end.set()
        return await leave(self._tasks, kind, error, trace)

    def quiet(self) -> None:
        """Have the worker take no more. From any thread, also in a signal handler."""
        self._loop.call_soon(self._be_quiet)

    def drain(self) -> None:
        """Have the worker take no more, and hand back what has not ended in time. From any thread, like `quiet`."""
        self._loop.call_soon(self._end.set)

    def _be_quiet(self) -> None:
        self._is_quiet = True
        if self._state == "running":
            self._state = "quiet"
            self._worker.quiet()

    async def _live(self, *, task_status: TaskStatus[None]) -> None:
        while not self._end.is_set():
            began = time.monotonic()
            try:
                await self._run(task_status)
            except Exception as error:
                if self._state == "starting":
                    raise
                await self._recover(error, lived=time.monotonic() - began)
        self._state = "drained"

    async def _run(self, task_status: TaskStatus[None]) -> None:
        async with self._make() as self._worker:
            if self._state == "starting":
                task_status.started()
            self._state = "running"
            if self._is_quiet:
                self._be_quiet()
            try:
                await self._end.wait()
            finally:
                self._state = "draining" if self._end.is_set() else "crashed"

    async def _recover(self, error: Exception, *, lived: float) -> None:
        """Say that the worker has crashed, and wait before the next start: longer each time, unless it lived long."""
        self._state = "crashed"
        self._crashes = 1 if lived > LONGEST_PAUSE else self._crashes + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._crashes - 1, 10))
        then = "it was about to end" if self._end.is_set() else f"it is started again in {pause:.0f} s"
        log.error("the worker of %s has crashed: %s", self._name, then, exc_info=error)
        with anyio.move_on_after(pause):
            await self._end.wait()


def switch(enabled: object) -> tuple[bool, str]:
    """Whether a worker is switched on, and what says so: `enabled`, or the environment if that is None.

    Raises:
        ConfigurationError: one of them says neither yes nor no.
    """
    if enabled is not None:
        if not isinstance(enabled, bool):
            raise ConfigurationError(f"enabled must be True, False or None, not {shown(enabled)}")
        return enabled, f"enabled={enabled}"
    said = os.environ.get(SWITCH, "")
    if said and said.strip().lower() not in WORDS:
        raise ConfigurationError(f"{SWITCH} must be one of {', '.join(WORDS)}, not {shown(said)}")
    return WORDS.get(said.strip().lower(), True), f"{SWITCH}={said}"


def names(sources: Sequence[Source]) -> str:
    """Queues, as sentences name them."""
    return " and ".join(f"queue {source.name!r}" for source in sources)


def announce(sources: Sequence[Source], concurrency: int, switched_off_by: str | None) -> None:
    """Say what runs here where it is seen: servers configure their own logging, and nobody may have configured ours.

    Who has set the level of the logger "sync_kit" has said what to see.
    """
    line = f"worker of {names(sources)} "
    if switched_off_by is not None:
        line += f"is switched off by {switched_off_by}: jobs that are sent here wait for another one"
    else:
        places = sorted({f"{source.kit.label} (namespace {source.kit.namespace!r})" for source in sources})
        line += f"on {', '.join(places)}, concurrency {concurrency}, process {os.getpid()}"
    if log.isEnabledFor(logging.INFO) and log.hasHandlers():
        log.info(line)
    elif log.level == logging.NOTSET:
        print(f"sync-kit: {line}", file=sys.stderr, flush=True)  # noqa: T201


async def close_kits(sources: Sequence[Source]) -> None:
    """Close what the kits of these queues have open on this event loop."""
    for kit in {id(source.kit): source.kit for source in sources}.values():
        with anyio.move_on_after(CLOSING, shield=True):
            await kit.aclose()
