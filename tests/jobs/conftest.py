"""What the tests of jobs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pydantic import BaseModel

from sync_kit import Jobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Note(BaseModel):
    """A payload."""

    text: str
    number: int = 0


@pytest.fixture
def jobs(kit):
    return Jobs("notes", kit=kit)


@pytest.fixture
def client(server):
    with server.client() as made:
        yield made


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> Any:
    """Wait for a condition, with a deadline."""
    with anyio.fail_after(seconds):
        while not (answer := await condition()):
            await anyio.sleep(0.01)
    return answer


async def status(jobs: Jobs, job_id: str, wanted: str, seconds: float = 20.0) -> Any:
    """Wait until a job has a status, and return it."""

    async def reached() -> Any:
        job = await jobs.get(job_id)
        return job if job is not None and job.status == wanted else None

    return await until(reached, seconds)
