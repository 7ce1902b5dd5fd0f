"""What observers are told, and what workers say of themselves."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import FrozenInstanceError

import anyio
import pytest

from sync_kit import Jobs, Queue
from sync_kit.queue import Event, Failed, Finished, Lost, Parked, Retried, Sent, Started, run
from tests.jobs.conftest import Note, status, until
from tests.queue.hands import Hands

pytestmark = pytest.mark.anyio


@pytest.fixture
def told(jobs):
    events: list[Event] = []
    jobs.observe(events.append)
    return events


def kinds(told):
    return [type(event) for event in told]


async def test_a_job_that_is_retried_and_completed(jobs, told):
    @jobs.task(schema=Note, retries=1)
    async def write(note: Note, job) -> None:
        if job.attempts == 1:
            raise ValueError("no ink")

    receipt = await write.send(text="a")
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
        await until(lambda: _has(told, Finished))
    assert kinds(told) == [Sent, Started, Retried, Started, Finished]
    assert {(event.queue, event.id, event.task) for event in told} == {("notes", receipt.id, "write")}
    assert (told[2].error, told[2].after, told[2].attempt) == ("ValueError: no ink", 0.0, 1)
    assert (told[4].attempt, told[4].seconds >= 0) == (2, True)
    with pytest.raises(FrozenInstanceError):
        told[0].id = "other"


async def _has(told, kind):
    return any(isinstance(event, kind) for event in told)


async def test_a_job_that_fails_and_one_that_is_parked(kit, jobs, told):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        raise ValueError("no ink")

    other = Jobs("notes", kit=kit).task(schema=Note, name="unknown")(lambda note: None)
    await write.send(text="a")
    await other.send(text="b")
    async with jobs.worker():
        await until(lambda: _has(told, Failed))
        await until(lambda: _has(told, Parked))
    (failed,) = [event for event in told if isinstance(event, Failed)]
    assert failed.error == "ValueError: no ink"


async def test_a_run_whose_worker_died(kit, jobs, told, client, namespace):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    await anyio.to_thread.run_sync(lambda: Hands(kit, "notes").exchange(want=1, worker="dead"))
    client.zadd(f"{namespace}:q:{{notes}}:leases", {receipt.id: 1}, xx=True)
    async with jobs.worker(poll_interval=0.05):
        await status(jobs, receipt.id, "completed")
    assert Lost("notes", receipt.id, "write") in told


async def test_a_job_whose_workers_all_died(kit, jobs, told, client, namespace, caplog):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    dead = Hands(kit, "notes")
    for _ in range(3):
        await anyio.to_thread.run_sync(lambda: dead.exchange(want=1, worker="dead"))
        client.zadd(f"{namespace}:q:{{notes}}:leases", {receipt.id: 1}, xx=True)
    async with jobs.worker(poll_interval=0.05):
        await status(jobs, receipt.id, "failed")
        await until(lambda: _has(told, Failed))
    (failed,) = [event for event in told if isinstance(event, Failed)]
    assert (failed.task, failed.error) == ("write", "worker died 3 times")
    assert "worker died 3 times, it has failed" in caplog.text


async def test_an_observer_that_raises_changes_nothing(jobs, told, caplog):
    def broken(event):
        raise ValueError("broken")

    jobs.observe(broken)

    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
    assert "an observer of queue 'notes' failed" in caplog.text


async def test_messages_have_events_too(kit):
    told: list[Event] = []
    events = Queue("events", schema=int, max_deliveries=1, kit=kit)
    events.observe(told.append)

    async def handle(number: int) -> None:
        if number == 2:
            raise ValueError

    await events.send_many([1, 2])
    async with events.process(handle, concurrency=1):
        await until(lambda: _has(told, Failed))
    assert kinds(told)[:2] == [Sent, Sent]
    assert {Started, Finished, Failed} < set(kinds(told))


async def test_a_worker_says_who_it_is_and_what_it_runs(face, jobs):
    go = anyio.Event()

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        await go.wait()

    receipt = await write.send(text="a")
    async with jobs.worker(concurrency=3) as worker:
        await status(jobs, receipt.id, "active")
        async with jobs.worker() as second:
            (info,) = [each for each in await until(lambda: _workers(face(jobs), 2)) if each.id == worker.id]
            assert second.id != worker.id
        assert (info.pid, info.concurrency, info.tasks, info.healthy) == (os.getpid(), 3, ("write",), True)
        assert info.version
        assert info.host
        assert info.silent < 10
        assert info.lag < 5
        go.set()
        assert [each.id for each in await face(jobs).workers()] == [worker.id]
    assert await face(jobs).workers() == []


async def _workers(face, count):
    found = await face.workers()
    return found if len(found) == count else None


async def test_the_record_names_what_runs(jobs, monkeypatch):
    monkeypatch.setattr("sync_kit.queue.line.ATTEND", 0.05)
    go = anyio.Event()

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        await go.wait()

    receipt = await write.send(text="a")
    async with jobs.worker():
        await until(lambda: _runs(jobs, receipt.id))
        go.set()


async def _runs(jobs, job_id):
    return [job_id] == [name for worker in await jobs.workers() for name in worker.running]


async def test_a_worker_that_was_killed_is_not_listed_for_ever(kit, jobs, client, namespace):
    record = b'{"host":"h","pid":1,"version":"1","running":[],"tasks":[],"concurrency":1,"lag":0,"healthy":true,'
    flow = jobs.engine.attend_flow("dead", record + b'"started_at":0}')
    await anyio.to_thread.run_sync(lambda: kit.thread_driver.run(flow))
    assert [worker.id for worker in await jobs.workers()] == ["dead"]
    client.zincrby(f"{namespace}:q:{{notes}}:workers", -46_000, "dead")
    assert await jobs.workers() == []
    async with jobs.worker():
        await until(lambda: _workers(jobs, 1))
    assert client.hlen(f"{namespace}:q:{{notes}}:records") == 0


async def test_a_plain_function_past_ten_timeouts_has_failed_and_its_worker_is_not_healthy(jobs, caplog, monkeypatch):
    monkeypatch.setattr("sync_kit.queue.line.ATTEND", 0.05)
    go, runs, failures = threading.Event(), [], []

    @jobs.task(schema=Note, timeout=0.05, retries=5, on_failure=lambda job, error: failures.append(str(error)))
    def write(note: Note) -> None:
        runs.append(1)
        go.wait(20)

    receipt = await write.send(text="a")
    async with jobs.worker(concurrency=1) as worker:
        job = await status(jobs, receipt.id, "failed")
        assert "still running after 10 timeouts of 0.05 s" in job.error
        assert not worker.healthy
        await until(lambda: _healthy(jobs, False))
        other = await write.send(text="b")
        assert (await jobs.get(other.id)).status == "waiting", "its slot is taken"
        await jobs.cancel(other.id)
        go.set()
        await until(lambda: _healthy(jobs, True))
        assert worker.healthy
    assert runs == [1], "it was not started a second time"
    assert len(failures) == 1
    assert (await jobs.get(receipt.id)).status == "failed"
    assert "is given up" in caplog.text
    assert run.MOST_TIMEOUTS == 10


async def _healthy(jobs, expected):
    (info,) = await jobs.workers()
    return info.healthy == expected


async def test_a_plain_function_that_overruns_is_not_started_a_second_time(jobs, caplog):
    runs = []

    @jobs.task(schema=Note, timeout=0.1, retries=3)
    def write(note: Note) -> None:
        runs.append(1)
        time.sleep(0.3)

    receipt = await write.send(text="a")
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
    assert runs == [1]
    assert "more than its timeout of 0.1 s" in caplog.text
