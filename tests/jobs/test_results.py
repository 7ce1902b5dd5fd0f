"""Results, progress and logs: what comes back from a job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from sync_kit import ConfigurationError, Job, JobError, Progress, Receipt
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
