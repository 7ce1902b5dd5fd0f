"""The facade of background jobs."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from sync_kit.errors import ConfigurationError, UnknownTaskError
from sync_kit.jobs.blocking import BlockingJobs
from sync_kit.jobs.job import Counts, Job, JobList, Status, seen
from sync_kit.jobs.options import TIMEOUT, Options, read_key, read_on_duplicate, read_result_ttl, read_timeout
from sync_kit.jobs.policy import Moment, read_policy
from sync_kit.jobs.registering import (
    NO_SCHEMA,
    TASK_OPTIONS,
    ErrorTypes,
    Register,
    TaskOptions,
    origin,
    takes,
    title_of,
)
from sync_kit.jobs.results import wait_for_result
from sync_kit.jobs.run import JobRun
from sync_kit.jobs.schedules.declare import Scheduling
from sync_kit.jobs.schedules.keeper import Keeper
from sync_kit.jobs.task import UNSET, Task
from sync_kit.jobs.versions import Versions, read_kind
from sync_kit.options import Seconds, choice, name_sent, refuse_unknown, seconds, whole
from sync_kit.queue.engine import BATCH
from sync_kit.queue.process import run_worker
from sync_kit.queue.records import Keep
from sync_kit.queue.run import is_async
from sync_kit.queue.schema import MOST_BYTES, Schema, read_most
from sync_kit.queue.source import Source
from sync_kit.queue.worker import DRAIN_TIMEOUT, POLL_INTERVAL, Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from _typeshed import DataclassInstance
    from pydantic import BaseModel
    from typing_extensions import Never, Unpack

    from sync_kit._io.flow import Flow
    from sync_kit.jobs.options import Key, OnDuplicate
    from sync_kit.kit import SyncKit
    from sync_kit.queue.backoff import Backoff
    from sync_kit.queue.records import Claim

    Middleware = Callable[[Job, Callable[[], Awaitable[Any]]], Awaitable[Any]]

P = ParamSpec("P")
T = TypeVar("T")
Fields = TypeVar("Fields", bound="BaseModel | DataclassInstance")

STATUSES = ("waiting", "delayed", "active", "completed", "failed", "cancelled", "parked")
PARK_TTL = 7 * 86400.0
MOST_LOOKED = 1000


class Jobs(Scheduling, Source):
    """Background jobs: sent from anywhere, run at least once by a worker.

    A job that was accepted is run to a final state, whatever process dies, whenever. Handlers may run
    twice (at least once, never "exactly once"). See `sync_kit/jobs/README.md`.

    Args:
        name: the queue; jobs and workers of one name belong together.
        keep: seconds that completed and cancelled jobs are kept (at most 10 000 of them); failed ones stay for 7 days.
        max_payload: bytes that a payload may have.
        park_ttl: seconds that a job whose task no worker knows waits for one that does; then it has failed.
        kit: where the jobs live; the default kit if not given.

    Raises:
        ConfigurationError: an argument is wrong; the message says how to fix it.
    """

    space = "q"
    task_options = TASK_OPTIONS

    def __init__(
        self,
        name: str,
        *,
        keep: Seconds = 3600.0,
        max_payload: int = MOST_BYTES,
        park_ttl: Seconds = PARK_TTL,
        kit: SyncKit | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("Jobs", unknown, ("keep", "max_payload", "park_ttl", "kit"))
        Scheduling.__init__(self)
        Source.__init__(self, name, Keep(completed=seconds("keep", keep), parked=seconds("park_ttl", park_ttl)), kit)
        self.max_payload = read_most(max_payload)
        self.tasks: dict[str, Task[Any, Any]] = {}
        self.middlewares: list[Middleware] = []
        self.carried: tuple[ContextVar[str], ...] = ()
        self._kinds: dict[str, tuple[str, int]] = {}

    def __repr__(self) -> str:
        return f"<Jobs {self.name!r} tasks={[*self.tasks]}>"

    @property
    def kinds(self) -> Collection[str]:
        """What the queue calls jobs of the tasks that are registered here, each in the versions that can be read."""
        return self._kinds.keys()

    def find(self, kind: str) -> tuple[Task[Any, Any] | None, int]:
        """The task behind what the queue calls a job, and the version of its payload; None if it cannot be run here."""
        name, version = self._kinds.get(kind, ("", 0))
        return self.tasks.get(name), version

    def title(self, kind: str) -> str:
        """See `QueueBase.title`."""
        return read_kind(kind)[0]

    def open(self, claim: Claim) -> JobRun:
        """See `Source.open`."""
        return JobRun(claim, self)

    def companion(self, worker: str) -> Keeper:
        """See `Source.companion`."""
        return Keeper(self, worker)

    @property
    def blocking(self) -> BlockingJobs:
        """The same for code without an event loop."""
        return BlockingJobs(self)

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

    def task(
        self,
        *without_parentheses: Any,
        schema: Any = UNSET,
        name: str | None = None,
        retries: int = 0,
        timeout: Seconds | None = TIMEOUT,
        backoff: Backoff | None = None,
        retry_for: ErrorTypes | None = None,
        give_up_on: ErrorTypes | None = None,
        on_success: Callable[[Job], Any] | None = None,
        on_retry: Callable[[Job, BaseException], Any] | None = None,
        on_failure: Callable[[Job, BaseException], Any] | None = None,
        key: Key | None = None,
        on_duplicate: OnDuplicate = "return",
        result_ttl: Seconds | None = None,
        version: int = 1,
        upgrade: Mapping[int, Callable[[Any], Any]] | None = None,
        **unknown: Never,
    ) -> Any:
        """Register a handler.

        The handler is given the payload, and the `Job` if it has a second parameter. `async def` runs on
        the event loop of the worker, plain `def` on a thread.

        Args:
            schema: what payloads look like: a pydantic model, a dataclass, or another type pydantic knows.
            name: the task's name in Redis; the function's name if not given. Keep it when you rename the function.
            retries: runs after a first one that raised or timed out.
            timeout: seconds that a run may take; None for no limit. A plain `def` cannot be interrupted: it is
                only reported.
            backoff: how long to wait before each retry; they run at once if not given.
            retry_for: exception types that are worth a retry, all if not given. A timeout is a `TimeoutError`.
            give_up_on: exception types that fail the job at once; they go before `retry_for`.
            on_success: called with the job when a run ended well; async, or plain and then on a thread.
            on_retry: called with the job and the error when a run failed and the job will be tried again.
            on_failure: the same when the job has failed for good. A hook that raises, or takes more than 30 s, is
                logged and changes nothing. Hooks run before the outcome is stored, so they may run twice as
                handlers do; they are not called for jobs whose worker died.
            key: at most one job of this task with this key waits, is delayed, parked, between retries or runs; a text,
                or a function that makes one of the payload: `key=lambda email: email.to`.
            on_duplicate: what a second one does: `return` the receipt of the first with `duplicate=True`, `raise` a
                `DuplicateJobError`, or `replace` the first: one that has not begun is cancelled, one that runs may end
                (and is not run again), and the second waits for that.
            result_ttl: seconds that what the handler returns is kept for `receipt.result()`; it is not if not given.
            version: of the payload, from 1. Count up when the schema changes so that jobs sent before do not fit; jobs
                of a newer version than a worker knows are parked for one that knows it.
            upgrade: for each older version that may still come, a function that takes the plain JSON values of
                its payload and returns those of the next version: `upgrade={1: to_two, 2: to_three}`.

        Raises:
            ConfigurationError: the name is taken, or an argument is wrong.
        """
        if without_parentheses or schema is UNSET:
            raise ConfigurationError(NO_SCHEMA)
        refuse_unknown("task", unknown, TASK_OPTIONS)
        hooks: dict[Moment, Any] = {"on_success": on_success, "on_retry": on_retry, "on_failure": on_failure}
        policy = read_policy(backoff, retry_for, give_up_on, hooks)
        options = Options(
            whole("retries", retries, most=10_000),
            read_timeout(timeout),
            key=read_key(key),
            on_duplicate=read_on_duplicate(on_duplicate, key),
            result_ttl=read_result_ttl(result_ttl),
        )

        def register(handler: Callable[..., Any]) -> Task[Any, Any]:
            title = title_of(name, handler)
            self._refuse_other(title, handler)
            versions = Versions(title, version, upgrade)
            checked: Schema[Any] = Schema(f"task {title!r}", schema, self.max_payload)
            return self._register(Task(self, versions, checked, options, handler, policy))

        return register

    def named(self, name: str) -> Task[..., Any]:
        """The task of that name, for those who know no more of it: `await jobs.named("send_email").send(...)`.

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
        if not is_async(function) or not takes(function, 2):
            raise ConfigurationError(
                f"a middleware is an async def with a job and call_next, which {function!r} is not"
            )
        self.middlewares.append(function)
        return function

    def carry(self, *variables: ContextVar[str]) -> None:
        """Let context variables travel with jobs: what they say where a job is sent, they say where it runs.

        For request ids, trace ids, a tenant's name. They are texts, 4 KiB at most for a job together, and known by
        their names: those who send and those who work carry the same. `job.headers` has them, too.

        Raises:
            ConfigurationError: one is no context variable.
        """
        for variable in variables:
            if not isinstance(variable, ContextVar):
                raise ConfigurationError(f"carry takes context variables, not {variable!r}")
        self.carried = tuple(dict.fromkeys((*self.carried, *variables)))

    async def get(self, job_id: str) -> Job | None:
        """What is known of a job; None if it is unknown or no longer kept."""
        return await self.kit.driver.run(self.get_flow(job_id))

    async def result(self, job_id: str, timeout: Seconds | None = None) -> Any:
        """What the handler of a job made, once that has ended. Takes, returns and raises what `Receipt.result` does."""
        return await wait_for_result(self, job_id, timeout)

    async def list(
        self,
        *,
        status: Status,
        task: str | None = None,
        tag: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> JobList:
        """A page of the jobs of one status; those that ended have the newest first, the others what is next.

        Jobs that come, go or move meanwhile make no other job appear twice or not at all.

        Args:
            status: waiting, delayed, active, completed, failed, cancelled or parked.
            task: only jobs of this task.
            tag: only jobs with this tag.
            limit: jobs at most. With a filter a page may hold fewer although there are more: it ends after
                about 1000 jobs that were looked at.
            cursor: what `.cursor` of the page before says; the first page if not given.

        Returns:
            A list of jobs with a `cursor` for the next page, None at the end.

        Raises:
            ConfigurationError: an argument is wrong.
            Unavailable: Redis cannot be reached.
        """
        return await self.kit.driver.run(self.list_flow(status, task, tag, limit, cursor))

    async def counts(self) -> Counts:
        """How many jobs are in each status."""
        return await self.kit.driver.run(self.counts_flow())

    async def cancel(self, job_id: str) -> bool:
        """End a job that has not ended: one that waits at once, one that runs within a second.

        The handler of a running job is cancelled; a plain function on a thread cannot be, so it goes on, and if it
        ends well its job is completed. A job that is cancelled is neither retried nor run again; it is kept as
        `cancelled` as long as completed ones.

        Returns:
            False if it had ended already, or is not known.

        Raises:
            Unavailable: Redis cannot be reached; whether it was carried out is not known.
        """
        return await self.kit.driver.run(self.cancel_flow(job_id))

    async def retry(self, job_id: str) -> bool:
        """Let a job run again that failed or was cancelled, with all of its retries before it; False if there is none.

        Raises:
            Unavailable: Redis cannot be reached; whether it was carried out is not known.
        """
        return await self.kit.driver.run(self.retry_flow(job_id)) == 1

    async def retry_failed(self) -> int:
        """Let all jobs run again that have failed until now; returns how many there were. Raises what `retry` does.

        A hundred go at a time: when it is interrupted, the others stay where they are.
        """
        return await self.kit.driver.run(self.desk.retry_flow())

    async def delete(self, job_id: str) -> bool:
        """Forget a job that has ended; False if there is none of this id among them. Raises what `retry` does."""
        return await self.kit.driver.run(self.delete_flow(job_id)) == 1

    def worker(
        self,
        *,
        concurrency: int = 10,
        poll_interval: Seconds = POLL_INTERVAL,
        drain_timeout: Seconds = DRAIN_TIMEOUT,
        **unknown: Never,
    ) -> Worker:
        """A worker that runs beside your code: `async with jobs.worker(): ...`. It drains on exit.

        One worker over several queues is `Worker(mail, reports, concurrency=10)`.

        Args:
            concurrency: jobs that run at the same time.
            poll_interval: seconds that it waits for a wake-up at most.
            drain_timeout: seconds that running jobs have to end on exit; then they are cancelled and handed back.

        Raises:
            ConfigurationError: an argument is wrong.
        """
        refuse_unknown("worker", unknown, ("concurrency", "poll_interval", "drain_timeout"))
        return Worker(self, concurrency=concurrency, poll_interval=poll_interval, drain_timeout=drain_timeout)

    async def run(
        self,
        *,
        concurrency: int = 10,
        poll_interval: Seconds = POLL_INTERVAL,
        drain_timeout: Seconds = DRAIN_TIMEOUT,
        handle_signals: bool = False,
        **unknown: Never,
    ) -> None:
        """Be a worker until cancelled; with `handle_signals` until SIGINT or SIGTERM, then drain. See `worker`.

        A second signal ends the draining: what still runs is handed back. A third one ends the process as it is.
        """
        refuse_unknown("run", unknown, ("concurrency", "poll_interval", "drain_timeout", "handle_signals"))
        worker = self.worker(concurrency=concurrency, poll_interval=poll_interval, drain_timeout=drain_timeout)
        await run_worker(worker, handle_signals=handle_signals)

    def get_flow(self, job_id: str) -> Flow[Job | None]:
        """The flow of `get`."""
        found = yield from self.desk.look_flow([name_sent("a job id", job_id)])
        return seen(found[0], self.tasks) if found else None

    def list_flow(
        self, status: str, task: str | None, tag: str | None, limit: int, cursor: str | None
    ) -> Flow[JobList]:
        """The flow of `list`."""
        wanted: Any = choice("status", status, STATUSES)
        most, looked, jobs = whole("limit", limit, least=1, most=1000), 0, JobList()
        while looked < MOST_LOOKED:
            page = BATCH if task or tag else most - len(jobs)
            entries, following = yield from self.desk.page_flow(wanted, page, cursor)
            looked += len(entries)
            for entry, behind in entries:
                job = seen(entry, self.tasks)
                if task in (None, job.task) and tag in (None, job.tag):
                    jobs.append(job)
                    if len(jobs) == most:
                        jobs.cursor = None if following is None and entry is entries[-1][0] else behind
                        return jobs
            jobs.cursor = cursor = following
            if following is None:
                break
        return jobs

    def cancel_flow(self, job_id: str) -> Flow[bool]:
        """The flow of `cancel`."""
        return self.desk.cancel_flow(name_sent("a job id", job_id))

    def retry_flow(self, job_id: str) -> Flow[int]:
        """The flow of `retry`."""
        return self.desk.retry_flow([name_sent("a job id", job_id)])

    def delete_flow(self, job_id: str) -> Flow[int]:
        """The flow of `delete`."""
        return self.desk.delete_flow([name_sent("a job id", job_id)])

    def counts_flow(self) -> Flow[Counts]:
        """The flow of `counts`."""
        tally = yield from self.desk.count_flow()
        return Counts(*astuple(tally))

    def _register(self, task: Task[Any, Any]) -> Task[Any, Any]:
        self.tasks[task.name] = task
        known = self.tasks.values()
        self._kinds = {kind: (each.name, version) for each in known for kind, version in each.versions.kinds.items()}
        return task

    def _refuse_other(self, name: str, handler: Callable[..., Any]) -> None:
        known = self.tasks.get(name)
        if known is not None and origin(known.handler) != origin(handler):
            raise ConfigurationError(
                f"task {name!r} of {self.name!r} is {'.'.join(origin(known.handler))} already: give one of them a name="
            )
