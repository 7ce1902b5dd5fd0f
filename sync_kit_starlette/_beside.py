"""One life of a worker beside an app: it is watched, and started again when it breaks; the app goes on."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import anyio

from sync_kit._io.loops import Loop, current_token
from sync_kit.queue.worker import leave

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from anyio.abc import TaskStatus
    from typing_extensions import Self

    from sync_kit import Worker

log = logging.getLogger("sync_kit")

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
        """In a word: see `JobWorker.state`."""
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
