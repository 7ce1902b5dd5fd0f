"""A worker inside the web process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sync_kit.options import refuse_unknown
from sync_kit.queue.worker import DRAIN_TIMEOUT, POLL_INTERVAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from typing_extensions import Never

    from sync_kit import Jobs
    from sync_kit.options import Seconds

    Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def job_worker(
    jobs: Jobs,
    *,
    concurrency: int = 2,
    poll_interval: Seconds = POLL_INTERVAL,
    drain_timeout: Seconds = DRAIN_TIMEOUT,
    lifespan: Lifespan | None = None,
    **unknown: Never,
) -> Lifespan:
    """A lifespan that runs a worker beside the app: `Starlette(lifespan=job_worker(jobs, concurrency=10))`.

    On shutdown the worker drains (see `Jobs.worker`), then the clients of its kit are closed. No signal
    handler is touched.

    Args:
        jobs: whose jobs to run.
        concurrency: jobs that run at the same time.
        poll_interval: seconds that it waits for a wake-up at most.
        drain_timeout: seconds that running jobs have to end; keep it below your server's grace period.
        lifespan: a lifespan of your own; the worker runs inside it, and its state is passed on.

    Raises:
        ConfigurationError: an argument is wrong.
    """
    refuse_unknown("job_worker", unknown, ("concurrency", "poll_interval", "drain_timeout", "lifespan"))
    make = partial(jobs.worker, concurrency=concurrency, poll_interval=poll_interval, drain_timeout=drain_timeout)
    make()  # wrong arguments are refused here, not when the app starts

    @asynccontextmanager
    async def with_worker(app: Any) -> AsyncIterator[Any]:
        try:
            async with (lifespan or _no_lifespan)(app) as state, make():
                yield state
        finally:
            await jobs.kit.aclose()

    return with_worker


@asynccontextmanager
async def _no_lifespan(_: Any) -> AsyncIterator[None]:
    yield None
