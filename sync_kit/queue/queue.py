"""The facade of plain queues: messages without tasks."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sync_kit.options import Seconds, name_sent, refuse_unknown, seconds, whole
from sync_kit.queue.base import BlockingBase, QueueBase
from sync_kit.queue.consumer import Consumer
from sync_kit.queue.engine import LEASE
from sync_kit.queue.ids import make_id
from sync_kit.queue.message import DeadLetter, DeadLetters, Size
from sync_kit.queue.processing import Processing
from sync_kit.queue.records import Item, Keep, Outcome
from sync_kit.queue.run import printable
from sync_kit.queue.schema import MOST_BYTES, Schema, plain, read_most
from sync_kit.queue.when import When, read_when
from sync_kit.queue.worker import DRAIN_TIMEOUT, POLL_INTERVAL, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Never

    from sync_kit._io.flow import Flow
    from sync_kit.kit import SyncKit
    from sync_kit.queue.backoff import Backoff
    from sync_kit.queue.records import Claim, Entry
    from sync_kit.queue.source import Source

T = TypeVar("T")
At = datetime | float | None


class Queue(QueueBase, Generic[T]):
    """Messages: sent from anywhere, delivered at least once to one receiver.

    A message that was accepted is delivered until somebody acknowledges it, at most `max_deliveries` times; then it
    is kept among the dead letters. Receivers may get one twice (at least once, never "exactly once"). See
    `sync_kit/queue/README.md`.

    Args:
        name: of the queue; it has nothing to do with `Jobs` of that name.
        schema: what payloads look like: a pydantic model, a dataclass, or another type pydantic knows.
        max_deliveries: deliveries after which a message that nobody acknowledged is a dead letter.
        max_payload: bytes that a payload may have.
        keep_failed: seconds that dead letters are kept (at most 10 000 of them).
        kit: where the messages live; the default kit if not given.

    Raises:
        ConfigurationError: an argument is wrong; the message says how to fix it.
    """

    space = "mq"

    def __init__(
        self,
        name: str,
        *,
        schema: type[T],
        max_deliveries: int = 5,
        max_payload: int = MOST_BYTES,
        keep_failed: Seconds = 7 * 86400.0,
        kit: SyncKit | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("Queue", unknown, ("schema", "max_deliveries", "max_payload", "keep_failed", "kit"))
        keep = Keep(completed=0.0, completed_count=0, failed=seconds("keep_failed", keep_failed))
        super().__init__(name, keep, kit)
        self.schema: Schema[T] = Schema(f"queue {name!r}", schema, read_most(max_payload))
        self.max_deliveries = whole("max_deliveries", max_deliveries, least=1, most=10_000)

    def __repr__(self) -> str:
        return f"<Queue {self.name!r}>"

    @property
    def blocking(self) -> BlockingQueue[T]:
        """The same for code without an event loop; receiving is async only."""
        return BlockingQueue(self)

    async def send(
        self, payload: T, *, delay: Seconds | None = None, at: At = None, priority: int = 0, **unknown: Never
    ) -> str:
        """Send a message.

        Args:
            payload: what the schema describes.
            delay: seconds until it can be received, by the server's clock.
            at: when it can be received: an aware datetime, or epoch seconds.
            priority: those of higher priority are received first, from -100 to 100.

        Returns:
            Its id, once it is stored.

        Raises:
            InvalidPayloadError: the schema refuses the payload; nothing was written.
            ConfigurationError: an option is wrong.
            Unavailable: Redis cannot be reached; whether the message was stored is not known.
        """
        when = read_when("send", delay, at, priority, unknown)
        return (await self.kit.driver.run(self.send_flow([payload], when)))[0]

    async def send_many(
        self, payloads: Iterable[T], *, delay: Seconds | None = None, at: At = None, priority: int = 0, **unknown: Never
    ) -> list[str]:
        """Send one message for each payload, two thousand in each round trip. Takes and raises what `send` does.

        All payloads are checked before the first is written.
        """
        when = read_when("send_many", delay, at, priority, unknown)
        return await self.kit.driver.run(self.send_flow(payloads, when))

    def receive(
        self, *, lease: Seconds = LEASE, poll_interval: Seconds = POLL_INTERVAL, **unknown: Never
    ) -> Consumer[T]:
        """Messages one after the other: `async for message in queue.receive(): ...; await message.ack()`.

        Each is leased to this loop. What is neither settled nor extended in time is delivered again, to whoever
        receives then; nothing is fetched in advance. Redis trouble is survived for ever, with a line in the log.

        Args:
            lease: seconds until a message that was not settled is delivered again.
            poll_interval: seconds that it waits for a wake-up at most.

        Raises:
            ConfigurationError: an argument is wrong.
        """
        refuse_unknown("receive", unknown, ("lease", "poll_interval"))
        poll = seconds("poll_interval", poll_interval, least=0.01, most=60)
        return Consumer(self, seconds("lease", lease, least=0.1), poll)

    def process(
        self,
        handler: Callable[..., Any],
        *,
        concurrency: int = 10,
        timeout: Seconds | None = 30.0,
        backoff: Backoff | None = None,
        poll_interval: Seconds = POLL_INTERVAL,
        drain_timeout: Seconds = DRAIN_TIMEOUT,
        **unknown: Never,
    ) -> Worker:
        """A worker that gives messages to `handler` beside your code: `async with queue.process(handle): ...`.

        The handler is given the payload, and the `Message` if it has a second parameter. A message is acknowledged
        when its handler returns, and given back when it raises or times out. Leases are renewed meanwhile.

        Args:
            handler: `async def` runs on the event loop, plain `def` on a thread.
            concurrency: messages that are handled at the same time.
            timeout: seconds that a handler may take; None for no limit. A plain `def` cannot be interrupted.
            backoff: how long to wait before each new delivery; it comes at once if not given.
            poll_interval: seconds that it waits for a wake-up at most.
            drain_timeout: seconds that handlers have to end on exit; then they are cancelled, and their messages
                are given back uncounted.

        Raises:
            ConfigurationError: an argument is wrong.
        """
        known = ("concurrency", "timeout", "backoff", "poll_interval", "drain_timeout")
        refuse_unknown("process", unknown, known)
        source = self.processing(handler, timeout=timeout, backoff=backoff)
        return Worker(source, concurrency=concurrency, poll_interval=poll_interval, drain_timeout=drain_timeout)

    def processing(
        self, handler: Callable[..., Any], *, timeout: Seconds | None = 30.0, backoff: Backoff | None = None
    ) -> Source:
        """This queue with a handler, for a worker over several: `Worker(jobs, queue.processing(handle))`.

        Takes and raises what `process` does.
        """
        return Processing(self, handler, timeout, backoff)

    async def size(self) -> Size:
        """How many messages there are, and how long the oldest has waited."""
        return await self.kit.driver.run(self.size_flow())

    async def purge(self) -> int:
        """Forget all messages that wait or are delayed, a hundred at a time; returns how many there were.

        What somebody received meanwhile is not touched.

        Raises:
            Unavailable: Redis cannot be reached; some may be left.
        """
        return await self.kit.driver.run(self.desk.purge_flow())

    async def failed(self, *, limit: int = 100, cursor: str | None = None) -> DeadLetters:
        """A page of the dead letters, the newest first; its `cursor` leads to the next one.

        Raises:
            ConfigurationError: an argument is wrong.
            Unavailable: Redis cannot be reached.
        """
        return await self.kit.driver.run(self.failed_flow(limit, cursor))

    async def retry(self, message_id: str) -> bool:
        """Deliver a dead letter again, as if it were new; False if there is none of this id."""
        return await self.kit.driver.run(self.desk.retry_flow([name_sent("a message id", message_id)])) == 1

    async def retry_failed(self) -> int:
        """Deliver all dead letters of now again; returns how many there were."""
        return await self.kit.driver.run(self.desk.retry_flow())

    async def delete(self, message_id: str) -> bool:
        """Forget a dead letter; False if there is none of this id."""
        return await self.kit.driver.run(self.desk.delete_flow([name_sent("a message id", message_id)])) == 1

    def send_flow(self, payloads: Iterable[T], when: When) -> Flow[list[str]]:
        """The flow of `send` and `send_many`."""
        bodies = [self.schema.dump(self.schema.check(payload)) for payload in payloads]
        items = [Item(make_id(), "", body) for body in bodies]
        yield from self.accept_flow(items, delay=when.delay, at=when.at, priority=when.priority)
        return [item.id for item in items]

    def size_flow(self) -> Flow[Size]:
        """The flow of `size`."""
        tally = yield from self.desk.count_flow()
        return Size(tally.waiting, tally.delayed, tally.active, tally.failed, tally.oldest)

    def failed_flow(self, limit: int, cursor: str | None) -> Flow[DeadLetters]:
        """The flow of `failed`."""
        most, letters = whole("limit", limit, least=1, most=1000), DeadLetters()
        letters.cursor = cursor
        while len(letters) < most:
            entries, letters.cursor = yield from self.desk.page_flow("failed", most - len(letters), letters.cursor)
            letters += [self._dead_letter(entry) for entry, _ in entries]
            if letters.cursor is None:
                break
        return letters

    def refusal(self, claim: Claim, delay: Seconds, error: str) -> Outcome:
        """What becomes of a message that could not be handled. For the rooms of sync_kit itself."""
        pause = seconds("delay", delay)
        if claim.attempts + claim.crashes >= self.max_deliveries:
            return Outcome(claim.id, claim.generation, "fail", text=printable(error))
        return Outcome(claim.id, claim.generation, "retry", pause, printable(error))

    def _dead_letter(self, entry: Entry) -> DeadLetter:
        try:
            data: Any = self.schema.load(entry.body)
        except Exception:  # a validator of the user's may raise anything
            data = plain(entry.body, secret=self.schema.has_secrets)
        failed_at = datetime.fromtimestamp(entry.finished_ms / 1000, timezone.utc)
        return DeadLetter(entry.id, data, entry.attempts + entry.crashes, entry.error, failed_at)


class BlockingQueue(BlockingBase, Generic[T]):
    """The blocking twin of `Queue`: the same verbs, without await. Receiving is async only."""

    _source: Queue[T]

    def send(
        self, payload: T, *, delay: Seconds | None = None, at: At = None, priority: int = 0, **unknown: Never
    ) -> str:
        """See `Queue.send`."""
        when = read_when("send", delay, at, priority, unknown)
        return self._source.run_blocking(self._source.send_flow([payload], when), "send(...)")[0]

    def send_many(
        self, payloads: Iterable[T], *, delay: Seconds | None = None, at: At = None, priority: int = 0, **unknown: Never
    ) -> list[str]:
        """See `Queue.send_many`."""
        when = read_when("send_many", delay, at, priority, unknown)
        return self._source.run_blocking(self._source.send_flow(payloads, when), "send_many(...)")

    def size(self) -> Size:
        """See `Queue.size`."""
        return self._source.run_blocking(self._source.size_flow(), "size()")

    def purge(self) -> int:
        """See `Queue.purge`."""
        return self._source.run_blocking(self._source.desk.purge_flow(), "purge()")

    def failed(self, *, limit: int = 100, cursor: str | None = None) -> DeadLetters:
        """See `Queue.failed`."""
        return self._source.run_blocking(self._source.failed_flow(limit, cursor), "failed(...)")

    def retry(self, message_id: str) -> bool:
        """See `Queue.retry`."""
        flow = self._source.desk.retry_flow([name_sent("a message id", message_id)])
        return self._source.run_blocking(flow, "retry(...)") == 1

    def retry_failed(self) -> int:
        """See `Queue.retry_failed`."""
        return self._source.run_blocking(self._source.desk.retry_flow(), "retry_failed()")

    def delete(self, message_id: str) -> bool:
        """See `Queue.delete`."""
        flow = self._source.desk.delete_flow([name_sent("a message id", message_id)])
        return self._source.run_blocking(flow, "delete(...)") == 1
