"""Messages as those see them who receive them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sync_kit.queue.ids import made_at
from sync_kit.queue.records import Outcome

if TYPE_CHECKING:
    from datetime import datetime

    from sync_kit.options import Seconds
    from sync_kit.queue.consumer import Consumer
    from sync_kit.queue.records import Claim

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Size:
    """How many messages there are.

    Attributes:
        waiting: they can be received now.
        delayed: they can be received later.
        active: somebody received them and has not settled them yet.
        failed: the dead letters.
        oldest: seconds that the one that waits longest has waited; None when none does.
    """

    waiting: int
    delayed: int
    active: int
    failed: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was delivered too often, or could not be read.

    Attributes:
        id: a UUID version 7.
        data: the payload; as plain JSON values when the schema refuses it by now.
        deliveries: how often it was delivered.
        error: the reason of the last time.
        failed_at: when it was given up, by the server's clock.
    """

    id: str
    data: Any
    deliveries: int
    error: str
    failed_at: datetime


class DeadLetters(list[DeadLetter]):
    """A page of dead letters.

    Attributes:
        cursor: where the next page begins, for `failed(cursor=)`; None when this is the last one.
    """

    cursor: str | None = None


class Message(Generic[T]):
    """A message as its handler sees it.

    Attributes:
        id: a UUID version 7.
        data: the payload.
        deliveries: how often it was delivered, this time and lost receivers included.
        sent_at: when it was sent, by the sender's clock.
    """

    def __init__(self, claim: Claim, data: T) -> None:
        self.id = claim.id
        self.data = data
        self.deliveries = claim.attempts + claim.crashes
        self.sent_at: datetime = made_at(claim.id)

    def __repr__(self) -> str:
        return f"<Message {self.id}, delivery {self.deliveries}>"


class ReceivedMessage(Message[T]):
    """A message that `Queue.receive` gave out: leased to its receiver until it is settled or the lease ends."""

    def __init__(self, consumer: Consumer[T], claim: Claim, data: T) -> None:
        super().__init__(claim, data)
        self._consumer = consumer
        self._claim = claim

    async def ack(self) -> bool:
        """It is done with, and forgotten.

        Returns:
            False if it was settled already, or its lease had ended: then somebody else may receive it.

        Raises:
            Unavailable: Redis cannot be reached; whether it was carried out is not known.
        """
        return await self._consumer.settle(Outcome(self.id, self._claim.generation, "done"))

    async def nack(self, delay: Seconds = 0.0, *, error: str = "given back by its receiver") -> bool:
        """It could not be handled: deliver it again, or after `max_deliveries` put it among the dead letters.

        Args:
            delay: seconds until then.
            error: what is written down as the reason.

        Returns:
            False if it was settled already, or its lease had ended.

        Raises:
            ConfigurationError: the delay is wrong.
            Unavailable: Redis cannot be reached; whether it was carried out is not known.
        """
        return await self._consumer.settle(self._consumer.queue.refusal(self._claim, delay, error))

    async def extend(self, lease: Seconds | None = None) -> bool:
        """Keep it for `lease` seconds from now on, as long as it was leased first if not given.

        Returns:
            False if it was settled, or its lease had ended.

        Raises:
            ConfigurationError: the lease is wrong.
            Unavailable: Redis cannot be reached.
        """
        return await self._consumer.extend(self._claim, lease)
