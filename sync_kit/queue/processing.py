"""A queue of messages with a handler, as a worker sees it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sync_kit.errors import ConfigurationError, InvalidPayloadError
from sync_kit.options import Seconds, seconds
from sync_kit.queue.backoff import Backoff, Retry
from sync_kit.queue.handler import arguments_of
from sync_kit.queue.message import Message
from sync_kit.queue.run import Run, Stopped, is_async, text
from sync_kit.queue.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sync_kit.queue.queue import Queue
    from sync_kit.queue.records import Claim, Outcome
    from sync_kit.queue.run import Host

log = logging.getLogger("sync_kit")


class Processing(Source):
    """The queue, for a worker; see `Queue.process` for the arguments."""

    space = "mq"

    def __init__(
        self, queue: Queue[Any], handler: Callable[..., Any], timeout: Seconds | None, backoff: Backoff | None
    ) -> None:
        super().__init__(queue.name, queue.keep, queue._kit)
        if backoff is not None and not isinstance(backoff, Backoff):
            raise ConfigurationError(f"backoff must be a Backoff, as in backoff=Backoff(base=1), not {backoff!r}")
        self.queue = queue
        self.max_deliveries = queue.max_deliveries
        self.observers = queue.observers
        self.handler = handler
        self.is_async = is_async(handler)
        self.timeout = None if timeout is None else seconds("timeout", timeout, above=0)
        self.backoff = backoff
        self.takes_message = arguments_of(f"queue {queue.name!r}", handler, "the message") == 2

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} processed by {self.handler!r}>"

    @property
    def kinds(self) -> Collection[str]:
        """Messages have no tasks."""
        return ()

    def open(self, claim: Claim) -> MessageRun:
        """See `Source.open`."""
        return MessageRun(self, claim)


class MessageRun(Run):
    """A message while its handler runs here."""

    def __init__(self, source: Processing, claim: Claim) -> None:
        super().__init__(claim, source.timeout)
        self._source = source

    def __repr__(self) -> str:
        return f"<message {self.claim.id} of queue {self._source.name!r}, run {self.claim.generation}>"

    async def outcome(self, host: Host) -> Outcome | None:
        """See `Run.outcome`."""
        source = self._source
        try:
            data = source.queue.schema.load(self.claim.body)
        except Exception as error:  # a validator of the user's may raise anything
            return await self.failed(error, final=isinstance(error, InvalidPayloadError))
        arguments = (data, Message(self.claim, data)) if source.takes_message else (data,)
        ended = await self.perform(source.handler, arguments, host, is_async=source.is_async)
        if self.given_up:
            return None
        if ended is None:
            return self.ended("done")
        return self.ended("back") if isinstance(ended, Stopped) else await self.failed(ended)

    async def failed(self, error: BaseException, *, final: bool = False) -> Outcome | None:
        """See `Run.failed`."""
        claim, most = self.claim, self._source.queue.max_deliveries
        final = final or claim.attempts + claim.crashes >= most
        log.warning("%r failed, %s", self, "and is a dead letter now" if final else "delivered again", exc_info=error)
        if final:
            return self.ended("fail", text=text(error))
        return self.ended("retry", delay=self._pause(error), text=text(error))

    def _pause(self, error: BaseException) -> float:
        if isinstance(error, Retry) and error.after is not None:
            return error.after
        return 0.0 if self._source.backoff is None else self._source.backoff.pause(self.claim.attempts)
