"""What the tests of django.tasks share: a worker, waiting for results, other options."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import Any

from django.conf import settings
from django.test.utils import override_settings

from sync_kit import Jobs, Worker
from sync_kit_django.backend.library import task_backends
from tests.jobs.conftest import until


def default_backend() -> Any:
    return task_backends["default"]


@contextmanager
def with_options(**options: Any):
    """The default backend with other `OPTIONS`."""
    with override_settings(TASKS={"default": {**settings.TASKS["default"], "OPTIONS": options}}):
        yield default_backend()


@asynccontextmanager
async def working(**options: Any):
    """A worker on all queues of the default backend."""
    async with Worker(*default_backend().task_queues, **{"poll_interval": 0.05, **options}) as worker:
        yield worker


async def ended(result: Any, seconds: float = 20.0) -> Any:
    """Wait until a task is finished."""

    async def is_finished() -> bool:
        await result.arefresh()
        return bool(result.is_finished)

    await until(is_finished, seconds)
    return result


async def done(result: Any, **options: Any) -> Any:
    """Let a worker of its own finish a task."""
    async with working(**options):
        return await ended(result)


def true(condition: Any) -> Any:
    """For `until`: a condition that needs no waiting."""

    async def asked() -> bool:
        return bool(condition())

    return asked


def in_status(queue: Any, job_id: str, status: str) -> Any:
    """For `until`: the job, once it has a status."""

    async def asked() -> Any:
        job = await queue.get(job_id)
        return job if job is not None and job.status == status else None

    return asked


async def smuggle(queue: Any, path: str, payload: dict[str, Any] | None = None) -> str:
    """Send a job as somebody could who writes to Redis; returns its id."""
    other = Jobs(queue.name, kit=queue.kit)

    @other.task(schema=dict, name=path, result_ttl=60)
    def anything(_: dict[str, Any]) -> None: ...

    receipt = await anything.send(payload or {"args": [], "kwargs": {}})
    return receipt.id
