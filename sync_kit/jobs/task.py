"""Tasks: a handler with a name, a schema and options; and what sends jobs to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from sync_kit.errors import ConfigurationError
from sync_kit.jobs.options import (
    Options,
    carried_headers,
    read_headers,
    read_key,
    read_on_duplicate,
    read_result_ttl,
    read_timeout,
)
from sync_kit.jobs.parcel import Parcel, deliver, deliver_blocking
from sync_kit.jobs.schedules.plan import TIMING, draft, read_timing
from sync_kit.options import Seconds, label, refuse_unknown, whole
from sync_kit.queue.handler import arguments_of
from sync_kit.queue.ids import make_id
from sync_kit.queue.records import Item
from sync_kit.queue.run import is_async
from sync_kit.queue.when import read_when

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime, tzinfo

    from typing_extensions import Never

    from sync_kit.jobs.header import Header
    from sync_kit.jobs.jobs import Jobs
    from sync_kit.jobs.options import Key, OnDuplicate
    from sync_kit.jobs.policy import Policy
    from sync_kit.jobs.receipt import Receipt
    from sync_kit.jobs.schedules.plan import Draft, Missed, Timing
    from sync_kit.jobs.versions import Versions
    from sync_kit.queue.schema import Schema

P = ParamSpec("P")
T = TypeVar("T")

OPTIONS = (
    *("delay", "at", "retries", "timeout", "priority", "tag"),
    *("key", "on_duplicate", "result_ttl", "headers"),
    *(*TIMING, "name"),
)


class Unset:
    """The type of an argument that was not given."""


UNSET = Unset()


class Sender(Generic[P, T]):
    """Sends jobs to a task, with options. Made by `task.using(...)`."""

    def __init__(self, jobs: Jobs, versions: Versions, schema: Schema[T], options: Options) -> None:
        self.jobs = jobs
        self.name = versions.task
        self.kind = versions.kind
        self.versions = versions
        self.schema = schema
        self.options = options
        self._said: tuple[Header, bytes] | None = None

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
            DuplicateJobError: there is a job with this unique key, and `on_duplicate="raise"`.
            Unavailable: Redis cannot be reached; whether the job was stored is not known.
        """
        return (await deliver(self.pack([self.schema.make(args, kwargs)])))[0]

    async def send_many(self, payloads: Iterable[T]) -> list[Receipt]:
        """Send one job for each payload, two thousand in each round trip. Raises what `send` raises.

        All payloads are checked before the first is written. Where `on_duplicate="raise"`, all but the duplicates were
        sent when that is raised.
        """
        return await deliver(self.pack([self.schema.check(payload) for payload in payloads]))

    def pack(self, payloads: Sequence[T]) -> Parcel:
        """Make jobs of payloads that the schema has accepted, with the context of now; nothing is sent.

        Raises:
            InvalidPayloadError: one could not be read back.
            ConfigurationError: it has no unique key, or the options of a schedule do not fit.
        """
        options = self.options
        if options.timing is not None:
            return Parcel(self, (), drafts=self._drafts(options.timing, payloads))
        if options.key is None:
            return Parcel(self, [self.item(payload) for payload in payloads])
        keys = [options.key_of(payload) for payload in payloads]
        return Parcel(self, [self.item(payload, key) for payload, key in zip(payloads, keys, strict=True)], keys)

    def item(self, payload: T, key: str | None = None) -> Item:
        """A new job, ready to be stored. Raises `InvalidPayloadError` if it could not be read back."""
        data = self.schema.dump(payload)
        return Item(make_id(), self.kind, self._head_now(key) + data)

    def draft(self, timing: Timing, payload: T, *, declared: bool = False) -> Draft:
        """A schedule, ready to be stored. Raises `InvalidPayloadError`, and `ConfigurationError` if there is a key."""
        if self.options.key is not None:
            raise ConfigurationError(
                f"task {self.name!r} has a unique key, which a schedule cannot have: its runs do not overlap anyway"
            )
        data = self.schema.dump(payload)
        return draft(timing, self.kind, self._say()[1], data, self.schema.identity(payload), declared=declared)

    def _drafts(self, timing: Timing, payloads: Sequence[T]) -> list[Draft]:
        """A schedule for each payload. Raises what `draft` does."""
        if timing.name is not None and len(payloads) > 1:
            raise ConfigurationError(f"schedule {timing.name!r} has one payload: leave name= out to send many")
        return [self.draft(timing, payload) for payload in payloads]

    def _say(self) -> tuple[Header, bytes]:
        """What all of these jobs say beside their payloads, of which it may turn out that they have secrets."""
        if self._said is None or self._said[0].secret != self.schema.has_secrets:
            header = self.options.header(secret=self.schema.has_secrets)
            self._said = (header, header.encode())
        return self._said

    def _head_now(self, key: str | None) -> bytes:
        header, head = self._say()
        if key is None and not self.jobs.carried:
            return head
        return replace(header, key=key, headers=carried_headers(self.jobs.carried, header.headers)).encode()


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
        return deliver_blocking(sender.pack([sender.schema.make(args, kwargs)]), f"{sender.name}.send(...)")[0]

    def send_many(self, payloads: Iterable[T]) -> list[Receipt]:
        """See `Sender.send_many`."""
        sender = self._sender
        checked = [sender.schema.check(payload) for payload in payloads]
        return deliver_blocking(sender.pack(checked), f"{sender.name}.send_many(...)")


class Task(Sender[P, T]):
    """A registered handler. Call it directly to run it here and now; `send` runs it on a worker."""

    def __init__(
        self,
        jobs: Jobs,
        versions: Versions,
        schema: Schema[T],
        options: Options,
        handler: Callable[..., Any],
        policy: Policy,
    ) -> None:
        super().__init__(jobs, versions, schema, options)
        self.handler = handler
        self.policy = policy
        self.is_async = is_async(handler)
        self.wants_job = arguments_of(f"task {self.name!r}", handler, "the job") == 2
        self.__doc__ = handler.__doc__
        self.__wrapped__ = handler

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler itself, in this process."""
        return self.handler(*args, **kwargs)

    def load(self, payload: bytes, version: int) -> T:
        """Read a payload of some version. Raises `InvalidPayloadError`, and what an upgrade raises."""
        return self.schema.load(self.versions.upgraded(payload, version))

    def using(
        self,
        *,
        delay: Seconds | None = None,
        at: datetime | float | None = None,
        retries: int | None = None,
        timeout: Seconds | Unset | None = UNSET,
        priority: int | None = None,
        tag: str | None = None,
        key: Key | None = None,
        on_duplicate: OnDuplicate | None = None,
        result_ttl: Seconds | None = None,
        headers: Mapping[str, str] | None = None,
        interval: Seconds | None = None,
        cron: str | None = None,
        tz: str | tzinfo | None = None,
        name: str | None = None,
        start_immediately: bool | None = None,
        missed: Missed | None = None,
        overlap: bool | None = None,
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
            key, on_duplicate, result_ttl: see `Jobs.task`.
            headers: short texts for `job.headers`, such as trace ids; see also `Jobs.carry`.
            interval: send a job every so many seconds from now on: `send` makes a schedule, or changes it.
            cron: the same at the times of a cron expression.
            tz: the time zone of that, an IANA name; UTC if not given.
            name: of the schedule; made of the task and the payload if not given.
            start_immediately, missed, overlap: see `Jobs.every`.

        Raises:
            ConfigurationError: an option is wrong, or more than one of `delay`, `at`, `interval` and `cron` is given.
        """
        where = f"task {self.name!r}"
        refuse_unknown(where, unknown, OPTIONS)
        given = {"interval": interval, "cron": cron, "tz": tz, "start_immediately": start_immediately}
        given |= {"missed": missed, "overlap": overlap, "name": name}
        timing = read_timing(where, given, once={"delay": delay, "at": at})
        when = read_when("a job", delay, at, self.options.when.priority if priority is None else priority)
        changed = replace(self.options, when=when, timing=timing)
        if retries is not None:
            changed = replace(changed, retries=whole("retries", retries, most=10_000))
        if not isinstance(timeout, Unset):
            changed = replace(changed, timeout=read_timeout(timeout))
        if tag is not None:
            changed = replace(changed, tag=label("tag", tag))
        if key is not None:
            changed = replace(changed, key=read_key(key))
        if on_duplicate is not None:
            changed = replace(changed, on_duplicate=read_on_duplicate(on_duplicate, changed.key))
        if result_ttl is not None:
            changed = replace(changed, result_ttl=read_result_ttl(result_ttl))
        if headers is not None:
            changed = replace(changed, headers=read_headers(headers))
        return Sender(self.jobs, self.versions, self.schema, changed)
