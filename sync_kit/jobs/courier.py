"""Between a worker's slots and the queue: carries outcomes there and jobs back, in one call for all slots."""

from __future__ import annotations

import logging
import random
from collections import deque
from typing import TYPE_CHECKING

import anyio

from sync_kit.errors import SyncKitError
from sync_kit.jobs.ids import make_id
from sync_kit.queue import Claim, Engine, Keep, Outcome, Turn
from sync_kit.queue.engine import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from sync_kit.kit import SyncKit

log = logging.getLogger("sync_kit")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0


class Slot:
    """A place where one job runs at a time; waits here for its next one."""

    def __init__(self) -> None:
        self.given: Claim | None = None
        self.ready = anyio.Event()


class Courier:
    """Hands in outcomes and fetches jobs for idle slots. One exchange is under way at a time.

    What a slot hands in while an exchange is under way leaves with the next one. Redis trouble is
    survived for ever: the exchange is repeated under the same name, which is safe.
    """

    def __init__(
        self, kit: SyncKit, engine: Engine, keep: Keep, poll_interval: float, delivered: Callable[[Outcome], None]
    ) -> None:
        self._kit = kit
        self._engine = engine
        self._keep = keep
        self._poll_interval = poll_interval
        self._delivered = delivered
        self._worker = make_id()
        self._idle: deque[Slot] = deque()
        self._outcomes: list[Outcome] = []
        self._work = anyio.Event()
        self._hungry = anyio.Event()
        self._pause = 0.0
        self.taking = True
        self.ended = anyio.Event()
        self.done = anyio.Event()

    async def next(self, slot: Slot, outcome: Outcome | None) -> Claim | None:
        """Hand in how the last run ended, and wait for the next job; None when no more are taken."""
        if outcome is not None:
            self._outcomes.append(outcome)
        slot.given, slot.ready = None, anyio.Event()
        if self.taking:
            self._idle.append(slot)
        else:
            slot.ready.set()
        self._work.set()
        await slot.ready.wait()
        return slot.given

    def stop_taking(self) -> None:
        """Take no more jobs: idle slots end, the others when their job has ended."""
        self.taking = False
        while self._idle:
            self._idle.popleft().ready.set()
        self._work.set()

    def finish(self) -> None:
        """Carry what was handed in, then end."""
        self.stop_taking()
        self.ended.set()
        self._work.set()

    async def carry(self) -> None:
        """The courier's task."""
        try:
            while self._outcomes or not self.ended.is_set():
                await self._work.wait()
                self._work = anyio.Event()
                full = True
                while self._outcomes or (full and self._wanted()):
                    full = await self._round()
        finally:
            self.done.set()

    async def wake(self) -> None:
        """The task that waits for hints, while there are idle slots, with a read of its own."""
        failures = 0
        while not self.ended.is_set():
            await self._hungry.wait()
            try:
                await self._kit.driver.run(self._engine.wait_flow(max(0.001, self._pause)))
                failures = 0
            except SyncKitError as error:
                failures = await _back_off(failures, "waiting for work", error)
            self._hungry = anyio.Event()  # set again by the exchange that follows, with a new pause
            self._work.set()

    def _wanted(self) -> int:
        return len(self._idle) if self.taking else 0

    async def _round(self) -> bool:
        """One exchange; returns whether as many jobs came as were wanted, so that there may be more."""
        outcomes, self._outcomes = self._outcomes[:BATCH], self._outcomes[BATCH:]
        want = min(self._wanted(), BATCH)
        turn = await self._exchange(outcomes, want)
        for outcome in outcomes:
            self._delivered(outcome)
        for refused in turn.refused:
            log.warning("the outcome of job %s was refused: its lease had been lost to another run", refused)
        self._give(turn.claims)
        if len(turn.claims) == want:
            return True
        self._pause = self._poll_interval if turn.next_due is None else min(turn.next_due, self._poll_interval)
        self._hungry.set()
        return False

    async def _exchange(self, outcomes: list[Outcome], want: int) -> Turn:
        call, failures = make_id(), 0
        while True:
            try:
                flow = self._engine.exchange_flow(self._worker, call, outcomes, want, self._keep)
                return await self._kit.driver.run(flow)
            except SyncKitError as error:
                failures = await _back_off(failures, "exchanging jobs", error)

    def _give(self, claims: list[Claim]) -> None:
        back = []
        for claim in claims:
            if self._idle:
                slot = self._idle.popleft()
                slot.given = claim
                slot.ready.set()
            else:
                back.append(Outcome(claim.id, claim.generation, "back"))
        self._outcomes += back


async def _back_off(failures: int, doing: str, error: SyncKitError) -> int:
    """Sleep longer after each failure, with jitter so that workers do not come back as one."""
    if failures == 0:
        log.warning("%s failed, the worker goes on trying: %s", doing, error)
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures, 10))
    await anyio.sleep(pause * random.uniform(0.5, 1.0))
    return failures + 1
