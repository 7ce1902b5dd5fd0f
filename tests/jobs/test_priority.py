"""Those of higher priority run first, whatever way they became ready."""

from __future__ import annotations

import pytest

from sync_kit import ConfigurationError, Job
from tests.jobs.conftest import Note, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def order(jobs):
    """A task that notes in which order it ran."""
    ran: list[str] = []

    @jobs.task(schema=Note, retries=1)
    async def write(note: Note, job: Job) -> None:
        ran.append(note.text)
        if note.number == job.attempts:
            raise ValueError

    return write, ran


async def _ended(jobs, count: int) -> bool:
    counts = await jobs.counts()
    return bool(counts.completed + counts.failed == count)


async def test_jobs_run_by_priority_and_then_by_age(jobs, order):
    write, ran = order
    for name, priority in [("a", 0), ("b", -10), ("c", 10), ("d", 0), ("e", 10)]:
        await write.using(priority=priority).send(text=name)
    async with jobs.worker(concurrency=1):
        await until(lambda: _ended(jobs, 5))
    assert ran == ["c", "e", "a", "d", "b"]


async def test_a_delayed_job_and_a_retry_keep_their_priority(jobs, order, client, namespace):
    write, ran = order
    delayed = await write.using(priority=5, delay=60).send(text="delayed")
    await write.send_many([Note(text="x"), Note(text="y")])
    await write.using(priority=7).send(text="fails once", number=1)
    client.zadd(f"{namespace}:q:{{notes}}:delayed", {delayed.id: 1})
    async with jobs.worker(concurrency=1):
        await until(lambda: _ended(jobs, 4))
    assert ran == ["fails once", "fails once", "delayed", "x", "y"]
    assert (await jobs.get(delayed.id)).priority == 5


@pytest.mark.parametrize("wrong", [101, -101, 1.5, True, "high"])
async def test_a_wrong_priority_is_refused(order, wrong):
    with pytest.raises(ConfigurationError, match="priority must be"):
        order[0].using(priority=wrong)


@pytest.mark.parametrize("wrong", ["", 3])
async def test_a_wrong_tag_is_refused(order, wrong):
    with pytest.raises(ConfigurationError, match="tag must be"):
        order[0].using(tag=wrong)
