"""A worker inside the web process."""

from __future__ import annotations

import inspect
import logging
import weakref
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sync_kit import ConfigurationError, Worker
from sync_kit._io.loops import current_task
from sync_kit.options import refuse_unknown, shown
from sync_kit.queue.beside import Beside, announce, close_kits, names, switch
from sync_kit.queue.sigterm import heard
from sync_kit.queue.worker import DRAIN_TIMEOUT, POLL_INTERVAL
from sync_kit_starlette._start import check_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from typing_extensions import Never, Self

    from sync_kit.options import Seconds
    from sync_kit.queue.source import Source

    Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

log = logging.getLogger("sync_kit")

STATES = (
    *("off", "running", "never started", "stopped", "drained", "draining", "quiet", "starting"),
    *("stuck", "silent", "crashed", "aborted"),
)
"""What a worker may be, from good to bad."""
REMEDY = (
    "let the server send lifespan (no `--lifespan off`), give job_worker to the app that is served and not to one that "
    "is mounted below it, and enter test clients by `with`; or switch the worker off: enabled=False, SYNC_KIT_WORKER=0"
)
OPTIONS = ("concurrency", "poll_interval", "drain_timeout", "lifespan", "enabled", "quiet_on_sigterm")


def job_worker(
    jobs: Source,
    *more: Source,
    concurrency: int = 2,
    poll_interval: Seconds = POLL_INTERVAL,
    drain_timeout: Seconds = DRAIN_TIMEOUT,
    lifespan: Lifespan | None = None,
    enabled: bool | None = None,
    quiet_on_sigterm: bool = False,
    **unknown: Never,
) -> JobWorker:
    """A worker beside the app: `Starlette(lifespan=job_worker(jobs))`, or `async with job_worker(jobs):` in a lifespan.

    At the start it says in one line what it runs. On shutdown it drains (see `Worker`), then the clients of its kits
    are closed. When it crashes, by an internal error, that is logged, `/ready` of `health_routes` says so, and it is
    started again after five seconds, later after a minute; the app goes on.

    Args:
        jobs, more: whose jobs to run: `Jobs` and `Queue.processing(...)`.
        concurrency: jobs that run at the same time, of all queues together.
        poll_interval: seconds that it waits for a wake-up at most.
        drain_timeout: seconds that running jobs have to end; keep it below your server's grace period.
        lifespan: a lifespan of your own; the worker runs inside it, and its state is passed on.
        enabled: whether it runs at all; if not given, the environment decides: `SYNC_KIT_WORKER=0` switches it off.
        quiet_on_sigterm: at SIGTERM it takes no more and begins to drain, rather than when the server ends the
            lifespan, which is after the last response or not at all. Who handled the signal before still does.
            Without it no signal handler is touched.

    Raises:
        ConfigurationError: an argument is wrong, or `SYNC_KIT_WORKER` says neither yes nor no.
    """
    refuse_unknown("job_worker", unknown, OPTIONS)
    make = partial(
        Worker, jobs, *more, concurrency=concurrency, poll_interval=poll_interval, drain_timeout=drain_timeout
    )
    return JobWorker((jobs, *more), make, lifespan, enabled, quiet_on_sigterm)


class JobWorker:
    """What `job_worker` makes: a lifespan when called with the app, and a context manager for a lifespan of your own.

    It may be used again and again, and on several event loops at a time.

    Attributes:
        enabled: whether it was switched on when it was made.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        make: Callable[[], Worker],
        lifespan: Lifespan | None,
        enabled: bool | None,
        quiet_on_sigterm: bool,
    ) -> None:
        self._concurrency = make().concurrency  # wrong arguments are refused here, not when the app starts
        self.enabled, self._why = switch(enabled)
        self.sources = sources
        self._make = make
        self._lifespan = _checked(lifespan)
        self._quiet_on_sigterm = quiet_on_sigterm
        self._lives: list[Beside] = []
        self._contexts: dict[Any, AbstractAsyncContextManager[Any]] = {}
        self._at_rest = "never started"
        _made.add(self)

    def __repr__(self) -> str:
        return f"<JobWorker of {self.name}, {self.state}>"

    @property
    def name(self) -> str:
        """Its queues."""
        return names(self.sources)

    @property
    def state(self) -> str:
        """What it does in this process; on several event loops, what is worst.

        "off" (switched off), "running", "never started", "stopped" (its lifespan has ended), "drained" (at SIGTERM),
        "draining", "quiet" (takes no more), "starting", "stuck" (in a plain function that runs for more than ten of its
        timeouts), "silent" (no sign of life in Redis for 30 s), "crashed" (it is about to be started again), or
        "aborted" (an error or a cancellation has ended its lifespan, and servers go on without).
        """
        if not self.enabled:
            return "off"
        if not self._lives:
            return self._at_rest
        return max((life.state for life in self._lives), key=STATES.index)

    def quiet(self) -> None:
        """Take no more until the lifespan ends; what runs may end. From any thread, also in a signal handler."""
        for life in list(self._lives):
            life.quiet()

    def __call__(self, app: Any) -> AbstractAsyncContextManager[Any]:
        """The lifespan of an app; answers the state of your own one. Placeholders of its handlers are checked first.

        Raises:
            ConfigurationError: a placeholder of `@exclusive` or `key=` is no parameter of the path that it stands on.
        """
        check_routes(app)
        return self._around(None if self._lifespan is None else self._lifespan(app))

    async def __aenter__(self) -> Self:
        if self._lifespan is not None:
            raise ConfigurationError("lifespan= is for an app that is given this worker: leave it out of `async with`")
        task = current_task()
        if task in self._contexts:
            raise ConfigurationError(f"the worker of {self.name} is running already: make another one")
        context = self._around(None)
        await context.__aenter__()
        self._contexts[task] = context
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._contexts.pop(current_task()).__aexit__(*error)

    @asynccontextmanager
    async def _around(self, lifespan: AbstractAsyncContextManager[Any] | None) -> AsyncIterator[Any]:
        self._at_rest = "stopped"
        _aborted.discard(self)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(close_kits, self.sources)
            state = None if lifespan is None else await stack.enter_async_context(lifespan)
            if self.enabled:
                await stack.enter_async_context(self._living())
            announce(self.sources, self._concurrency, None if self.enabled else self._why)
            yield state

    @asynccontextmanager
    async def _living(self) -> AsyncIterator[None]:
        life = Beside(self._make, self.name)
        try:
            async with life:
                self._lives.append(life)
                if not self._quiet_on_sigterm:
                    yield
                else:
                    with heard(life.drain):
                        yield
        except BaseException as error:
            self._at_rest = "aborted"
            _aborted.add(self)
            log.warning(
                "the worker of %s has ended, with its lifespan, by %r: nobody starts it again", self.name, error
            )
            raise
        finally:
            if life in self._lives:
                self._lives.remove(life)


_made: weakref.WeakSet[JobWorker] = weakref.WeakSet()
_aborted: set[JobWorker] = set()
"""Those of `_made` that probes are still to find when the lifespan that made them is gone."""
_was_checked = False  # by warn_if_never_started


def workers_here() -> list[JobWorker]:
    """The workers of this process that run or should run: all that were made, without those that have ended well."""
    return [worker for worker in list(_made) if worker.state != "stopped"]


def never_started() -> str | None:
    """What is wrong if a worker of this process was made, is switched on, and its lifespan never came; else None."""
    names = sorted(worker.name for worker in list(_made) if worker.state == "never started")
    if not names:
        return None
    return f"the worker of {', '.join(names)} never started, as no lifespan came to it: {REMEDY}"


def warn_if_never_started() -> None:
    """Log what `never_started` says, at the first call in this process only: for the first request that comes."""
    global _was_checked
    if _was_checked:
        return
    _was_checked = True
    if (trouble := never_started()) is not None:
        log.warning(trouble)


def _checked(lifespan: Lifespan | None) -> Lifespan | None:
    if inspect.isasyncgenfunction(lifespan):
        raise ConfigurationError(f"lifespan {lifespan.__name__!r} yields: decorate it with @asynccontextmanager")
    if lifespan is not None and not callable(lifespan):
        raise ConfigurationError(f"lifespan must be a function of the app, not {shown(lifespan)}")
    return lifespan
