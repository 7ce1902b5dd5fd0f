"""A worker's slots, and how the free ones are shared among its queues."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit.queue.courier import Courier
    from sync_kit.queue.records import Claim, Outcome


class Slot:
    """A place where one job runs at a time; waits here for its next one."""

    __slots__ = ("_given", "_woken", "lone", "share")

    def __init__(self) -> None:
        self.share: Share | None = None
        self.lone = False
        self._given: Claim | None = None
        self._woken: asyncio.Future[None] | anyio.Event

    def prepare(self) -> None:
        """From now on, a job may come. (A future is a tenth of the work of an event, and this is for each job.)"""
        loop = asyncio._get_running_loop()
        self._given, self._woken = None, anyio.Event() if loop is None else loop.create_future()

    async def wait(self) -> Claim | None:
        """The job that came, or None when there are no more."""
        woken = self._woken
        await (woken.wait() if isinstance(woken, anyio.Event) else woken)
        return self._given

    def give(self, claim: Claim) -> None:
        """Here is a job."""
        self._given = claim
        self._wake()

    def end(self) -> None:
        """No job comes any more."""
        self.share = None
        self._wake()

    def _wake(self) -> None:
        if isinstance(self._woken, anyio.Event):
            self._woken.set()
        elif not self._woken.done():
            self._woken.set_result(None)


@dataclass
class Share:
    """What a queue gets of the slots.

    Attributes:
        courier: brings its jobs.
        weight: its part when there is work in all queues.
        limit: slots that it may have at most.
        used: slots that it has.
        credit: what it is owed, for the turns of the weights.
    """

    courier: Courier
    weight: int = 1
    limit: int = 10_000
    used: int = 0
    credit: int = 0

    @property
    def hungry(self) -> bool:
        """Whether a free slot may find work here."""
        return not self.courier.empty and self.used < self.limit


class Pool:
    """Hands free slots to the queues that may have work, by weight (smooth weighted round robin) or in strict order.

    At most one of the jobs that run is a suspect, one whose worker died: a killer does not take the same
    neighbours along again.

    Attributes:
        spent: set when as many jobs have been run as may be.
    """

    def __init__(self, shares: Sequence[Share], *, strict: bool, slots: int, most: int | None = None) -> None:
        self.shares = shares
        self.open = True
        self.lone_is_free = True
        self.spent = anyio.Event()
        self._slots = slots
        self._left = math.inf if most is None else most
        self._rested = anyio.Event()
        self._strict = strict
        self._idle: deque[Slot] = deque()

    async def next(self, slot: Slot, outcome: Outcome | None) -> Claim | None:
        """Hand in how the last run ended, and wait for the next job; None when no more are taken."""
        self._leave(slot, outcome)
        slot.prepare()
        if self.open:
            self._idle.append(slot)
            self.share_out()
        else:
            slot.end()
        return await slot.wait()

    def share_out(self) -> None:
        """Give free slots to the queues that may have work."""
        while self._idle and self._left > 0 and (share := self._turn()) is not None:
            slot = self._idle.popleft()
            slot.share = share
            share.used += 1
            self._left -= 1
            share.courier.expect(slot)
        if len(self._idle) == self._slots:
            self._rest()

    def give_back(self, slots: Sequence[Slot]) -> None:
        """Slots for which a queue had no job."""
        self._left += len(slots)
        for slot in slots:
            if slot.share is not None:
                slot.share.used -= 1
            slot.share = None
            if self.open:
                self._idle.append(slot)
            else:
                slot.end()
        self.share_out()

    async def rest(self) -> None:
        """Wait until all slots are free, because the queues had nothing more."""
        while len(self._idle) < self._slots:
            await self._rested.wait()
            self._rested = anyio.Event()

    def take_lone(self) -> bool:
        """Whether a suspect may be taken now; if so, nobody else may until `return_lone`."""
        free, self.lone_is_free = self.lone_is_free, False
        return free

    def return_lone(self) -> None:
        """No suspect runs any more: there may be another where there seemed to be nothing."""
        self.lone_is_free = True
        for share in self.shares:
            share.courier.empty = False

    def close(self) -> None:
        """Take no more jobs: idle slots end, the others when their job has ended."""
        self.open = False
        while self._idle:
            self._idle.popleft().end()
        for share in self.shares:
            share.courier.dismiss()

    def _rest(self) -> None:
        self._rested.set()
        if self._left == 0:
            self.spent.set()

    def _leave(self, slot: Slot, outcome: Outcome | None) -> None:
        if slot.share is not None:
            slot.share.used -= 1
            if outcome is not None:
                slot.share.courier.hand_in(outcome)
        slot.share = None
        if slot.lone:
            slot.lone = False
            self.return_lone()

    def _turn(self) -> Share | None:
        if len(self.shares) == 1:
            return self.shares[0] if self.shares[0].hungry else None
        hungry = [share for share in self.shares if share.hungry]
        if not hungry or self._strict:
            return hungry[0] if hungry else None
        for share in hungry:
            share.credit += share.weight
        chosen = max(hungry, key=lambda share: share.credit)
        chosen.credit -= sum(share.weight for share in hungry)
        return chosen
