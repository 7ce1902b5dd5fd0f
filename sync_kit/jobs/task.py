"""Tasks: a handler with a name, a schema and options; and what sends jobs to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from sync_kit.jobs.job import Header, Receipt
from sync_kit.options import Seconds, label, refuse_unknown, seconds, whole
from sync_kit.queue.handler import arguments_of
from sync_kit.queue.ids import make_id
from sync_kit.queue.records import Item
from sync_kit.queue.run import is_async
from sync_kit.queue.when import NOW, read_when

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from typing_extensions import Never

    from sync_kit._io.flow import Flow
    from sync_kit.jobs.jobs import Jobs
    from sync_kit.jobs.policy import Policy
    from sync_kit.queue.schema import Schema
    from sync_kit.queue.when import When

P = ParamSpec("P")
T = TypeVar("T")

OPTIONS = ("delay", "at", "retries", "timeout", "priority", "tag")
TIMEOUT = 30.0


class Unset:
    """The type of an argument that was not given."""


UNSET = Unset()


@dataclass(frozen=True, slots=True)
class Options:
    """When and how often a job runs."""

    retries: int = 0
    timeout: float | None = TIMEOUT
    when: When = NOW
    tag: str | None = None


class Sender(Generic[P, T]):
    """Sends jobs to a task, with options. Made by `task.using(...)`."""

    def __init__(self, jobs: Jobs, name: str, schema: Schema[T], options: Options) -> None:
        self.jobs = jobs
        self.name = name
        self.schema = schema
        self.options = options
        self._header = Header(options.retries, options.timeout, options.when.priority, options.tag).encode()

    @property
    def blocking(self) -> BlockingSender[P, T]:
        """The same for code without an event loop."""
        return BlockingSender(self)

    @overload
    async def send(self, payload: T, /) -> Receipt: ...
    @overload
    async def send(self, *args: P.args, **kwargs: P.kwargs) -> Receipt: ...

    async def send(self, *args: Any, **kwargs: Any) -> Receipt:
        """Send a job. The payload is given by the fields of the schema, or as one value.

        Returns:
            The receipt, once the job is stored.

        Raises:
            InvalidPayloadError: the schema refuses the payload; nothing was written.
            Unavailable: Redis cannot be reached; whether the job was stored is not known.
        """
        return (await self.jobs.kit.driver.run(self.send_flow([self.schema.make(args, kwargs)])))[0]

    async def send_many(self, payloads: Iterable[T]) -> list[Receipt]:
        """Send one job for each payload, two thousand in each round trip. Raises what `send` raises.

        All payloads are checked before the first is written.
        """
        checked = [self.schema.check(payload) for payload in payloads]
        return await self.jobs.kit.driver.run(self.send_flow(checked))

    def send_flow(self, payloads: list[T]) -> Flow[list[Receipt]]:
        """The flow of `send` and `send_many`."""
        items = [Item(make_id(), self.name, self._header + self.schema.dump(payload)) for payload in payloads]
        when = self.options.when
        yield from self.jobs.accept_flow(items, delay=when.delay, at=when.at, priority=when.priority)
        return [Receipt(item.id, self.name) for item in items]


class BlockingSender(Generic[P, T]):
    """The blocking twin of a `Sender` and of a `Task`: the same verbs, without await."""

    def __init__(self, sender: Sender[P, T]) -> None:
        self._sender = sender

    @overload
    def send(self, payload: T, /) -> Receipt: ...
    @overload
    def send(self, *args: P.args, **kwargs: P.kwargs) -> Receipt: ...

    def send(self, *args: Any, **kwargs: Any) -> Receipt:
        """See `Sender.send`."""
        sender = self._sender
        flow = sender.send_flow([sender.schema.make(args, kwargs)])
        return sender.jobs.kit.run_blocking(flow, f"{sender.name}.send(...)")[0]

    def send_many(self, payloads: Iterable[T]) -> list[Receipt]:
        """See `Sender.send_many`."""
        sender = self._sender
        flow = sender.send_flow([sender.schema.check(payload) for payload in payloads])
        return sender.jobs.kit.run_blocking(flow, f"{sender.name}.send_many(...)")


class Task(Sender[P, T]):
    """A registered handler. Call it directly to run it here and now; `send` runs it on a worker."""

    def __init__(
        self,
        jobs: Jobs,
        name: str,
        schema: Schema[T],
        options: Options,
        handler: Callable[..., Any],
        policy: Policy,
    ) -> None:
        super().__init__(jobs, name, schema, options)
        self.handler = handler
        self.policy = policy
        self.is_async = is_async(handler)
        self.wants_job = arguments_of(f"task {name!r}", handler, "the job") == 2
        self.__doc__ = handler.__doc__
        self.__wrapped__ = handler

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler itself, in this process."""
        return self.handler(*args, **kwargs)

    def using(
        self,
        *,
        delay: Seconds | None = None,
        at: datetime | float | None = None,
        retries: int | None = None,
        timeout: Seconds | Unset | None = UNSET,
        priority: int | None = None,
        tag: str | None = None,
        **unknown: Never,
    ) -> Sender[P, T]:
        """A sender with other options than the task's.

        Args:
            delay: seconds to wait, by the server's clock.
            at: when to run: an aware datetime, or epoch seconds.
            retries: runs after a first one that failed.
            timeout: seconds that a run may take; None for no limit.
            priority: those of higher priority run first, from -100 to 100; 0 if not given.
            tag: a word to find the job by, see `Jobs.list`.

        Raises:
            ConfigurationError: an option is wrong, or both `delay` and `at` are given.
        """
        refuse_unknown(f"task {self.name!r}", unknown, OPTIONS)
        when = read_when("a job", delay, at, self.options.when.priority if priority is None else priority)
        changed = replace(self.options, when=when)
        if retries is not None:
            changed = replace(changed, retries=whole("retries", retries, most=10_000))
        if not isinstance(timeout, Unset):
            changed = replace(changed, timeout=read_timeout(timeout))
        if tag is not None:
            changed = replace(changed, tag=label("tag", tag))
        return Sender(self.jobs, self.name, self.schema, changed)


def read_timeout(timeout: Seconds | None) -> float | None:
    """Seconds that a run may take, or None. Raises `ConfigurationError`."""
    return None if timeout is None else seconds("timeout", timeout, above=0)
