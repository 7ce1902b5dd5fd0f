"""Workers that end by themselves: after a number of jobs, or when their queues are empty."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from sync_kit import ConfigurationError, Jobs, Worker
from sync_kit.queue.emptying import until_empty
from sync_kit.queue.process import first, run_worker
from tests.jobs.conftest import Note

pytestmark = pytest.mark.anyio


@pytest.fixture
def ran() -> list[int]:
    return []


@pytest.fixture
def jobs(kit, ran):
    made = Jobs("notes", kit=kit)

    @made.task(schema=Note)
    async def write(note: Note) -> None:
        await anyio.sleep(0.01)
        ran.append(note.number)

    return made


async def send(jobs, count: int, **using) -> None:
    await jobs.named("write").using(**using).send_many(Note(text="", number=number) for number in range(count))


async def work_off(*queues, **options) -> Worker:
    worker = Worker(*queues, poll_interval=0.1, **options)
    with anyio.fail_after(30):
        await run_worker(worker, handle_signals=False, until=partial(until_empty, worker, queues))
    return worker


@pytest.mark.parametrize("concurrency", [1, 3, 50])
async def test_a_worker_runs_as_many_jobs_as_it_may_and_none_more(jobs, ran, concurrency):
    await send(jobs, 30)
    worker = Worker(jobs, concurrency=concurrency, max_jobs=7, poll_interval=0.1)
    with anyio.fail_after(30):
        await run_worker(worker, handle_signals=False, until=worker.spent)
    assert len(ran) == worker.took == 7
    counts = await jobs.counts()
    assert (counts.completed, counts.waiting, counts.active) == (7, 23, 0)


async def test_jobs_that_come_late_count_too(jobs, ran):
    worker = Worker(jobs, concurrency=3, max_jobs=4, poll_interval=0.1)
    async with worker:
        for _ in range(2):
            await worker.rest()
            await send(jobs, 3)
        with anyio.fail_after(10):
            await worker.spent()
    assert len(ran) == 4


@pytest.mark.parametrize("most", [0, True, 1.5])
def test_a_wrong_number_of_jobs_is_refused(jobs, most):
    with pytest.raises(ConfigurationError, match="max_jobs must be"):
        Worker(jobs, max_jobs=most)


async def test_a_queue_is_empty_when_all_has_been_run_that_is_due(jobs, ran):
    await send(jobs, 25)
    await send(jobs, 2, delay=3600)
    await work_off(jobs, concurrency=4)
    assert len(ran) == 25
    assert (await jobs.counts()).delayed == 2


async def test_jobs_that_jobs_of_another_queue_send_are_run_too(kit, jobs, ran):
    parents = Jobs("parents", kit=kit)

    @parents.task(schema=int)
    async def split(number: int) -> None:
        await anyio.sleep(0.02)
        await send(jobs, 2)
        if number:
            await split.send(number - 1)

    await split.send(5)
    await work_off(jobs, parents)
    assert len(ran) == 12


async def test_what_another_worker_runs_is_waited_for(make_kit, jobs, ran):
    kit = make_kit()
    other, may_end = Jobs("notes", kit=kit), anyio.Event()

    @other.task(schema=Note, name="write")
    async def hold(note: Note) -> None:
        await may_end.wait()
        await send(jobs, 1)

    async with other.worker(concurrency=1, poll_interval=0.1) as worker, anyio.create_task_group() as group:
        await send(jobs, 1)
        with anyio.fail_after(10):
            while worker.took == 0:
                await anyio.sleep(0.01)
        worker.quiet()
        group.start_soon(work_off, jobs)
        await anyio.sleep(0.5)
        assert ran == []
        may_end.set()
    assert ran == [0]
    await kit.aclose()
    await anyio.to_thread.run_sync(kit.close)


async def test_a_paused_queue_is_left_as_it_is(jobs, ran):
    await send(jobs, 1)
    await jobs.pause()
    await work_off(jobs)
    assert ran == []


async def test_the_first_of_several_ends_the_others(jobs):
    ended = []

    async def end(name: str, after: float) -> None:
        await anyio.sleep(after)
        ended.append(name)

    with anyio.fail_after(5):
        await first(partial(end, "soon", 0.01), partial(end, "late", 60))
    assert ended == ["soon"]
