"""Tasks, and what sends jobs to them, from code of either kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from sync_kit import ConfigurationError, InvalidPayloadError
from sync_kit.jobs.parcel import deliver
from sync_kit.jobs.task import OPTIONS as CORE_OPTIONS
from sync_kit.options import label, refuse_unknown
from sync_kit_django.commit import receipts_of, send
from sync_kit_django.payloads import advised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Unpack

    import sync_kit
    from sync_kit.jobs import Sender as CoreSender
    from sync_kit.jobs.parcel import Parcel
    from sync_kit.queue.schema import Schema
    from sync_kit_django.commit import Rule
    from sync_kit_django.jobs import Jobs
    from sync_kit_django.options import UsingOptions
    from sync_kit_django.receipt import Receipt

P = ParamSpec("P")
T = TypeVar("T")

OPTIONS = (*CORE_OPTIONS, "on_commit", "database")


class Sender(Generic[P, T]):
    """Sends jobs to a task, with options. Made by `task.using(...)`.

    Attributes:
        core: the same without Django: `sync_kit.jobs.Sender`.
        jobs, name, schema: the queue, the name of the task, and what payloads look like.
    """

    def __init__(self, jobs: Jobs, core: CoreSender[P, T], rule: Rule) -> None:
        self.jobs = jobs
        self.core = core
        self.name: str = core.name
        self.schema: Schema[T] = core.schema
        self._rule = rule

    @overload
    def send(self, payload: T, /) -> Receipt: ...
    @overload
    def send(self, *args: P.args, **kwargs: P.kwargs) -> Receipt: ...

    def send(self, *args: Any, **kwargs: Any) -> Receipt:
        """Send a job: at once, or inside of `atomic` when the transaction commits, unless `on_commit` is False.

        The payload is given by the fields of the schema, or as one value. It is checked at once.

        Returns:
            The receipt, with the job's id. Nothing is sent after a rollback.

        Raises:
            InvalidPayloadError: the schema refuses the payload; nothing was written.
            DuplicateJobError: there is a job with this unique key, and `on_duplicate="raise"`. Inside of `atomic` the
                commit raises it.
            Unavailable: Redis cannot be reached; whether the job was stored is not known.
            NotSentError: the same after the commit, raised by the end of the `atomic` block.
            ConfigurationError: an event loop runs here: `await task.asend(...)`.
        """
        return send(self._pack(args, kwargs), self._rule, self._named("asend"), waits=self._rule.waits())[0]

    @overload
    async def asend(self, payload: T, /) -> Receipt: ...
    @overload
    async def asend(self, *args: P.args, **kwargs: P.kwargs) -> Receipt: ...

    async def asend(self, *args: Any, **kwargs: Any) -> Receipt:
        """Send a job from async code, at once: Django has no transactions there. Returns and raises what `send` does.

        Code that runs beneath an `atomic` block by `async_to_sync` does not see that block either: let it
        `await sync_to_async(task.send)(...)`, which waits for the commit.
        """
        parcel = self._pack(args, kwargs)
        return receipts_of(parcel, await deliver(parcel))[0]

    @overload
    def send_on_commit(self, payload: T, /) -> Receipt: ...
    @overload
    def send_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> Receipt: ...

    def send_on_commit(self, *args: Any, **kwargs: Any) -> Receipt:
        """Send a job when the transaction commits, whatever `on_commit` says; at once if none is open. See `send`."""
        return send(self._pack(args, kwargs), self._rule, self._named("asend"), waits=True)[0]

    def send_many(self, payloads: Iterable[T]) -> list[Receipt]:
        """Send one job for each payload, two thousand in each round trip. Raises what `send` raises.

        All payloads are checked before the first is written. Where `on_duplicate="raise"`, all but the duplicates were
        sent when that is raised.
        """
        return send(self._pack_many(payloads), self._rule, self._named("asend_many"), waits=self._rule.waits())

    async def asend_many(self, payloads: Iterable[T]) -> list[Receipt]:
        """See `send_many` and `asend`."""
        parcel = self._pack_many(payloads)
        return receipts_of(parcel, await deliver(parcel))

    def send_many_on_commit(self, payloads: Iterable[T]) -> list[Receipt]:
        """See `send_many` and `send_on_commit`."""
        return send(self._pack_many(payloads), self._rule, self._named("asend_many"), waits=True)

    def _pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parcel:
        try:
            return self.core.pack([self.schema.make(args, kwargs)])
        except InvalidPayloadError as error:
            raise advised(error, (args, kwargs)) from None

    def _pack_many(self, payloads: Iterable[T]) -> Parcel:
        given = [*payloads]
        try:
            return self.core.pack([self.schema.check(payload) for payload in given])
        except InvalidPayloadError as error:
            raise advised(error, given) from None

    def _named(self, verb: str) -> str:
        return f"{self.name}.{verb}(...)"


class Task(Sender[P, T]):
    """A registered handler. Call it directly to run it here and now; `send` runs it on a worker.

    Attributes:
        core: the same without Django: `sync_kit.Task`.
    """

    core: sync_kit.Task[P, T]

    def __init__(self, jobs: Jobs, core: sync_kit.Task[P, T], rule: Rule, handler: Callable[..., Any]) -> None:
        super().__init__(jobs, core, rule)
        self._handler = handler
        self.__doc__ = core.__doc__
        self.__name__ = getattr(handler, "__name__", core.name)
        self.__module__ = getattr(handler, "__module__", __name__)
        self.__wrapped__ = handler

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler itself, in this process, with the database connections and transactions of its caller."""
        return self._handler(*args, **kwargs)

    def using(
        self, *, on_commit: bool | None = None, database: str | None = None, **options: Unpack[UsingOptions]
    ) -> Sender[P, T]:
        """A sender with other options than the task's.

        Args:
            on_commit: whether `send` waits for the end of a transaction that is open; as `Jobs` says if not given.
            database: the alias of the database whose transactions are meant; as `Jobs` says if not given.
            options: `delay`, `at`, `retries`, `timeout`, `priority`, `tag`, `key`, `on_duplicate`, `result_ttl`,
                `headers`, `interval`, `cron`, `tz`, `name`, `start_immediately`, `missed` and `overlap`, as
                `sync_kit.Task.using` takes them. A delay counts from the commit.

        Raises:
            ConfigurationError: an option is wrong, or more than one of `delay`, `at`, `interval` and `cron` is given.
        """
        given: dict[str, Any] = {**options}
        refuse_unknown(
            f"task {self.name!r}", {name: given[name] for name in given if name not in CORE_OPTIONS}, OPTIONS
        )
        return Sender(self.jobs, self.core.using(**given), changed(self._rule, on_commit, database))


def changed(rule: Rule, on_commit: bool | None, database: str | None) -> Rule:
    """A rule with what is given. Raises `ConfigurationError`."""
    if on_commit is not None:
        if not isinstance(on_commit, bool):
            raise ConfigurationError(f"on_commit must be True or False, not {on_commit!r}")
        rule = replace(rule, on_commit=on_commit)
    return rule if database is None else replace(rule, database=label("database", database))
