"""Cancelling: what waits is gone at once, what runs ends within a second, and nothing is left for a later run."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from sync_kit import Job, Jobs
from tests.jobs.conftest import Note, status, until
from tests.queue.hands import Hands
from tests.support.ticks import Ticks

pytestmark = pytest.mark.anyio


@pytest.fixture
def endless(jobs):
    """A task that runs until it is cancelled, and what it saw."""
    seen: list[str] = []

    @jobs.task(schema=Note, retries=3, timeout=None)
    async def wait(note: Note) -> None:
        seen.append("began")
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("ended")

    return wait, seen


async def test_a_waiting_job_is_gone_at_once(face, jobs, endless):
    wait, seen = endless
    receipt = await wait.send(text="a")
    assert await face(jobs).cancel(receipt.id)
    job = await jobs.get(receipt.id)
    assert (job.status, job.attempts) == ("cancelled", 0)
    assert job.completed_at is not None
    async with jobs.worker(poll_interval=0.05):
        counts = await jobs.counts()
    assert (seen, counts.waiting, counts.cancelled) == ([], 0, 1)
    assert not await face(jobs).cancel(receipt.id), "it has ended already"


async def test_a_delayed_job_is_gone_at_once(jobs, endless):
    receipt = await endless[0].using(delay=60).send(text="a")
    assert await jobs.cancel(receipt.id)
    assert (await jobs.counts()).delayed == 0


async def test_nobody_cancels_what_is_not_known(jobs):
    assert not await jobs.cancel("01890a5d-ac96-774b-bcce-b302099a8057")


async def test_a_running_job_ends_within_a_second_and_is_not_retried(jobs, endless):
    wait, seen = endless
    receipt = await wait.send(text="a")
    async with jobs.worker(drain_timeout=0):
        await until(lambda: _is(seen, ["began"]))
        ticks = Ticks()
        assert await jobs.cancel(receipt.id)
        job = await status(jobs, receipt.id, "cancelled")
        assert ticks.elapsed() < 1
        assert (seen, job.attempts) == (["began", "ended"], 1)
        counts = await jobs.counts()
    assert (counts.active, counts.waiting, counts.delayed, counts.cancelled) == (0, 0, 0, 1)


async def test_also_when_all_slots_are_taken_and_the_worker_waits_for_nothing(jobs, endless):
    wait, seen = endless
    first, second = await wait.send_many([Note(text="a"), Note(text="b")])
    await wait.send(text="c")
    async with jobs.worker(concurrency=2, drain_timeout=0):
        await until(lambda: _is(seen, ["began"] * 2))
        for receipt in (first, second):
            ticks = Ticks()
            await jobs.cancel(receipt.id)
            await status(jobs, receipt.id, "cancelled")
            assert ticks.elapsed() < 1
        await until(lambda: _is([each for each in seen if each == "began"], ["began"] * 3))


async def test_a_lost_message_is_made_good_by_the_next_renewal(jobs, endless, monkeypatch, client, namespace):
    from sync_kit.queue import engine

    monkeypatch.setattr(engine, "LEASE", 3.0)
    wait, seen = endless
    receipt = await wait.send(text="a")
    async with jobs.worker(drain_timeout=0):
        await until(lambda: _is(seen, ["began"]))
        state = f"{namespace}:q:{{notes}}:state"
        generation, *middle, _, worker = client.hget(state, receipt.id).decode().split()
        client.hset(state, receipt.id, " ".join([generation, *middle, "1", worker]))  # marked, and nobody was told
        await status(jobs, receipt.id, "cancelled")


async def test_a_plain_function_that_ends_well_is_completed(jobs):
    started, done = [], []

    @jobs.task(schema=Note)
    def write(note: Note) -> None:
        started.append(1)
        time.sleep(0.3)
        done.append(1)

    receipt = await write.send(text="a")
    async with jobs.worker(drain_timeout=0):
        await until(lambda: _is(started, [1]))
        assert await jobs.cancel(receipt.id)
        await status(jobs, receipt.id, "completed")
    assert done == [1]


async def test_a_plain_function_that_raises_is_cancelled_and_not_retried(jobs):
    started = []

    @jobs.task(schema=Note, retries=5)
    def write(note: Note) -> None:
        started.append(1)
        time.sleep(0.3)
        raise ValueError

    receipt = await write.send(text="a")
    async with jobs.worker(drain_timeout=0):
        await until(lambda: _is(started, [1]))
        await jobs.cancel(receipt.id)
        await status(jobs, receipt.id, "cancelled")
    assert started == [1]


async def test_a_cancelled_job_can_be_retried_and_the_cancellation_does_not_come_back(jobs, endless):
    wait, seen = endless
    receipt = await wait.send(text="a")
    async with jobs.worker(drain_timeout=0):
        await until(lambda: _is(seen, ["began"]))
        await jobs.cancel(receipt.id)
        await status(jobs, receipt.id, "cancelled")
        assert await jobs.retry(receipt.id)
        await until(lambda: _is(seen, ["began", "ended", "began"]))
        assert (await jobs.get(receipt.id)).status == "active"
        await jobs.cancel(receipt.id)


async def test_a_cancelled_job_of_a_dead_worker_does_not_run_again(kit, jobs, endless, client, namespace):
    wait, _ = endless
    receipt = await wait.send(text="a")
    dead = Hands(kit, "notes")
    await anyio.to_thread.run_sync(lambda: dead.exchange(want=1, worker="dead"))
    assert await jobs.cancel(receipt.id)
    client.zadd(f"{namespace}:q:{{notes}}:leases", {receipt.id: 1}, xx=True)
    async with jobs.worker(poll_interval=0.05):
        await status(jobs, receipt.id, "cancelled")


async def test_a_message_for_an_older_run_does_not_stop_a_newer_one(jobs, endless, client, namespace):
    wait, seen = endless
    receipt = await wait.send(text="a")
    async with jobs.worker(drain_timeout=0) as worker:
        await until(lambda: _is(seen, ["began"]))
        control = f"{namespace}:q:{{notes}}:control:{worker.id}"
        client.rpush(control, f"cancel {receipt.id} 0")
        await until(lambda: _gone(client, control))
        await wait.send(text="b")
        await until(lambda: _is(seen, ["began", "began"]))


async def _gone(client, key) -> bool:
    return not client.exists(key)


async def _is(seen: list[Any], expected: list[Any]) -> bool:
    return seen == expected


async def test_a_job_that_is_handed_back_while_it_is_cancelled_is_cancelled(kit, jobs, endless):
    wait, seen = endless
    receipt = await wait.send(text="a")
    async with Jobs("notes", kit=kit).worker():
        pass
    async with jobs.worker(drain_timeout=0):
        await until(lambda: _is(seen, ["began"]))
        async with anyio.create_task_group() as group:
            group.start_soon(jobs.cancel, receipt.id)
    job: Job | None = await jobs.get(receipt.id)
    assert job is not None
    assert job.status == "cancelled"
