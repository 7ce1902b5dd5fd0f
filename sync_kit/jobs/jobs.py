"""The facade of background jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from sync_kit.errors import ConfigurationError
from sync_kit.jobs.job import Counts, Job, Status, seen
from sync_kit.jobs.policy import Backoff, Moment, read_policy
from sync_kit.jobs.schema import Schema
from sync_kit.jobs.task import TIMEOUT, Options, Task, read_timeout
from sync_kit.jobs.worker import Worker, run_worker
from sync_kit.kit import SyncKit, default_kit
from sync_kit.options import Seconds, choice, label, refuse_unknown, seconds, whole
from sync_kit.queue import Engine, Keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Never

    from sync_kit._io.flow import Flow

P = ParamSpec("P")
T = TypeVar("T")

JobList = list[Job]  # inside the classes, `list` is a verb
ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]
TASK_OPTIONS = (
    *("schema", "name", "retries", "timeout", "backoff", "retry_for", "give_up_on"),
    *("on_success", "on_retry", "on_failure"),
)
STATUSES = ("waiting", "delayed", "active", "completed", "failed")


class Jobs:
    """Background jobs: sent from anywhere, run at least once by a worker.

    A job that was accepted is run to a final state, whatever process dies, whenever. Handlers may run
    twice (at least once, never "exactly once"). See `sync_kit/jobs/README.md`.

    Args:
        name: the queue; jobs and workers of one name belong together.
        keep: seconds that completed jobs are kept (at most 10 000 of them); failed ones stay for 7 days.
        kit: where the jobs live; the default kit if not given.

    Raises:
        ConfigurationError: an argument is wrong; the message says how to fix it.
    """

    def __init__(self, name: str, *, keep: Seconds = 3600.0, kit: SyncKit | None = None, **unknown: Never) -> None:
        refuse_unknown("Jobs", unknown, ("keep", "kit"))
        self.name = label("the name of a queue", name)
        self.keep = Keep(completed=seconds("keep", keep))
        self.tasks: dict[str, Task[Any, Any]] = {}
        self._kit = kit
        self._engine: tuple[str, Engine] | None = None

    def __repr__(self) -> str:
        return f"<Jobs {self.name!r} tasks={list(self.tasks)}>"

    @property
    def kit(self) -> SyncKit:
        """The kit these jobs live on."""
        return self._kit or default_kit()

    @property
    def engine(self) -> Engine:
        """The queue behind the jobs. For the rooms of sync_kit itself."""
        namespace = self.kit.namespace
        if self._engine is None or self._engine[0] != namespace:
            self._engine = (namespace, Engine(namespace, self.name))
        return self._engine[1]

    @property
    def blocking(self) -> BlockingJobs:
        """The same for code without an event loop."""
        return BlockingJobs(self)

    def task(
        self,
        *,
        schema: Callable[P, T],
        name: str | None = None,
        retries: int = 0,
        timeout: Seconds | None = TIMEOUT,
        backoff: Backoff | None = None,
        retry_for: ErrorTypes | None = None,
        give_up_on: ErrorTypes | None = None,
        on_success: Callable[[Job], Any] | None = None,
        on_retry: Callable[[Job, BaseException], Any] | None = None,
        on_failure: Callable[[Job, BaseException], Any] | None = None,
        **unknown: Never,
    ) -> Callable[[Callable[..., Any]], Task[P, T]]:
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

        Raises:
            ConfigurationError: the name is taken, or an argument is wrong.
        """
        refuse_unknown("task", unknown, TASK_OPTIONS)
        hooks: dict[Moment, Any] = {"on_success": on_success, "on_retry": on_retry, "on_failure": on_failure}
        policy = read_policy(backoff, retry_for, give_up_on, hooks)
        options = Options(whole("retries", retries, most=10_000), read_timeout(timeout))

        def register(handler: Callable[..., Any]) -> Task[P, T]:
            title = label("the name of a task", handler.__name__ if name is None else name)
            self._refuse_other(title, handler)
            task: Task[P, T] = Task(self, title, Schema(title, schema), options, handler, policy)
            self.tasks[title] = task
            return task

        return register

    async def get(self, job_id: str) -> Job | None:
        """What is known of a job; None if it is unknown or no longer kept."""
        return await self.kit.driver.run(self.get_flow(job_id))

    async def list(self, *, status: Status, limit: int = 100) -> JobList:
        """Up to `limit` jobs of one status; completed and failed ones with the newest first."""
        return await self.kit.driver.run(self.list_flow(status, limit))

    async def counts(self) -> Counts:
        """How many jobs are in each status."""
        return await self.kit.driver.run(self.counts_flow())

    async def retry(self, job_id: str) -> bool:
        """Let a failed job run again, with all of its retries before it; False if it is not among the failed ones.

        Raises:
            Unavailable: Redis cannot be reached; whether it was carried out is not known.
        """
        return await self.kit.driver.run(self.retry_flow(job_id)) == 1

    async def retry_failed(self) -> int:
        """Let all jobs run again that have failed until now; returns how many there were. Raises what `retry` does.

        A hundred go at a time: when it is interrupted, the others stay where they are.
        """
        return await self.kit.driver.run(self.engine.retry_flow())

    async def delete(self, job_id: str) -> bool:
        """Forget a job that has ended; False if there is none of this id among them. Raises what `retry` does."""
        return await self.kit.driver.run(self.delete_flow(job_id)) == 1

    async def pause(self) -> bool:
        """Let no worker take jobs until `resume`; those that run go on, and sending works as ever.

        It holds on all hosts and after restarts, until somebody resumes.

        Returns:
            Whether it was not paused before.

        Raises:
            Unavailable: Redis cannot be reached; whether it was carried out is not known.
        """
        return await self.kit.driver.run(self.engine.pause_flow(True))

    async def resume(self) -> bool:
        """Undo `pause`, and wake a worker; returns whether it was paused. Raises what `pause` does."""
        return await self.kit.driver.run(self.engine.pause_flow(False))

    def worker(
        self,
        *,
        concurrency: int = 10,
        poll_interval: Seconds = 1.0,
        drain_timeout: Seconds = 20.0,
        **unknown: Never,
    ) -> Worker:
        """A worker that runs beside your code: `async with jobs.worker(): ...`. It drains on exit.

        Args:
            concurrency: jobs that run at the same time.
            poll_interval: seconds that it waits for a wake-up at most.
            drain_timeout: seconds that running jobs have to end on exit; then they are cancelled and handed back.

        Raises:
            ConfigurationError: an argument is wrong.
        """
        refuse_unknown("worker", unknown, ("concurrency", "poll_interval", "drain_timeout"))
        return Worker(
            self,
            concurrency=whole("concurrency", concurrency, least=1, most=10_000),
            poll_interval=seconds("poll_interval", poll_interval, least=0.01, most=60),
            drain_timeout=seconds("drain_timeout", drain_timeout),
        )

    async def run(
        self,
        *,
        concurrency: int = 10,
        poll_interval: Seconds = 1.0,
        drain_timeout: Seconds = 20.0,
        handle_signals: bool = False,
        **unknown: Never,
    ) -> None:
        """Be a worker until cancelled; with `handle_signals` until SIGINT or SIGTERM, then drain. See `worker`."""
        refuse_unknown("run", unknown, ("concurrency", "poll_interval", "drain_timeout", "handle_signals"))
        worker = self.worker(concurrency=concurrency, poll_interval=poll_interval, drain_timeout=drain_timeout)
        await run_worker(worker, handle_signals=handle_signals)

    def get_flow(self, job_id: str) -> Flow[Job | None]:
        """The flow of `get`."""
        found = yield from self.engine.look_flow([label("a job id", job_id)])
        return seen(found[0], self.tasks) if found else None

    def list_flow(self, status: str, limit: int) -> Flow[JobList]:
        """The flow of `list`."""
        wanted: Any = choice("status", status, STATUSES)
        entries = yield from self.engine.list_flow(wanted, whole("limit", limit, least=1, most=1000))
        return [seen(entry, self.tasks) for entry in entries]

    def retry_flow(self, job_id: str) -> Flow[int]:
        """The flow of `retry`."""
        return self.engine.retry_flow([label("a job id", job_id)])

    def delete_flow(self, job_id: str) -> Flow[int]:
        """The flow of `delete`."""
        return self.engine.delete_flow([label("a job id", job_id)])

    def counts_flow(self) -> Flow[Counts]:
        """The flow of `counts`."""
        counts = yield from self.engine.count_flow()
        return Counts(*counts)

    def _refuse_other(self, name: str, handler: Callable[..., Any]) -> None:
        known = self.tasks.get(name)
        if known is not None and _origin(known.handler) != _origin(handler):
            raise ConfigurationError(
                f"task {name!r} of {self.name!r} is {'.'.join(_origin(known.handler))} already: "
                "give one of them a name="
            )


class BlockingJobs:
    """The blocking twin of `Jobs`: the same verbs for looking and acting, without await. Workers are async only."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def get(self, job_id: str) -> Job | None:
        """See `Jobs.get`."""
        return self._jobs.kit.run_blocking(self._jobs.get_flow(job_id), "jobs.get(...)")

    def list(self, *, status: Status, limit: int = 100) -> JobList:
        """See `Jobs.list`."""
        return self._jobs.kit.run_blocking(self._jobs.list_flow(status, limit), "jobs.list(...)")

    def counts(self) -> Counts:
        """See `Jobs.counts`."""
        return self._jobs.kit.run_blocking(self._jobs.counts_flow(), "jobs.counts()")

    def retry(self, job_id: str) -> bool:
        """See `Jobs.retry`."""
        return self._jobs.kit.run_blocking(self._jobs.retry_flow(job_id), "jobs.retry(...)") == 1

    def retry_failed(self) -> int:
        """See `Jobs.retry_failed`."""
        return self._jobs.kit.run_blocking(self._jobs.engine.retry_flow(), "jobs.retry_failed()")

    def pause(self) -> bool:
        """See `Jobs.pause`."""
        return self._jobs.kit.run_blocking(self._jobs.engine.pause_flow(True), "jobs.pause()")

    def resume(self) -> bool:
        """See `Jobs.resume`."""
        return self._jobs.kit.run_blocking(self._jobs.engine.pause_flow(False), "jobs.resume()")

    def delete(self, job_id: str) -> bool:
        """See `Jobs.delete`."""
        return self._jobs.kit.run_blocking(self._jobs.delete_flow(job_id), "jobs.delete(...)") == 1


def _origin(handler: Callable[..., Any]) -> tuple[str, str]:
    return handler.__module__, handler.__qualname__
