"""Results, progress and logs: what comes back from a job."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import anyio
import pytest
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, TypeAdapter

from sync_kit import ConfigurationError, Job, JobError, Progress, Receipt
from sync_kit.inbox import Inbox
from sync_kit.queue.records import Outcome
from tests.jobs.conftest import Note, status, until
from tests.queue.hands import Hands
from tests.support.ticks import Ticks

pytestmark = pytest.mark.anyio


@dataclass
class Point:
    x: int
    y: float = 0.5


class Answer(BaseModel):
    text: str
    points: list[Point] = []


MADE: list[Any] = [
    (None, None),
    (5, 5),
    ({"a": [1, None, "ä"]}, {"a": [1, None, "ä"]}),
    (Point(1), {"x": 1, "y": 0.5}),
    (Answer(text="a", points=[Point(2)]), {"text": "a", "points": [{"x": 2, "y": 0.5}]}),
    ([], []),
]


@pytest.mark.parametrize(("made", "expected"), MADE)
async def test_what_the_handler_returns_comes_back_as_json_values(face, jobs, made, expected):
    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note):
        return made

    receipt = await answer.send(text="a")
    async with jobs.worker():
        assert await face(receipt).result(timeout=20) == expected
        assert await face(jobs).result(receipt.id, timeout=20) == expected
        assert (await jobs.get(receipt.id)).result == expected


async def test_a_plain_function_has_results_too(jobs):
    @jobs.task(schema=Note, result_ttl=60)
    def answer(note: Note) -> str:
        return note.text * 2

    async with jobs.worker():
        assert await (await answer.send(text="ab")).result(timeout=20) == "abab"


async def test_who_waits_is_woken_and_does_not_poll(face, jobs, client):
    go = anyio.Event()

    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note) -> str:
        await go.wait()
        return "now"

    receipt = await answer.send(text="a")
    took: list[float] = []

    async def wait():
        assert await face(receipt).result(timeout=20) == "now"
        took.append(ticks.elapsed())

    async with jobs.worker(poll_interval=60), anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
        await until(lambda: _is_awaited(client, jobs, receipt.id))
        ticks = Ticks()
        go.set()
    assert len(took) == 3
    assert max(took) < 1.0


async def _is_awaited(client, jobs, job_id):
    return await anyio.to_thread.run_sync(client.hget, jobs.engine.layout.waiters, job_id)


async def test_nothing_is_kept_of_those_who_waited(jobs, client):
    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note) -> str:
        return "a"

    receipt = await answer.send(text="a")
    with pytest.raises(TimeoutError, match=receipt.id):
        await receipt.result(timeout=0.05)
    async with jobs.worker():
        await receipt.result(timeout=20)
    assert not client.exists(jobs.engine.layout.waiters)
    assert [key for key in client.keys("*inbox*") if client.ttl(key) < 0] == []


async def test_a_failure_comes_back_as_type_message_and_traceback(face, jobs):
    class OddError(Exception):
        """It cannot be made again from its arguments, so no pickle could bring it back."""

        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note) -> None:
        raise OddError("ink", "paper")

    receipt = await answer.send(text="a")
    async with jobs.worker():
        with pytest.raises(JobError, match="ink and paper") as caught:
            await face(receipt).result(timeout=20)
    error = caught.value
    assert (error.job_id, error.status) == (receipt.id, "failed")
    assert error.error.endswith("OddError: ink and paper")
    assert 'raise OddError("ink", "paper")' in error.traceback
    job = await jobs.get(receipt.id)
    assert (job.error, job.traceback) == (error.error, error.traceback)


async def test_a_cancelled_job_has_no_result(jobs):
    @jobs.task(schema=Note)
    async def answer(note: Note) -> None: ...

    receipt = await answer.send(text="a")
    caught: list[JobError] = []

    async def wait():
        try:
            await receipt.result(timeout=20)
        except JobError as error:
            caught.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await until(lambda: _cancelled(jobs, receipt))
    assert [error.status for error in caught] == ["cancelled"]


async def _cancelled(jobs, receipt):
    return await jobs.cancel(receipt.id)


async def test_a_job_that_nobody_knows_has_no_result(face, jobs):
    with pytest.raises(JobError, match="not known"):
        await face(jobs).result("01890a5d-ac96-774b-bcce-b302099a8057", timeout=1)


async def test_without_result_ttl_the_end_is_waited_for_and_nothing_is_stored(jobs, client):
    @jobs.task(schema=Note)
    async def answer(note: Note) -> str:
        return "a"

    receipt = await answer.send(text="a")
    async with jobs.worker():
        assert await receipt.result(timeout=20) is None
    assert not client.exists(jobs.engine.layout.results)


async def test_a_result_is_dropped_when_its_time_is_over(kit, jobs, client):
    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note) -> str:
        return "a"

    receipt = await answer.using(result_ttl=30).send(text="a")
    async with jobs.worker():
        await receipt.result(timeout=20)
    layout = jobs.engine.layout
    left = client.zscore(layout.expiries, receipt.id) - client.time()[0] * 1000
    assert 20_000 < left < 32_000
    client.zadd(layout.expiries, {receipt.id: 1})
    await anyio.to_thread.run_sync(Hands(kit, "notes").exchange)
    assert not client.exists(layout.results, layout.expiries)
    with pytest.raises(JobError, match="not kept any longer"):
        await receipt.result(timeout=1)


@pytest.mark.parametrize(("made", "why"), [(object(), "cannot be written as JSON"), ("x" * 200_000, "more than the")])
async def test_a_result_that_cannot_be_stored_completes_its_job_and_says_why(jobs, made, why):
    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note):
        return made

    receipt = await answer.send(text="a")
    async with jobs.worker():
        with pytest.raises(JobError, match=why) as caught:
            await receipt.result(timeout=20)
    assert caught.value.status == "completed"
    job = await jobs.get(receipt.id)
    assert (job.status, job.result) == ("completed", None)


async def test_a_stale_run_stores_no_result(kit, jobs, client):
    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note) -> None: ...

    receipt = await answer.send(text="a")
    hands = Hands(kit, "notes")

    def come_late():
        (stale,) = hands.exchange(want=1).claims
        client.zadd(hands.key("leases"), {stale.id: 1})
        (now,) = hands.exchange(want=1, worker="other").claims
        assert hands.exchange(Outcome(stale.id, stale.generation, "done", 60.0, '="old"')).refused == [stale.id]
        hands.exchange(Outcome(now.id, now.generation, "done", 60.0, '="new"'))

    await anyio.to_thread.run_sync(come_late)
    assert await receipt.result(timeout=1) == "new"


async def test_a_receipt_that_was_made_by_hand_says_where_to_ask(jobs):
    with pytest.raises(ConfigurationError, match=r"jobs\.result"):
        await Receipt("a", "b").result()


async def test_progress_and_log_are_seen_while_the_job_runs(jobs):
    seen, go = anyio.Event(), anyio.Event()

    @jobs.task(schema=Note)
    async def render(note: Note, job: Job) -> None:
        await job.progress(0.1)
        await job.progress(0.4, "rendering")
        job.log("page 1\npage 2")
        job.log("ä")
        seen.set()
        await go.wait()

    receipt = await render.send(text="a")
    async with jobs.worker():
        with anyio.fail_after(10):
            await seen.wait()
        job = await until(lambda: _reported(jobs, receipt.id))
        assert (job.status, job.reported, job.logs) == ("active", Progress(0.4, "rendering"), ("page 1", "page 2", "ä"))
        go.set()
        assert (await status(jobs, receipt.id, "completed")).logs == ("page 1", "page 2", "ä")


async def _reported(jobs, job_id):
    job = await jobs.get(job_id)
    return job if job.reported and job.logs else None


@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_plain_function_says_last_is_there_when_it_has_ended(jobs, fails):
    @jobs.task(schema=Note)
    def render(note: Note, job: Job) -> None:
        for n in range(100):
            job.blocking.progress(n / 100)
            job.log(f"line {n}")
        job.blocking.progress(1, "done")
        if fails:
            raise ValueError("no ink")

    receipt = await render.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed" if fails else "completed")
    assert (job.reported, job.logs[-1], len(job.logs)) == (Progress(1.0, "done"), "line 99", 100)


async def test_a_log_is_bounded_and_keeps_its_end(jobs, client):
    @jobs.task(schema=Note)
    async def talk(note: Note, job: Job) -> None:
        for n in range(2000):
            job.log(f"{n:05} " + "x" * 94)
            await job.progress(n / 2000)

    receipt = await talk.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "completed")
    assert 100 < len(job.logs) <= 163
    assert job.logs[-1].startswith("01999")
    assert client.hstrlen(jobs.engine.layout.log, receipt.id) <= 16_384


async def test_what_a_stale_run_says_is_not_taken(kit, jobs):
    @jobs.task(schema=Note)
    async def talk(note: Note) -> None: ...

    receipt = await talk.send(text="a")
    hands = Hands(kit, "notes")

    def note(claim, text):
        def flow():
            yield hands.engine.note((claim.id, claim.generation), json.dumps({"fraction": 0.5}), f"{text}\n")

        hands.run(flow())

    def come_late():
        (stale,) = hands.exchange(want=1).claims
        note(stale, "first")
        hands.exchange(Outcome(stale.id, stale.generation, "retry"))
        note(stale, "late")
        (now,) = hands.exchange(want=1, worker="other").claims
        note(stale, "very late")
        note(now, "second")

    await anyio.to_thread.run_sync(come_late)
    assert (await jobs.get(receipt.id)).logs == ("first", "second")


async def test_all_of_it_is_forgotten_with_its_job(jobs, client):
    @jobs.task(schema=Note, result_ttl=60)
    async def talk(note: Note, job: Job) -> str:
        await job.progress(1)
        job.log("a")
        return "a"

    receipt = await talk.send(text="a")
    async with jobs.worker():
        await receipt.result(timeout=20)
    assert await jobs.delete(receipt.id)
    layout = jobs.engine.layout
    assert not client.exists(layout.progress, layout.log, layout.results, layout.body)


async def test_progress_is_for_running_jobs_and_from_0_to_1(jobs):
    caught = []

    @jobs.task(schema=Note)
    async def talk(note: Note, job: Job) -> None:
        wrong: Any
        for wrong in (-0.1, 1.1, "half", True):
            try:
                await job.progress(wrong)
            except ConfigurationError as error:
                caught.append(str(error))

    receipt = await talk.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "completed")
    assert (len(caught), "from 0 to 1" in caught[0]) == (4, True)
    with pytest.raises(ConfigurationError, match="does not run here"):
        await job.progress(0.5)
    with pytest.raises(ConfigurationError, match="does not run here"):
        job.log("a")


@pytest.mark.parametrize("stop", ["shutdown", "cancel"])
async def test_the_result_of_a_plain_function_that_ends_after_a_stop_is_kept(jobs, stop):
    began, go = threading.Event(), threading.Event()

    @jobs.task(schema=Note, result_ttl=60)
    def answer(note: Note) -> int:
        began.set()
        assert go.wait(20)
        return 42

    receipt = await answer.send(text="a")
    async with jobs.worker(drain_timeout=0.05):
        await until(partial(_is_set, began))
        if stop == "cancel":
            await jobs.cancel(receipt.id)
            await anyio.sleep(0.3)  # it is told, and cannot be interrupted
            go.set()
        else:
            threading.Timer(0.3, go.set).start()
    assert await receipt.result(timeout=5) == 42


async def _is_set(event):
    return event.is_set()


async def test_receipts_and_jobs_are_plain_values(jobs):
    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note, job: Job) -> str:
        seen.append(job)
        return "a"

    seen: list[Job] = []
    receipt = await answer.send(text="a")
    async with jobs.worker():
        await receipt.result(timeout=20)
    assert asdict(receipt) == {"id": receipt.id, "task": "answer", "duplicate": False, "schedule": False}
    assert pickle.loads(pickle.dumps(receipt)) == copy.deepcopy(receipt) == receipt
    assert json.loads(TypeAdapter(Receipt).dump_json(receipt))["id"] == receipt.id
    assert jsonable_encoder(receipt)["task"] == "answer"
    assert "_reporter" not in asdict(seen[0])
    assert json.loads(TypeAdapter(Job).dump_json(await jobs.get(receipt.id)))["result"] == "a"


async def test_results_are_dropped_as_fast_as_they_come(kit, jobs, client):
    layout, hands = jobs.engine.layout, Hands(kit, "notes")
    client.zadd(layout.expiries, {f"old{n}": n for n in range(1000)})
    client.hset(layout.results, mapping={f"old{n}": "=1" for n in range(1000)})

    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note) -> None: ...

    await answer.send_many([Note(text="a")] * 50)

    def work():
        claims = hands.exchange(want=50, sweep=False).claims
        hands.exchange(*[Outcome(c.id, c.generation, "done", 60.0, "=1") for c in claims], sweep=False)

    await anyio.to_thread.run_sync(work)
    assert client.hlen(layout.results) == 1000 + 50 - 100


async def test_the_newest_of_many_who_wait_are_called(kit, jobs, client):
    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note) -> int:
        return 1

    receipt = await answer.send(text="a")
    layout = jobs.engine.layout
    client.hset(layout.waiters, receipt.id, "".join(f"{layout.inbox(f'gone-{n:040}')} " for n in range(60)))
    async with anyio.create_task_group() as group:

        async def wait():
            assert await receipt.result(timeout=20) == 1
            took.append(ticks.elapsed())

        took: list[float] = []
        before = client.hget(layout.waiters, receipt.id)
        group.start_soon(wait)
        await until(lambda: _changed(client, layout, receipt.id, before))
        ticks = Ticks()
        async with jobs.worker(poll_interval=60):
            await until(partial(_has, took))
    assert took[0] < 1.5
    assert client.hlen(layout.waiters) == 0


async def _changed(client, layout, job_id, before):
    return await anyio.to_thread.run_sync(client.hget, layout.waiters, job_id) != before


async def _has(values):
    return bool(values)


async def test_a_process_that_asks_again_and_again_leaves_one_name(jobs, client):
    @jobs.task(schema=Note, result_ttl=60)
    async def answer(note: Note) -> None: ...

    receipt = await answer.send(text="a")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await receipt.result(timeout=0.05)
        await until(lambda: _nobody_reads(jobs))
    assert len(client.hget(jobs.engine.layout.waiters, receipt.id).split()) == 1


async def _nobody_reads(jobs):
    gc.collect()
    kept = [*jobs.kit.home().kept.values(), *jobs.kit.kept.values()]
    return all(each._reader is None for each in kept if isinstance(each, Inbox))


async def test_who_speaks_for_a_job_that_has_ended_is_told(jobs):
    kept: list[Job] = []

    @jobs.task(schema=Note)
    async def talk(note: Note, job: Job) -> None:
        kept.append(job)

    receipt = await talk.send(text="a")
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
        with pytest.raises(ConfigurationError, match="while it runs"):
            kept[0].log("late")


async def test_progress_of_a_newer_worker_is_read(jobs, client):
    @jobs.task(schema=Note)
    async def talk(note: Note) -> None: ...

    receipt = await talk.send(text="a")
    client.hset(jobs.engine.layout.progress, receipt.id, '{"fraction":0.5,"text":"a","eta":5}')
    assert (await jobs.get(receipt.id)).reported == Progress(0.5, "a")
