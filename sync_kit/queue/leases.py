"""Renews the leases of what a worker runs from one queue, all by one call, on the process's renewal thread."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from sync_kit._io.renewal import renewals
from sync_kit.errors import SyncKitError
from sync_kit.queue import engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from sync_kit._io.loops import Loop
    from sync_kit.queue.run import Run
    from sync_kit.queue.source import Source

log = logging.getLogger("sync_kit")

CALL_LIMIT = 3.0
DEAD_LOOP = 60.0
"""What counts as the timeout of a run without one, for the question whether its loop is dead."""
LAG = 5.0


class Leases:
    """The leases of one worker in one queue. `report` is called, from a thread, when the loop does not run."""

    def __init__(self, source: Source, loop: Loop, report: Callable[[], None]) -> None:
        self._report = report
        self._source = source
        self._loop = loop
        self._runs: dict[tuple[str, int], Run] = {}
        self._asked = time.monotonic()
        self.every = engine.LEASE / 3

    def __repr__(self) -> str:
        return f"<leases of a worker of queue {self._source.name!r}>"

    @property
    def runs(self) -> list[Run]:
        """What runs here, also when its outcome is not stored yet."""
        return list(self._runs.values())

    def lag(self) -> float:
        """The longest time for which the event loop did not run when it had to, since this was asked before."""
        since, self._asked = self._asked, time.monotonic()
        return self._loop.lag(since)

    def start(self) -> None:
        """Begin to renew. Call on the loop."""
        self._loop.watch(self)
        renewals.add(self)

    def stop(self) -> None:
        """Stop to renew. Call on the loop."""
        renewals.remove(self)
        self._loop.unwatch(self)

    def hold(self, run: Run) -> None:
        """Renew the lease of `run` from now on."""
        self._runs[run.claim.id, run.claim.generation] = run

    def drop(self, job_id: str, generation: int) -> Run | None:
        """The outcome of a run is handed in: its lease has ended."""
        return self._runs.pop((job_id, generation), None)

    def find(self, job_id: str, generation: int) -> Run | None:
        """A run of this worker."""
        return self._runs.get((job_id, generation))

    def renew(self) -> None:
        """Renew every lease whose loop is alive, and stop the runs whose lease is lost or whose job is cancelled."""
        lag = time.monotonic() - self._loop.beat
        runs = [run for run in self.runs if lag < (run.timeout or DEAD_LOOP) + engine.LEASE]
        if lag > LAG:
            log.warning("the event loop has not run for %.1f s, with these jobs in flight: %s", lag, self._names())
            self._report()
        if runs:
            self._renew(runs)

    def _renew(self, runs: list[Run]) -> None:
        pairs = [(run.claim.id, run.claim.generation) for run in runs]
        try:
            told = self._source.kit.thread_driver.run(self._source.engine.renew_flow(pairs, CALL_LIMIT))
        except SyncKitError as error:
            log.warning("%d job leases of queue %r could not be renewed: %s", len(runs), self._source.name, error)
            return
        for pair, word in told.items():
            run: Any = self._runs.get(pair)
            if run is None or run.was_told:
                continue
            if word == "lost":
                log.warning("%r lost its lease: it is cancelled, another run has taken over", run)
            self._loop.call_soon(partial(run.stop, word))

    def _names(self) -> str:
        return ", ".join(sorted({run.claim.kind or self._source.name for run in self.runs})) or "none"
