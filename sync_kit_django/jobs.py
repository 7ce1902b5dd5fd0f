"""Background jobs in a Django project: the facade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import sync_kit
from sync_kit import UnknownTaskError
from sync_kit.jobs.jobs import PARK_TTL
from sync_kit.jobs.registering import TASK_OPTIONS, TaskOptions, title_of
from sync_kit.jobs.schedules.declare import bare
from sync_kit.jobs.task import UNSET
from sync_kit.options import Seconds, refuse_unknown
from sync_kit.queue.schema import MOST_BYTES
from sync_kit_django._handlers import clean, clean_middleware
from sync_kit_django._registry import note_replaced, remember
from sync_kit_django.commit import Rule
from sync_kit_django.looking import Looking
from sync_kit_django.payloads import refuse_models
from sync_kit_django.schedules import Schedules
from sync_kit_django.sending import Task, changed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar
    from datetime import tzinfo

    from _typeshed import DataclassInstance
    from pydantic import BaseModel
    from typing_extensions import Never, Unpack

    from sync_kit import SyncKit
    from sync_kit.jobs.jobs import Middleware
    from sync_kit.jobs.schedules.plan import Missed
    from sync_kit.queue.events import Observer
    from sync_kit_django.options import Register, Scheduled

P = ParamSpec("P")
T = TypeVar("T")
Fields = TypeVar("Fields", bound="BaseModel | DataclassInstance")

OPTIONS = ("keep", "max_payload", "park_ttl", "database", "on_commit", "kit")
HOOKS = ("on_success", "on_retry", "on_failure")


class Jobs(Looking):
    """Background jobs: sent from views and other code, run at least once by `manage.py runworker`.

    Verbs are plain in sync code, and have an `a` before them in async code: `task.send(...)`, `await task.asend(...)`.
    Handlers may run twice (at least once, never "exactly once"). See `sync_kit_django/README.md`.

    Args:
        name: the queue; jobs and workers of one name belong together.
        keep: seconds that completed and cancelled jobs are kept (at most 10 000 of them); failed ones stay for 7 days.
        max_payload: bytes that a payload may have.
        park_ttl: seconds that a job whose task no worker knows waits for one that does; then it has failed.
        database: the alias of the database whose transactions `send` waits for; `SYNC_KIT["JOBS"]["DATABASE"]` if not
            given.
        on_commit: whether it waits for them; `SYNC_KIT["JOBS"]["ON_COMMIT"]` if not given.
        kit: where the jobs live; that of the settings if not given.

    Attributes:
        core: the same without Django: `sync_kit.Jobs`, for workers and whatever else takes one.
        tasks: the tasks by their names.

    Raises:
        ConfigurationError: an argument is wrong; the message says how to fix it.
    """

    def __init__(
        self,
        name: str,
        *,
        keep: Seconds = 3600.0,
        max_payload: int = MOST_BYTES,
        park_ttl: Seconds = PARK_TTL,
        database: str | None = None,
        on_commit: bool | None = None,
        kit: SyncKit | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("Jobs", unknown, OPTIONS)
        self._rule = changed(Rule(), on_commit, database)
        self.core = sync_kit.Jobs(name, keep=keep, max_payload=max_payload, park_ttl=park_ttl, kit=kit)
        self.tasks: dict[str, Task[Any, Any]] = {}
        remember(self.core)

    def __repr__(self) -> str:
        return repr(self.core)

    @property
    def name(self) -> str:
        """The name of the queue."""
        return self.core.name

    @property
    def schedules(self) -> Schedules:
        """The schedules of this queue, to look at and to act on."""
        return Schedules(self.core)

    # what is sent is typed by the schema: the overloads go from the narrow to the wide, and so overlap
    @overload
    def task(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, *, schema: Callable[P, Fields], **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[..., Any]], Task[P, Fields]]: ...
    @overload
    def task(  # type: ignore[overload-overlap]
        self, *, schema: type[T], **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[..., Any]], Task[[T], T]]: ...
    @overload  # unions, Annotated and the like are mere objects to type checkers: there the handler tells the type
    def task(self, *, schema: object, **options: Unpack[TaskOptions]) -> Register: ...

    def task(self, *without_parentheses: Any, schema: Any = UNSET, **options: Any) -> Any:
        """Register a handler. It is given the payload, and the `Job` if it has a second parameter.

        `async def` runs on the event loop of the worker, plain `def` on a thread; either has database connections of
        its own, and leaves no transaction open.

        Args:
            schema: what payloads look like: a pydantic model, a dataclass, or another type pydantic knows; not a
                model of Django: its key is what travels.
            options: `name`, `retries`, `timeout`, `backoff`, `retry_for`, `give_up_on`, `on_success`, `on_retry`,
                `on_failure`, `key`, `on_duplicate`, `result_ttl`, `version` and `upgrade`, as `sync_kit.Jobs.task`
                takes them.

        Raises:
            ConfigurationError: the name is taken, or an argument is wrong.
        """
        refuse_unknown("task", {name: options[name] for name in options if name not in TASK_OPTIONS}, TASK_OPTIONS)
        register_core = self.core.task(*without_parentheses, schema=schema, **_cleaned(options))

        def register(handler: Any) -> Task[Any, Any]:
            refuse_models(f"task {title_of(options.get('name'), handler)!r}", schema)
            cleaned = clean(handler) if callable(handler) else handler  # the core says what else it must be
            return self._keep(Task(self, register_core(cleaned), self._rule, handler))

        return register

    def every(
        self,
        interval: Seconds,
        *,
        start_immediately: bool = False,
        missed: Missed = "newest",
        overlap: bool = False,
        payload: Any = UNSET,
        **options: Unpack[TaskOptions],
    ) -> Scheduled:
        """Send a job every `interval` seconds, one for each slot on all pods together.

        Above a handler that takes nothing, or the `Job`, it makes a task of it; above a task it schedules that.
        Workers make the schedule known when they start; it goes away when no worker has it in its code any more.

        Args:
            interval: seconds from one slot to the next, at least 0.05.
            start_immediately: the first slot is at once, not after an interval.
            missed: of slots that were missed the `newest` one fires, `all` do, or they are passed over (`skip`).
            overlap: send a job although the one before has not ended; if not given, the slot waits for that.
            payload: of the jobs, for a task that takes one.
            options: those of `task`, but for the schema. `name` is the name of the task and of the schedule, above a
                task of the schedule alone.

        Raises:
            ConfigurationError: an argument is wrong, or the name is taken.
        """
        given: Any = {"start_immediately": start_immediately, "missed": missed, "overlap": overlap, "payload": payload}
        scheduled: Scheduled = self._scheduled(self.core.every(interval, **given, **_cleaned(options)))
        return scheduled

    def cron(
        self,
        expression: str,
        *,
        tz: str | tzinfo | None = None,
        start_immediately: bool = False,
        missed: Missed = "newest",
        overlap: bool = False,
        payload: Any = UNSET,
        **options: Unpack[TaskOptions],
    ) -> Scheduled:
        """Send a job at the times of a cron expression. See `every` for what it makes, and for the other arguments.

        Args:
            expression: five fields, six with seconds in front, or @hourly, @daily, @midnight, @weekly, @monthly,
                @yearly, @annually.
            tz: the time zone that it means, an IANA name; UTC if not given.

        Raises:
            ConfigurationError: an argument is wrong, no date ever fits, or the name is taken.
        """
        given: Any = {"start_immediately": start_immediately, "missed": missed, "overlap": overlap, "payload": payload}
        scheduled: Scheduled = self._scheduled(self.core.cron(expression, tz=tz, **given, **_cleaned(options)))
        return scheduled

    def named(self, name: str) -> Task[..., Any]:
        """The task of that name, for those who know no more of it: `jobs.named("send_email").send(...)`.

        Raises:
            UnknownTaskError: this process has not registered it.
        """
        if name not in self.tasks:
            raise UnknownTaskError(self.name, name, self.tasks)
        return self.tasks[name]

    def middleware(self, function: Middleware) -> Middleware:
        """Register a function that runs around each handler, within its time limit: `async def (job, call_next)`.

        It awaits `call_next()` and returns what that does, or something else; what it raises fails the run as if the
        handler had. The first that was registered is the outermost.

        Raises:
            ConfigurationError: it is not an `async def` of two parameters.
        """
        self.core.middleware(function)
        self.core.middlewares[-1] = clean_middleware(function)
        return function

    def carry(self, *variables: ContextVar[str]) -> None:
        """Let context variables travel with jobs: what they say where a job is sent, they say where it runs.

        For request ids, trace ids, a tenant's name. They are texts, 4 KiB at most for a job together, and known by
        their names: those who send and those who work carry the same. `job.headers` has them, too.

        Raises:
            ConfigurationError: one is no context variable.
        """
        self.core.carry(*variables)

    def observe(self, observer: Observer) -> None:
        """Call `observer` with every event of this queue that this process causes or notices. See `sync_kit.Jobs`."""
        self.core.observe(observer)

    def _scheduled(self, register: Any) -> Any:
        def scheduled(handler: Any) -> Task[Any, Any]:
            if isinstance(handler, Task):
                register(handler.core)
                return handler
            core = register(clean(handler) if callable(handler) else handler)
            return self._keep(Task(self, core, self._rule, bare(handler)))

        return scheduled

    def _keep(self, task: Task[Any, Any]) -> Task[Any, Any]:
        if task.name in self.tasks:
            note_replaced(self.core, task.name, self.tasks[task.name].__wrapped__, task.__wrapped__)
        self.tasks[task.name] = task
        return task


def _cleaned(options: Any) -> dict[str, Any]:
    """Options whose hooks leave the database as handlers do."""
    return {name: clean(value) if name in HOOKS and callable(value) else value for name, value in options.items()}
