"""What runs say of themselves, on its way to Redis: all of it in one trip, every so often."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import anyio

from sync_kit._io.flow import Batch
from sync_kit.errors import SyncKitError
from sync_kit.queue.engine import batches
from sync_kit.queue.run import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit._io.flow import Flow
    from sync_kit._io.loops import Loop
    from sync_kit.queue.source import Source

log = logging.getLogger("sync_kit")

PACE = 0.2
"""Seconds between two trips: what is said meanwhile leaves together, and of several progresses only the last."""
LAST_LIMIT = 2.0
"""Seconds that the end of a run waits for the last of what it said."""
REMIND = 60.0
"""Seconds between two complaints about an outage."""
MOST_LINE = 1000
MOST_WAITING = 200
"""Lines of one run that wait for a trip; the oldest are dropped when there are more."""


class Note:
    """What one run has said since the last trip."""

    __slots__ = ("lines", "progress")

    def __init__(self) -> None:
        self.progress = ""
        self.lines: list[str] = []


class Notes:
    """What the runs of one worker in one queue say of themselves. `progress` and `line` may be called by any thread."""

    def __init__(self, source: Source, loop: Loop) -> None:
        self._source = source
        self._loop = loop
        self._waiting: dict[tuple[str, int], Note] = {}
        self._leaving: set[tuple[str, int]] = set()
        self._said = anyio.Event()
        self._wakes = False
        self._complained = -REMIND
        self._door = anyio.Lock()
        self._lock = threading.Lock()

    def progress(self, run: tuple[str, int], said: str) -> None:
        """The newest progress of a run."""
        with self._lock:
            self._note(run).progress = printable(said)
        self._call()

    def line(self, run: tuple[str, int], said: str) -> None:
        """A line of its log."""
        with self._lock:
            lines = self._note(run).lines
            lines += [f"{line[:MOST_LINE]}\n" for line in printable(said).splitlines()]
            del lines[:-MOST_WAITING]
        self._call()

    async def write(self) -> None:
        """The task that brings them to Redis."""
        while True:
            await self._said.wait()
            self._said = anyio.Event()
            await self._carry([*self._waiting])
            await anyio.sleep(PACE)

    async def flush(self, run: tuple[str, int]) -> None:
        """Bring what a run said last there, before its outcome is."""
        if run in self._waiting or run in self._leaving:
            with anyio.move_on_after(LAST_LIMIT) as limit:
                await self._carry([run])
            if limit.cancelled_caught:
                self._complain(f"no answer within {LAST_LIMIT:g} s")

    async def _carry(self, runs: list[tuple[str, int]]) -> None:
        async with self._door:
            with self._lock:
                taken = {run: note for run in runs if (note := self._waiting.pop(run, None)) is not None}
            self._leaving.update(taken)
            try:
                for some in batches([*taken.items()]):
                    await self._source.kit.driver.run(self._flow(some))
            except SyncKitError as error:
                self._complain(error)
            finally:
                self._leaving.difference_update(taken)

    def _complain(self, error: object) -> None:
        if time.monotonic() - self._complained > REMIND:
            self._complained = time.monotonic()
            log.warning("what jobs of queue %r say of themselves is lost: %s", self._source.name, error)

    def _flow(self, notes: Sequence[tuple[tuple[str, int], Note]]) -> Flow[None]:
        note = self._source.engine.note
        for answer in (yield Batch([note(run, said.progress, "".join(said.lines)) for run, said in notes])):
            if isinstance(answer, SyncKitError):
                raise answer

    def _note(self, run: tuple[str, int]) -> Note:
        return self._waiting.setdefault(run, Note())

    def _call(self) -> None:
        if not self._wakes:  # one call is enough for all that is said until it comes
            self._wakes = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._wakes = False
        self._said.set()
