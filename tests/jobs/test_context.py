"""Around each job: middleware, the running job, log fields, and what travels from the sender."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from sync_kit import ConfigurationError, Job, JobLogFilter, Queue, current_job
from tests.jobs.conftest import Note, status, until

pytestmark = pytest.mark.anyio

request_id: ContextVar[str] = ContextVar("request_id")
tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


async def run(jobs, *receipts, concurrency=1):
    async with jobs.worker(concurrency=concurrency):
        for receipt in receipts:
            await until(partial(_ended, jobs, receipt.id))


async def _ended(jobs, job_id):
    return (await jobs.get(job_id)).status in ("completed", "failed")


@pytest.mark.parametrize("is_plain", [False, True])
async def test_a_context_variable_that_a_handler_sets_is_not_set_for_the_next_job(jobs, is_plain):
    seen = []

    def body(note):
        seen.append(tenant.get())
        tenant.set(note.text)

    if is_plain:

        @jobs.task(schema=Note)
        def write(note: Note) -> None:
            body(note)
    else:

        @jobs.task(schema=Note)
        async def write(note: Note) -> None:
            body(note)
            await anyio.sleep(0.001)
            seen.append(tenant.get())

    await run(jobs, *await write.send_many([Note(text=str(n)) for n in range(3)]))
    assert seen == (["nobody"] * 3 if is_plain else ["nobody", "0", "nobody", "1", "nobody", "2"])


async def test_the_same_holds_for_messages(kit):
    seen = []

    async def handle(number: int) -> None:
        seen.append(tenant.get())
        tenant.set(str(number))

    numbers = Queue("numbers", schema=int, kit=kit)
    await numbers.send_many([1, 2, 3])
    async with numbers.process(handle, concurrency=1):
        await until(lambda: _is_empty(numbers))
    assert seen == ["nobody"] * 3


async def _is_empty(queue):
    size = await queue.size()
    return size.waiting + size.active == 0


async def test_a_job_cannot_change_the_context_of_who_runs_the_worker(jobs):
    tenant.set("ours")

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        assert tenant.get() == "ours"
        tenant.set("theirs")

    receipt = await write.send(text="a")
    await run(jobs, receipt)
    assert (tenant.get(), (await jobs.get(receipt.id)).status) == ("ours", "completed")


async def test_the_current_job_is_known_in_handlers_threads_tasks_and_hooks(jobs):
    seen = []

    def look():
        job: Any = current_job()
        seen.append((job.id, job.task, job.attempts))

    async def failed(job, error):
        look()

    @jobs.task(schema=Note, on_failure=failed)
    async def write(note: Note) -> None:
        look()
        await anyio.to_thread.run_sync(look)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, look)
        raise ValueError("no ink")

    receipt = await write.send(text="a")
    await run(jobs, receipt)
    assert seen == [(receipt.id, "write", 1)] * 4
    assert current_job() is None


async def test_log_records_have_the_job_the_task_and_the_attempt(jobs):
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(JobLogFilter())
    handler.setFormatter(logging.Formatter("%(task)s|%(job_id)s|%(attempt)s|%(message)s"))
    logger = logging.getLogger("app")
    logging.getLogger().addHandler(handler)
    try:

        @jobs.task(schema=Note, retries=1)
        async def write(note: Note) -> None:
            logger.warning("begins")
            raise ValueError("no ink")

        receipt = await write.send(text="a")
        logger.warning("outside")
        await run(jobs, receipt)
    finally:
        logging.getLogger().removeHandler(handler)
    lines = written.getvalue().splitlines()
    assert "-|-|-|outside" in lines
    assert [line for line in lines if line.endswith("begins")] == [f"write|{receipt.id}|{n}|begins" for n in (1, 2)]
    assert any(line.startswith(f"write|{receipt.id}|2|") and "failed, for good" in line for line in lines)


async def test_middleware_runs_around_each_handler_the_first_is_the_outermost(jobs):
    seen: list[Any] = []

    @jobs.middleware
    async def outer(job: Job, call_next):
        seen.append(("outer", job.data.text))
        tenant.set("from middleware")
        made = await call_next()
        seen.append(("outer ends", made))
        return made + 1

    @jobs.middleware
    async def inner(job, call_next):
        seen.append("inner")
        return await call_next() + 1

    @jobs.task(schema=Note, result_ttl=60)
    def write(note: Note) -> int:
        seen.append(tenant.get())
        return 1

    receipt = await write.send(text="a")
    async with jobs.worker():
        assert await receipt.result(timeout=20) == 3
    assert seen == [("outer", "a"), "inner", "from middleware", ("outer ends", 2)]


async def test_middleware_sees_errors_and_may_raise_or_swallow_them(jobs):
    @jobs.middleware
    async def judge(job: Job, call_next):
        try:
            return await call_next()
        except ValueError as error:
            if job.data.text == "swallow":
                return None
            raise RuntimeError("judged") from error

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        raise ValueError("no ink")

    swallowed, raised = await write.send(text="swallow"), await write.send(text="raise")
    await run(jobs, swallowed, raised)
    assert (await jobs.get(swallowed.id)).status == "completed"
    job = await jobs.get(raised.id)
    assert (job.status, job.error) == ("failed", "RuntimeError: judged")


async def test_middleware_that_hangs_is_cut_off_with_its_handler(jobs):
    @jobs.middleware
    async def hang(job, call_next):
        await call_next()
        await anyio.sleep_forever()

    @jobs.task(schema=Note, timeout=0.05)
    async def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed")
    assert "took longer than 0.05 s" in job.error


async def test_a_stop_goes_through_middleware_that_swallows_everything(jobs):
    began = anyio.Event()

    @jobs.middleware
    async def deaf(job, call_next):
        try:
            return await call_next()
        except Exception:
            return None

    @jobs.task(schema=Note, timeout=None)
    async def write(note: Note) -> None:
        began.set()
        await anyio.sleep_forever()

    receipt = await write.send(text="a")
    async with jobs.worker(drain_timeout=0):
        with anyio.fail_after(10):
            await began.wait()
    job = await jobs.get(receipt.id)
    assert (job.status, job.attempts) == ("waiting", 0)


async def test_wrong_middleware_is_refused(jobs):
    def plain(job, call_next): ...

    async def alone(job): ...

    for wrong in (plain, alone, 5):
        with pytest.raises(ConfigurationError, match="a middleware is an async def"):
            jobs.middleware(wrong)


async def test_what_the_sender_carries_arrives_with_the_job(face, jobs):
    jobs.carry(request_id, tenant)
    seen = []

    @jobs.task(schema=Note)
    async def write(note: Note, job: Job) -> None:
        seen.append((request_id.get("none"), tenant.get(), dict(job.headers)))

    tenant.set("acme")
    request_id.set("r-1")
    first = await face(write).send(text="a")
    tenant.set("nobody")
    sender = write.using(headers={"traceparent": "00-aa", "tenant": "said"})
    second = await face(sender).send(text="b")
    await run(jobs, first, second)
    assert seen == [
        ("r-1", "acme", {"request_id": "r-1", "tenant": "acme"}),
        ("r-1", "said", {"request_id": "r-1", "tenant": "said", "traceparent": "00-aa"}),
    ]


async def test_headers_are_short_texts(jobs):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    for wrong in ({"a": 1}, {1: "a"}, {"a": "x" * 5000}):
        with pytest.raises(ConfigurationError, match="headers"):
            write.using(headers=wrong)
    with pytest.raises(ConfigurationError, match="context variables"):
        jobs.carry("request_id")


async def test_a_carried_variable_that_is_no_text_is_refused_and_nothing_is_sent(jobs):
    number: ContextVar[int] = ContextVar("number")
    jobs.carry(number)

    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    await write.send(text="a")
    number.set(5)
    with pytest.raises(ConfigurationError, match="number"):
        await write.send(text="b")
    assert (await jobs.counts()).waiting == 1


async def test_a_handler_that_is_cancelled_from_within_its_own_task_still_ends(jobs):
    """A context of its own must not hide the task that cancel scopes and asyncio know."""
    seen: list[Any] = []

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        seen.append(scope.cancelled_caught)
        with anyio.CancelScope() as inner:
            inner.cancel()
            await anyio.sleep(1)
        seen.append(inner.cancelled_caught)
        if asyncio._get_running_loop() is not None:
            seen.append(await asyncio.wait_for(asyncio.sleep(0), 1))

    receipt = await write.send(text="a")
    await run(jobs, receipt)
    assert (await jobs.get(receipt.id)).status == "completed"
    assert seen[:2] == [True, True]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_middleware_around_a_plain_function_has_the_same_time_limit(jobs, when):
    @jobs.middleware
    async def hang(job, call_next):
        if when == "after":
            await call_next()
        await anyio.sleep_forever()

    @jobs.task(schema=Note, timeout=0.05)
    def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed")
    assert "took longer than 0.05 s" in job.error


async def test_the_time_of_a_thread_is_not_that_of_the_middleware_around_it(jobs):
    @jobs.middleware
    async def around(job, call_next):
        made = await call_next()
        await anyio.sleep(0.01)
        return made

    @jobs.task(schema=Note, timeout=0.2, result_ttl=60)
    def write(note: Note) -> str:
        time.sleep(0.4)  # it cannot be interrupted: a late success counts
        return "late"

    async with jobs.worker():
        assert await (await write.send(text="a")).result(timeout=20) == "late"


@pytest.mark.parametrize("is_plain", [False, True])
async def test_middleware_may_call_a_handler_again(jobs, is_plain):
    calls = []

    @jobs.middleware
    async def again(job, call_next):
        try:
            return await call_next()
        except ValueError:
            return await call_next()

    def body() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("first")
        return "ok"

    if is_plain:

        @jobs.task(schema=Note, result_ttl=60)
        def write(note: Note) -> str:
            return body()
    else:

        @jobs.task(schema=Note, result_ttl=60)
        async def write(note: Note) -> str:
            return body()

    async with jobs.worker():
        assert await (await write.send(text="a")).result(timeout=20) == "ok"


async def test_headers_that_one_job_changes_are_not_those_of_another(jobs):
    seen = []

    @jobs.task(schema=Note)
    async def write(note: Note, job: Job) -> None:
        seen.append(dict(job.headers))
        job.headers["tenant"] = note.text  # type: ignore[index]

    await run(jobs, *[await write.send(text="a") for _ in range(2)])
    assert seen == [{}, {}]


async def test_a_carried_value_that_is_too_long_is_left_out_and_the_job_is_sent(jobs, caplog):
    jobs.carry(request_id)
    seen = []

    @jobs.task(schema=Note)
    async def write(note: Note, job: Job) -> None:
        seen.append(job.headers)

    request_id.set("x" * 5000)
    await run(jobs, await write.send(text="a"))
    assert seen == [{}]
    assert "'request_id' is not carried" in caplog.text


@pytest.mark.parametrize("line", [{"result_ttl": None}, {"headers": None}, {"retries": "x"}, {"timeout": []}, 5, None])
async def test_a_job_with_an_odd_header_fails_and_the_worker_goes_on(jobs, client, namespace, line):
    jobs.carry(request_id)

    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    odd, sound = await write.send(text="a"), await write.send(text="b")
    record = b"write\n" + json.dumps(line).encode() + b'\n{"text":"a"}'
    client.hset(f"{namespace}:q:{{notes}}:body", odd.id, record)
    async with jobs.worker(concurrency=1):
        await status(jobs, sound.id, "completed")
        assert (await jobs.counts()).failed == 1
