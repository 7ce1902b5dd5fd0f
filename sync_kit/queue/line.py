"""One queue of a worker: brings its couriers, leases, events and the record in Redis together."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

import anyio

from sync_kit.errors import SyncKitError
from sync_kit.queue.courier import Courier
from sync_kit.queue.events import Failed, Finished, Parked, Retried, Started
from sync_kit.queue.info import record
from sync_kit.queue.leases import Leases
from sync_kit.queue.notes import Notes
from sync_kit.queue.records import TRACEBACK
from sync_kit.queue.run import Host

if TYPE_CHECKING:
    from sync_kit._io.flow import Flow
    from sync_kit.queue.records import Outcome
    from sync_kit.queue.run import Run
    from sync_kit.queue.source import Source
    from sync_kit.queue.worker import Worker

log = logging.getLogger("sync_kit")

LEAVE_LIMIT = 1.0
ATTEND = 10.0
"""Seconds between two signs of life of a worker."""
MOST_EARLY = 100


class Line:
    """One queue of a worker: its courier, its leases, and its record in Redis.

    Attributes:
        attended: when that record was last written, or when this was made (monotonic seconds).
    """

    def __init__(self, worker: Worker, source: Source, poll_interval: float, threads: anyio.CapacityLimiter) -> None:
        self.source = source
        self.courier = Courier(source, worker.id, poll_interval, worker.concurrency)
        self.leases = Leases(source, source.kit.home().loop, self.report)
        self.notes = Notes(source, source.kit.home().loop)
        self.host = Host(threads, self.courier.hand_in, worker.stuck, worker.ends, self.notes, worker.id)
        self.companion = source.companion(worker.id)
        self.attended = time.monotonic()
        self._worker = worker
        self._began = time.time()
        self._early: deque[tuple[str, int]] = deque(maxlen=MOST_EARLY)

    def hold(self, run: Run) -> None:
        """A run begins. Its cancellation may have been heard of before the claim was."""
        self.leases.hold(run)
        if (run.claim.id, run.claim.generation) in self._early:
            run.stop("cancelled")
        if self.source.observers:
            self.source.observers.tell(Started(*self._about(run), run.claim.attempts))

    def delivered(self, outcome: Outcome, stored: bool) -> None:
        """An outcome is stored, or was refused: its lease has ended."""
        run = self.leases.drop(outcome.id, outcome.generation)
        if run is not None and self.companion is not None:
            self.companion.ended(run)
        if run is not None and stored and self.source.observers:
            self._tell(run, outcome)

    def cancel(self, job: str, generation: int) -> None:
        """Somebody cancelled a job that this worker runs."""
        run = self.leases.find(job, generation)
        if run is None:
            self._early.append((job, generation))
        else:
            log.info("%r is cancelled", run)
            run.stop("cancelled")

    def told(self, word: bytes) -> None:
        """Somebody told this worker something that is for its companion."""
        if self.companion is not None:
            self.companion.hear(word)

    async def attend(self) -> None:
        """The task that says every ten seconds that this worker is there, and fetches parked jobs that it can run."""
        while True:
            try:
                kinds = await self.source.kit.driver.run(self._attendance(self._record()))
                self.attended = time.monotonic()
                known = sorted(kind for kind in set(kinds) if kind in self.source.kinds)
                if known:
                    log.info("queue %r has parked jobs that this worker can run: %s", self.source.name, known)
                    self.courier.adopt(known)
            except SyncKitError as error:
                log.warning("the record of a worker of queue %r could not be written: %s", self.source.name, error)
            await anyio.sleep(ATTEND)

    def report(self) -> None:
        """Say from a thread that the event loop does not run."""
        try:
            self.source.kit.thread_driver.run(self._attendance(self._record()))
        except SyncKitError as error:
            log.warning("the record of a worker of queue %r could not be written: %s", self.source.name, error)

    async def leave(self) -> None:
        """Take the record away, and pass on a hint that may have got lost with the last read."""
        try:
            with anyio.move_on_after(LEAVE_LIMIT):
                await self.source.kit.driver.run(self._attendance(b""))
        except SyncKitError as error:
            log.info("a worker of queue %r left without a word: %s", self.source.name, error)

    def _about(self, run: Run) -> tuple[str, str, str]:
        return self.source.name, run.claim.id, self.source.title(run.claim.kind)

    def _tell(self, run: Run, outcome: Outcome) -> None:
        about, attempt = self._about(run), run.claim.attempts
        error = outcome.text.partition(TRACEBACK)[0]
        if outcome.word == "done":
            self.source.observers.tell(Finished(*about, attempt, run.seconds))
        elif outcome.word == "retry":
            self.source.observers.tell(Retried(*about, attempt, run.seconds, outcome.delay, error))
        elif outcome.word == "fail":
            self.source.observers.tell(Failed(*about, attempt, run.seconds, error))
        elif outcome.word == "park":
            self.source.observers.tell(Parked(*about))

    def _attendance(self, record: bytes) -> Flow[list[str]]:
        return self.source.engine.attend_flow(self._worker.id, record)

    def _record(self) -> bytes:
        return record(
            concurrency=self._worker.concurrency,
            running=[run.claim.id for run in self.leases.runs],
            tasks=sorted({self.source.title(kind) for kind in self.source.kinds}),
            lag=round(self.leases.lag(), 3),
            healthy=self._worker.healthy,
            started_at=self._began,
            **({} if self.companion is None else self.companion.said()),
        )
