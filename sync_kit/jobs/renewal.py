"""Renews the leases of a worker's running jobs, all by one call, on the process's renewal thread."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from sync_kit._io.renewal import renewals
from sync_kit.errors import SyncKitError
from sync_kit.queue.engine import LEASE

if TYPE_CHECKING:
    from sync_kit._io.loops import Loop
    from sync_kit.jobs.run import Run
    from sync_kit.kit import SyncKit
    from sync_kit.queue import Engine

log = logging.getLogger("sync_kit")

CALL_LIMIT = 3.0
DEAD_LOOP = 60.0
"""What counts as the timeout of a job without one, for the question whether its loop is dead."""
LAG = 5.0


class JobRenewal:
    """The leases of one worker."""

    def __init__(self, kit: SyncKit, engine: Engine, loop: Loop, queue: str) -> None:
        self._kit = kit
        self._engine = engine
        self._loop = loop
        self._queue = queue
        self._runs: dict[tuple[str, int], Run] = {}
        self.every = LEASE / 3

    def __repr__(self) -> str:
        return f"<leases of a worker of queue {self._queue!r}>"

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

    def drop(self, job_id: str, generation: int) -> None:
        """The outcome of a run is handed in: its lease has ended."""
        self._runs.pop((job_id, generation), None)

    def renew(self) -> None:
        """Renew every lease whose loop is alive, and stop the runs whose lease is lost."""
        lag = time.monotonic() - self._loop.beat
        runs = [run for run in list(self._runs.values()) if lag < (run.header.timeout or DEAD_LOOP) + LEASE]
        if lag > LAG:
            log.warning("the event loop has not run for %.1f s, with these jobs in flight: %s", lag, self._names())
        if runs:
            self._renew(runs)

    def _renew(self, runs: list[Run]) -> None:
        pairs = [(run.claim.id, run.claim.generation) for run in runs]
        try:
            lost = set(self._kit.thread_driver.run(self._engine.renew_flow(pairs, CALL_LIMIT)))
        except SyncKitError as error:
            log.warning("%d job leases of queue %r could not be renewed: %s", len(runs), self._queue, error)
            return
        for pair, run in zip(pairs, runs, strict=True):
            if pair in lost and pair in self._runs:
                log.warning("%r lost its lease: it is cancelled, another run has taken over", run)
                self._loop.call_soon(partial(run.stop, "lost"))

    def _names(self) -> str:
        return ", ".join(sorted({run.header.task for run in list(self._runs.values())})) or "none"
