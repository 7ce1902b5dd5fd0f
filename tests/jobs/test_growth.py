"""Nothing grows with time: neither on the server nor in a worker."""

from __future__ import annotations

import gc

import anyio
import pytest

from sync_kit import Job, JobError, Jobs
from sync_kit.jobs.run import JobRun
from tests.jobs.conftest import Note, until
from tests.queue.hands import Hands

pytestmark = pytest.mark.anyio

COUNT = 300


@pytest.fixture
def write(kit):
    jobs = Jobs("notes", keep=0, kit=kit)

    @jobs.task(schema=Note, key=lambda note: str(note.number), result_ttl=60, on_duplicate="replace")
    async def write(note: Note, job: Job) -> str:
        job.log("a line")
        await job.progress(0.5)
        if note.number % 7 == 0:
            raise ValueError("no ink")
        return note.text

    return write


async def _wait(receipt):
    try:
        await receipt.result(timeout=30)
    except JobError:
        pass


async def _round(write):
    receipts = await write.send_many([Note(text="a", number=n) for n in range(COUNT)])
    async with anyio.create_task_group() as group:
        for receipt in receipts[:20]:
            group.start_soon(_wait, receipt)
    await until(lambda: _idle(write.jobs))


async def test_jobs_with_everything_leave_nothing_behind(kit, write, client, namespace):
    jobs = write.jobs
    async with jobs.worker(concurrency=20):
        for _ in range(2):
            await _round(write)
        await jobs.retry_failed()
        await until(lambda: _idle(jobs))
        for job in await until(lambda: _failed(jobs)):
            await jobs.delete(job.id)

    def left():
        client.zadd(jobs.engine.layout.expiries, dict.fromkeys(client.zrange(jobs.engine.layout.expiries, 0, -1), 1))
        hands = Hands(kit, "notes")
        for _ in range(2 * COUNT // 100 + 2):
            hands.exchange(sweep=True, keep=jobs.keep)
        keys = {key.decode().rpartition(":")[2] for key in client.keys(f"{namespace}:*") if client.ttl(key) < 0}
        return keys - {"wake"}

    assert await anyio.to_thread.run_sync(left) == set()


async def _idle(jobs):
    counts = await jobs.counts()
    return counts.waiting + counts.delayed + counts.active == 0


async def _failed(jobs):
    return await jobs.list(status="failed", limit=1000)


async def test_a_worker_does_not_keep_the_runs_that_have_ended(jobs):
    @jobs.task(schema=Note, timeout=None)
    def plain(note: Note, job: Job) -> None:
        job.log("a line")

    @jobs.middleware
    async def around(job, call_next):
        return await call_next()

    async with jobs.worker(concurrency=5):
        await plain.send_many([Note(text="a", number=n) for n in range(COUNT)])
        await until(lambda: _idle(jobs))
        await until(_few_runs_are_left)


async def _few_runs_are_left():
    gc.collect()
    # asyncio keeps up to a hundred cancelled timers with their contexts, threads of older anyios what they did last
    return len([each for each in gc.get_objects() if isinstance(each, JobRun)]) <= 110
