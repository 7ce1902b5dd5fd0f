"""What handlers, hooks and payloads of users may do to a worker: nothing. And how it ends when it must."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
import time
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import pytest

from sync_kit import ConfigurationError, Jobs, Queue, ServerError, SyncKit, Worker
from tests.jobs.conftest import Note, status, until
from tests.support.ticks import elapsed

pytestmark = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture
async def works(jobs):
    """Wait until the worker of the test has run another job."""

    @jobs.task(schema=Note, name="other")
    async def other(note: Note) -> None: ...

    async def proved():
        await status(jobs, (await other.send(text="b")).id, "completed")

    return proved


async def test_an_error_with_a_text_that_cannot_be_encoded(jobs, works, caplog):
    caplog.set_level(logging.CRITICAL, "sync_kit")  # pytest could not pass the text on

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        raise ValueError("name \udcff")

    receipt = await write.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed")
        await works()
    assert job.error == "ValueError: name \\udcff"


class PanicError(BaseException):
    """What extensions in Rust raise is no Exception either."""


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("is_plain", [False, True])
async def test_an_error_that_is_no_exception_is_a_failure_of_the_job(jobs, works, is_plain, timeout):
    def plain(note: Note) -> None:
        raise PanicError("at the disco")

    async def write(note: Note) -> None:
        plain(note)

    task = jobs.task(schema=Note, name="write", timeout=timeout)(plain if is_plain else write)
    receipt = await task.send(text="a")
    async with jobs.worker(concurrency=1):
        assert "PanicError: at the disco" in (await status(jobs, receipt.id, "failed")).error
        await works()


@on_asyncio
async def test_a_handler_that_cancels_its_own_task(jobs, works):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    receipt = await write.send(text="a")
    async with jobs.worker(concurrency=1):
        await status(jobs, receipt.id, "failed")
        await works()


@on_asyncio
@pytest.mark.parametrize("hook", ["on_success", "on_failure"])
async def test_a_hook_that_is_cancelled_or_exits(jobs, works, hook):
    async def cancelled(*told):
        waits = asyncio.ensure_future(asyncio.sleep(10))
        waits.cancel()
        await waits

    def leave(*told):
        raise SystemExit(3)

    for number, told in enumerate((cancelled, leave)):

        @jobs.task(schema=Note, name=f"write{number}", **{hook: told})
        async def write(note: Note) -> None:
            if hook == "on_failure":
                raise ValueError

        receipt = await write.send(text="a")
        async with jobs.worker(concurrency=1):
            await status(jobs, receipt.id, "failed" if hook == "on_failure" else "completed")
            await works()


@pytest.mark.parametrize("anyio_backend", ["trio"])  # a task of asyncio that exits ends its whole event loop
async def test_a_handler_with_a_task_group_that_exits(jobs, works):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        async def leave():
            raise SystemExit(3)

        async with anyio.create_task_group() as group:
            group.start_soon(leave)

    receipt = await write.send(text="a")
    async with jobs.worker(concurrency=1):
        await status(jobs, receipt.id, "failed")
        await works()


async def test_a_validator_that_raises_what_it_likes(kit, jobs, works):
    strict = [False]

    @dataclass
    class Odd:
        text: str

        def __post_init__(self):
            if strict[0]:
                raise RuntimeError("odd")

    @jobs.task(schema=Odd, retries=1)
    async def write(odd: Odd) -> None: ...

    receipt = await write.send(text="a")
    strict[0] = True
    async with jobs.worker(concurrency=1):
        job = await status(jobs, receipt.id, "failed")
        await works()
    assert (job.error, job.attempts) == ("RuntimeError: odd", 2)


async def test_a_record_of_a_newer_version_is_run(jobs, client, namespace):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    body = f"{namespace}:q:{{notes}}:body"
    record = client.hget(body, receipt.id).replace(b'{"retries"', b'{"interval":5,"retries"')
    client.hset(body, receipt.id, record)
    assert (await jobs.get(receipt.id)).max_retries == 0
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")


async def test_a_record_that_cannot_be_read_fails(jobs, works, client, namespace):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    client.hset(f"{namespace}:q:{{notes}}:body", receipt.id, b'write\n["no header"]\n{"text":"a"}')
    async with jobs.worker(concurrency=1):
        await until(lambda: _failed(jobs, 1))
        await works()


async def _failed(jobs, count):
    return (await jobs.counts()).failed == count


async def test_a_wrapper_of_an_async_function_is_awaited(jobs):
    ran = []

    async def write(note: Note) -> None:
        await anyio.lowlevel.checkpoint()
        ran.append(threading.current_thread() is threading.main_thread())

    @functools.wraps(write)
    def wrapped(note: Note):
        return write(note)

    class Callable:
        async def __call__(self, note: Note) -> None:
            ran.append(True)

    first = jobs.task(schema=Note, name="wrapped")(wrapped)
    second = jobs.task(schema=Note, name="callable")(Callable())
    async with jobs.worker():
        for task in (first, second):
            await status(jobs, (await task.send(text="a")).id, "completed")
    assert ran == [True, True]


def test_a_handler_without_a_name_needs_one(jobs):
    with pytest.raises(ConfigurationError, match="give it a name="):
        jobs.task(schema=Note)(functools.partial(print, 1))


async def test_a_cancelled_plain_function_is_still_watched(jobs):
    go = threading.Event()

    @jobs.task(schema=Note, timeout=0.1)
    def write(note: Note) -> None:
        go.wait(20)

    receipt = await write.send(text="a")
    async with jobs.worker(concurrency=1) as worker:
        await status(jobs, receipt.id, "active")
        await jobs.cancel(receipt.id)
        await status(jobs, receipt.id, "cancelled")
        assert not worker.healthy
        go.set()


async def test_a_worker_stops_while_redis_is_away(own_server, caplog):
    own = own_server()
    async with SyncKit(own.url) as kit:
        jobs = Jobs("notes", kit=kit)
        began = elapsed()
        async with jobs.worker(drain_timeout=1):
            await anyio.to_thread.run_sync(own.stop)
            await until(lambda: _said(caplog, "exchanging jobs failed"))
    assert elapsed() - began < 15


async def _said(caplog, text):
    return text in caplog.text


async def test_a_worker_that_is_cancelled_stops_while_redis_is_away(own_server):
    own = own_server()
    async with SyncKit(own.url) as kit:
        jobs = Jobs("notes", kit=kit)
        began = elapsed()
        with anyio.move_on_after(1.5) as scope:
            async with jobs.worker():
                await anyio.to_thread.run_sync(own.stop)
                await anyio.sleep(60)
        assert scope.cancelled_caught
    assert elapsed() - began < 15


async def test_an_answer_that_waiting_does_not_cure_ends_the_worker_loudly(
    jobs, client, namespace, monkeypatch, caplog
):
    monkeypatch.setattr("sync_kit.queue.courier.HOPELESS", 0.3)
    client.set(f"{namespace}:q:{{notes}}:ready", "x", px=60_000)
    with pytest.raises(ServerError, match="exchange on"):
        async with jobs.worker():
            await anyio.sleep(20)
    client.delete(f"{namespace}:q:{{notes}}:ready")
    assert "goes on trying" in caplog.text


async def test_an_error_in_the_middle_of_an_exchange_ends_the_owners_block(jobs, monkeypatch):
    monkeypatch.setattr("sync_kit.queue.courier.Courier._settle", None)
    with pytest.raises(TypeError):
        async with jobs.worker():
            await anyio.sleep(20)


@on_asyncio
async def test_a_native_cancellation_in_the_drain_hands_back_at_once(jobs):
    started = asyncio.Event()

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        started.set()
        await asyncio.sleep(60)

    receipt = await write.send(text="a")

    async def work():
        async with jobs.worker(drain_timeout=30):
            await started.wait()

    task = asyncio.ensure_future(work())
    await started.wait()
    await asyncio.sleep(0.1)
    began = elapsed()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert elapsed() - began < 10
    job = await jobs.get(receipt.id)
    assert (job.status, job.attempts, job.crashes) == ("waiting", 0, 0)


async def test_a_cancelled_scope_in_the_drain_hands_back_at_once(jobs):
    started = anyio.Event()

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        started.set()
        await anyio.sleep(60)

    receipt = await write.send(text="a")
    began = elapsed()
    with anyio.move_on_after(0.5) as scope:
        async with jobs.worker(drain_timeout=30):
            await started.wait()
    assert scope.cancelled_caught
    assert elapsed() - began < 10
    job = await jobs.get(receipt.id)
    assert (job.status, job.attempts, job.crashes) == ("waiting", 0, 0)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task does not say that its loop cancelled it")
def test_an_event_loop_that_ends_in_the_middle_hands_jobs_back(make_kit):
    async def main():
        kit = make_kit()
        jobs = Jobs("notes", kit=kit)
        started = asyncio.Event()

        @jobs.task(schema=Note)
        async def write(note: Note) -> None:
            started.set()
            await asyncio.sleep(60)

        receipt = await write.send(text="a")
        background = asyncio.ensure_future(jobs.run())
        await started.wait()
        return receipt.id, background  # asyncio.run cancels all tasks now

    job_id, _ = asyncio.run(main())
    kit = make_kit()
    job = Jobs("notes", kit=kit).blocking.get(job_id)
    kit.close()
    assert job is not None
    assert (job.status, job.attempts, job.crashes) == ("waiting", 0, 0)


def test_one_queue_twice_is_refused(kit):
    numbers: Queue[int] = Queue("numbers", schema=int, kit=kit)
    for twice in (
        (Jobs("notes", kit=kit), Jobs("notes", kit=kit)),
        (numbers.processing(abs), numbers.processing(bin)),
    ):
        with pytest.raises(ConfigurationError, match="same queue twice"):
            Worker(*twice)


async def test_milliseconds_are_no_time(jobs):
    task = jobs.task(schema=Note, name="a")(lambda note: None)
    with pytest.raises(ConfigurationError, match="not milliseconds"):
        task.using(at=time.time() * 1000)


async def test_ids_and_names_that_cannot_be_encoded_are_refused(jobs):
    with pytest.raises(ConfigurationError, match="can be encoded"):
        await jobs.get("\udcff")
    with pytest.raises(ConfigurationError, match="can be encoded"):
        jobs.task(schema=Note, name="\udcff")(print)


async def test_the_longest_lag_since_the_last_record_is_shown(jobs, monkeypatch):
    monkeypatch.setattr("sync_kit.queue.line.ATTEND", 0.5)

    @jobs.task(schema=Note)
    async def block(note: Note) -> None:
        until_then = time.monotonic() + 2.5
        while time.monotonic() < until_then:
            pass

    await block.send(text="a")
    async with jobs.worker():
        await until(lambda: _lags(jobs, 1.0))


async def _lags(jobs, least):
    return any(worker.lag > least for worker in await jobs.workers())


async def test_a_search_makes_few_calls(jobs, client):
    task = jobs.task(schema=Note, name="a")(lambda note: None)
    await task.send_many([Note(text="a", number=number) for number in range(1000)])
    await task.using(tag="blue").send_many([Note(text="b", number=number) for number in range(3)])
    client.config_resetstat()
    assert await jobs.list(status="waiting", tag="red", limit=1) == []
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] < 30
    first = await jobs.list(status="waiting", tag="blue", limit=1, cursor="1:0:")
    cursor, found = first.cursor, [*first]
    while cursor is not None:
        page = await jobs.list(status="waiting", tag="blue", limit=1, cursor=cursor)
        cursor, found = page.cursor, [*found, *page]
    assert [job.data.number for job in found] == [0, 1, 2]
