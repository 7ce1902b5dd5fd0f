"""The worker: runs, retries, timeouts, leases, shutdown."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial

import anyio
import pytest

from sync_kit import ConfigurationError, Job, Jobs
from sync_kit.queue import engine
from tests.jobs.conftest import Note, status, until
from tests.queue.hands import Hands

pytestmark = pytest.mark.anyio


async def test_a_job_is_run_with_its_payload_and_itself(jobs):
    seen = []

    @jobs.task(schema=Note)
    async def write(note: Note, job: Job) -> None:
        seen.append((note, job))

    receipt = await write.send(text="hello")
    async with jobs.worker():
        done = await status(jobs, receipt.id, "completed")
    ((note, job),) = seen
    assert note == Note(text="hello")
    assert (job.id, job.status, job.attempts, job.data) == (receipt.id, "active", 1, note)
    assert done.attempts == 1
    assert done.created_at <= done.started_at <= done.completed_at or done.started_at <= done.completed_at


async def test_a_job_that_runs_says_which_worker_runs_it(jobs):
    told: list[str | None] = []

    @jobs.task(schema=Note)
    async def write(note: Note, job: Job) -> None:
        seen = await jobs.get(job.id)
        told.extend((job.worker, seen.worker))

    receipt = await write.send(text="a")
    assert (await jobs.get(receipt.id)).worker is None
    async with jobs.worker() as worker:
        done = await status(jobs, receipt.id, "completed")
        assert told == [worker.id, worker.id]
    assert done.worker is None


async def test_a_plain_function_runs_on_a_thread(jobs):
    threads = []

    @jobs.task(schema=Note)
    def write(note: Note) -> None:
        threads.append(threading.current_thread())

    receipt = await write.send(text="a")
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
    assert threads[0] is not threading.current_thread()


async def test_a_job_that_fails_is_retried_and_then_failed(jobs, caplog):
    runs = []

    @jobs.task(schema=Note, retries=2)
    async def write(note: Note, job: Job) -> None:
        runs.append(job.attempts)
        raise ValueError("no ink")

    receipt = await write.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed")
    assert runs == [1, 2, 3]
    assert (job.attempts, job.error) == (3, "ValueError: no ink")
    assert [listed.id for listed in await jobs.list(status="failed")] == [receipt.id]
    assert [record.message.partition(" failed, ")[2] for record in caplog.records] == ["tried again"] * 2 + ["for good"]


async def test_a_retry_that_succeeds_completes_the_job(jobs):
    @jobs.task(schema=Note, retries=5)
    async def write(note: Note, job: Job) -> None:
        if job.attempts < 3:
            raise ConnectionError("not yet")

    receipt = await write.send(text="a")
    async with jobs.worker():
        assert (await status(jobs, receipt.id, "completed")).attempts == 3


async def test_a_timeout_is_a_failed_attempt(jobs):
    cancelled = []

    @jobs.task(schema=Note, retries=1, timeout=0.05)
    async def write(note: Note) -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            cancelled.append(1)
            raise

    receipt = await write.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed")
    assert cancelled == [1, 1]
    assert "took longer than 0.05 s" in job.error


async def test_a_timeout_error_of_the_handler_is_its_own(jobs):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        with anyio.fail_after(0.01):
            await anyio.sleep_forever()

    receipt = await write.send(text="a")
    async with jobs.worker():
        assert (await status(jobs, receipt.id, "failed")).error.startswith("TimeoutError")


async def test_a_plain_function_that_overruns_is_reported(jobs, caplog):
    @jobs.task(schema=Note, timeout=0.01)
    def write(note: Note) -> None:
        time.sleep(0.05)

    receipt = await write.send(text="a")
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
    assert "more than its timeout of 0.01 s" in caplog.text


async def test_exit_of_a_handler_does_not_end_the_worker(jobs):
    @jobs.task(schema=Note)
    async def leave(note: Note) -> None:
        raise SystemExit(3)

    @jobs.task(schema=Note)
    async def stay(note: Note) -> None: ...

    left, stayed = await leave.send(text="a"), await stay.send(text="b")
    async with jobs.worker(concurrency=1):
        await status(jobs, stayed.id, "completed")
        assert (await jobs.get(left.id)).error == "SystemExit: 3"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_that_a_handler_raises_is_a_failure_of_the_job(jobs):
    import asyncio

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        task = asyncio.ensure_future(asyncio.sleep(10))
        task.cancel()
        await task

    first, second = await write.send(text="a"), await write.send(text="b")
    async with jobs.worker(concurrency=1):
        await status(jobs, first.id, "failed")
        await status(jobs, second.id, "failed")


async def test_no_more_jobs_run_at_once_than_there_are_slots(jobs):
    running, most = [0], [0]

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await anyio.sleep(0.005)
        running[0] -= 1

    await write.send_many([Note(text=str(n)) for n in range(40)])
    async with jobs.worker(concurrency=4):
        await until(lambda: _completed(jobs, 40))
    assert most[0] == 4


async def _completed(jobs: Jobs, count: int) -> bool:
    return (await jobs.counts()).completed == count


async def test_an_idle_worker_starts_a_job_at_once(jobs):
    started = anyio.Event()

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        started.set()

    async with jobs.worker(poll_interval=30):
        await write.send(text="first")
        await until(lambda: _completed(jobs, 1))
        await anyio.sleep(0.05)
        started = anyio.Event()
        await write.send(text="second")
        with anyio.fail_after(5):
            await started.wait()


async def test_a_delayed_job_runs_when_it_is_due_however_rarely_the_worker_polls(jobs):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    async with jobs.worker(poll_interval=30):
        began = time.monotonic()
        receipt = await write.using(delay=0.3).send(text="later")
        await status(jobs, receipt.id, "completed")
    assert 0.3 <= time.monotonic() - began < 3


async def test_a_payload_that_the_schema_refuses_by_now_fails_at_once(kit, jobs):
    @jobs.task(schema=Note, retries=5)
    async def write(note: Note) -> None: ...

    newer = Jobs("notes", kit=kit)

    @newer.task(schema=list[int], name="write")
    async def other(numbers: list[int]) -> None: ...

    receipt = await write.send(text="a")
    async with newer.worker():
        job = await status(jobs, receipt.id, "failed")
    assert job.attempts == 1
    assert job.error.startswith("sync_kit.errors.InvalidPayloadError")


async def test_the_worker_drains_on_exit(jobs):
    ended = []

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        await anyio.sleep(0.05)
        ended.append(note.text)

    await write.send_many([Note(text=str(n)) for n in range(6)])
    async with jobs.worker(concurrency=3):
        await until(lambda: _active(jobs, 3))
    counts = await jobs.counts()
    assert counts.active == 0
    assert len(ended) == counts.completed
    assert counts.completed + counts.waiting == 6


async def _active(jobs: Jobs, count: int) -> bool:
    return (await jobs.counts()).active == count


async def test_a_quiet_worker_takes_no_more_and_lets_what_runs_end(jobs):
    begun, go = anyio.Event(), anyio.Event()

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        begun.set()
        await go.wait()

    running = await write.send(text="a")
    async with jobs.worker() as worker:
        await begun.wait()
        worker.quiet()
        late = await write.send(text="b")
        go.set()
        await status(jobs, running.id, "completed")
        assert worker.silent < 10
    assert (await jobs.get(late.id)).status == "waiting"


async def test_a_shutdown_costs_neither_an_attempt_nor_a_crash(jobs):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        await anyio.sleep_forever()

    receipt = await write.send(text="a")
    async with jobs.worker(drain_timeout=0.05):
        await status(jobs, receipt.id, "active")
    job = await jobs.get(receipt.id)
    assert (job.status, job.attempts, job.crashes) == ("waiting", 0, 0)


async def test_an_error_on_the_way_out_of_a_shutdown_is_no_attempt_either(jobs, caplog):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        try:
            started.set()
            await anyio.sleep_forever()
        finally:
            raise ConnectionError("no goodbye")

    started = anyio.Event()
    receipt = await write.send(text="a")
    async with jobs.worker(drain_timeout=0):
        await started.wait()
    job = await jobs.get(receipt.id)
    assert (job.status, job.attempts, job.crashes, job.error) == ("waiting", 0, 0, None)
    assert "no goodbye" in caplog.text


async def test_an_unknown_option_of_run_is_refused(jobs):
    with pytest.raises(ConfigurationError, match="did you mean 'concurrency'"):
        await jobs.run(concurency=1)


async def test_a_cancelled_owner_hands_its_jobs_back(jobs):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        await anyio.sleep_forever()

    receipt = await write.send(text="a")
    with anyio.CancelScope() as scope:
        async with jobs.worker():
            await status(jobs, receipt.id, "active")
            scope.cancel()
            await anyio.sleep_forever()
    job = await jobs.get(receipt.id)
    assert (job.status, job.attempts, job.crashes) == ("waiting", 0, 0)


async def test_an_error_of_the_owner_comes_out_as_itself(jobs):
    with pytest.raises(ZeroDivisionError):
        async with jobs.worker():
            raise ZeroDivisionError


async def test_a_worker_that_breaks_ends_its_owners_block(jobs, monkeypatch):
    monkeypatch.setattr("sync_kit.queue.line.Line.hold", None)

    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    with pytest.raises(TypeError):
        async with jobs.worker(concurrency=2):
            await write.send(text="a")
            await anyio.sleep(20)


async def test_a_worker_may_be_entered_again(jobs):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    worker = jobs.worker()
    for number in (1, 2):
        async with worker:
            await write.send(text="a")
            await until(partial(_completed, jobs, number))


async def test_a_worker_that_runs_cannot_be_entered_twice(jobs):
    worker = jobs.worker()
    async with worker:
        with pytest.raises(ConfigurationError, match="running already"):
            await worker.__aenter__()


async def test_jobs_run_until_cancelled(jobs):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    await write.send(text="a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(jobs.run)
        await until(lambda: _completed(jobs, 1))
        tasks.cancel_scope.cancel()


@pytest.fixture
def short_lease(monkeypatch):
    """Leases of 0.6 s, renewed every 0.2 s."""
    monkeypatch.setattr(engine, "LEASE", 0.6)


async def test_a_handler_that_blocks_the_loop_for_twice_the_lease_is_not_run_again(kit, jobs, short_lease):
    runs = []

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        runs.append(1)
        until_then = time.monotonic() + 1.2
        while time.monotonic() < until_then:
            pass

    receipt = await write.send(text="a")
    watcher = threading.Thread(target=_sweep, args=(kit, 1.5))
    async with jobs.worker():
        watcher.start()
        job = await status(jobs, receipt.id, "completed")
    await anyio.to_thread.run_sync(watcher.join)
    assert runs == [1]
    assert (job.attempts, job.crashes) == (1, 0)


def _sweep(kit, seconds: float) -> None:
    """What another worker would do all the time: reclaim every lease that has ended."""
    other, end = Hands(kit, "notes"), time.monotonic() + seconds
    while time.monotonic() < end:
        other.exchange(worker="sweeper")
        time.sleep(0.02)


async def test_a_run_that_lost_its_lease_is_cancelled_and_its_outcome_refused(
    jobs, client, namespace, short_lease, caplog
):
    caplog.set_level(logging.WARNING)
    runs, cancelled = [], []

    @jobs.task(schema=Note)
    async def write(note: Note, job: Job) -> None:
        runs.append(job.attempts)
        if len(runs) > 1:
            return
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            cancelled.append(1)
            raise

    receipt = await write.send(text="a")
    async with jobs.worker(poll_interval=0.05):
        await status(jobs, receipt.id, "active")
        client.zadd(f"{namespace}:q:{{notes}}:leases", {receipt.id: 1}, xx=True)
        job = await status(jobs, receipt.id, "completed")
        await until(lambda: _said(caplog, "was refused"))
    assert (len(runs), cancelled, job.crashes, job.attempts) == (2, [1], 1, 1)
    assert "lost its lease" in caplog.text


async def _said(caplog, text: str) -> bool:
    return text in caplog.text
