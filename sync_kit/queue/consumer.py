"""Receives messages one at a time, for `async for message in queue.receive()`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from sync_kit._io.aio import to_the_end
from sync_kit.errors import SyncKitError
from sync_kit.options import Seconds, seconds
from sync_kit.queue.courier import back_off
from sync_kit.queue.engine import Lane
from sync_kit.queue.ids import make_id
from sync_kit.queue.message import ReceivedMessage
from sync_kit.queue.records import Outcome
from sync_kit.queue.run import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from sync_kit.queue.queue import Queue
    from sync_kit.queue.records import Claim, Turn

log = logging.getLogger("sync_kit")

T = TypeVar("T")


class Consumer(Generic[T]):
    """The messages of a queue, one after the other and without end. Made by `Queue.receive`.

    What it takes is leased to it, and not renewed by anybody.
    """

    def __init__(self, queue: Queue[T], lease: float, poll_interval: float) -> None:
        self.queue = queue
        self._lease = lease
        self._poll_interval = poll_interval
        self._calls = 0
        self._lane = Lane(
            queue.engine.layout, make_id(), 0, queue.keep, max_deliveries=queue.max_deliveries, lease=lease
        )
        self._one_at_a_time = anyio.Lock()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedMessage[T]:
        """Wait for a message. Redis trouble is survived for ever."""
        failures = 0
        while True:
            try:
                message = await self._take()
                failures = 0
            except SyncKitError as error:
                failures = await back_off(failures, f"receiving from queue {self.queue.name!r}", error)
                continue
            if message is not None:
                return message

    async def settle(self, outcome: Outcome) -> bool:
        """Hand in what became of a message; False if it was not this consumer's any more."""
        turn = await self._exchange([outcome], 0)
        return not turn.refused

    async def extend(self, claim: Claim, lease: Seconds | None) -> bool:
        """Renew the lease of a message."""
        span = self._lease if lease is None else seconds("lease", lease, above=0)
        runs = [(claim.id, claim.generation)]
        return not await self.queue.kit.driver.run(self.queue.engine.renew_flow(runs, 5.0, span))

    async def _take(self) -> ReceivedMessage[T] | None:
        """One message, or None after some time without any."""
        (turn, cancelled) = await to_the_end(lambda: self._exchange([], 1))
        if cancelled is not None:
            back = [Outcome(claim.id, claim.generation, "back") for claim in turn.claims]
            await to_the_end(lambda: self._exchange(back, 0))
            raise cancelled
        if turn.claims:
            return await self._opened(turn.claims[0])
        pause = self._poll_interval if turn.next_due is None else min(turn.next_due, self._poll_interval)
        wake = self.queue.engine.layout.wake
        await self.queue.kit.driver.run(self.queue.engine.listen_flow((wake,), pause))
        return None

    async def _opened(self, claim: Claim) -> ReceivedMessage[T] | None:
        try:
            return ReceivedMessage(self, claim, self.queue.schema.load(claim.body))
        except Exception as error:  # a validator of the user's may raise anything
            log.error("message %s of queue %r cannot be read and is a dead letter now: %s", claim.id, self.queue, error)
            await self.settle(Outcome(claim.id, claim.generation, "fail", text=text(error)))
            return None

    async def _exchange(self, outcomes: Sequence[Outcome], want: int) -> Turn:
        """One call after the other: what the last one took is remembered, so that it may be repeated."""
        async with self._one_at_a_time:
            self._calls += 1
            flow = self.queue.engine.exchange_flow(self._lane, self._calls, outcomes, want)
            return await self.queue.kit.driver.run(flow)
