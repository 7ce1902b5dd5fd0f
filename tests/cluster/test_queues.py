"""Jobs and messages on a cluster and through sentinels: every verb, and a queue that moves to another node."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from sync_kit import Jobs, Queue, Worker
from tests.jobs.conftest import status, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["cluster", "sentinels"])
def place(request):
    return request.getfixturevalue(request.param)


async def test_every_verb_of_jobs(kit, face):
    jobs, twin = Jobs("notes", kit=kit), face(Jobs("notes", kit=kit))
    began: list[str] = []

    @jobs.task(schema=str)
    async def work(text: str) -> None:
        began.append(text)
        if text == "fails":
            raise ValueError
        if text == "waits":
            await anyio.sleep_forever()

    waiting = await face(work.using(priority=3, tag="blue")).send("waits")
    failing = await face(work).send("fails")
    other = await face(work).send("other")
    assert await twin.cancel(other.id)
    assert [job.id for job in await twin.list(status="waiting", tag="blue")] == [waiting.id]
    assert await twin.pause()
    assert await twin.resume()
    async with jobs.worker(concurrency=2, drain_timeout=0):
        await status(jobs, failing.id, "failed")
        assert len(await twin.workers()) == 1
        await until(lambda: _has(began, "waits"))
        assert await twin.cancel(waiting.id)
        await status(jobs, waiting.id, "cancelled")
        assert await twin.retry_failed() == 1
        await until(lambda: _often(began, "fails", 2))
        await status(jobs, failing.id, "failed")
        assert await twin.delete(failing.id)
    counts = await twin.counts()
    assert (counts.waiting, counts.active, counts.failed, counts.cancelled) == (0, 0, 0, 2)


async def _has(seen: list[str], text: str) -> bool:
    return text in seen


async def _often(seen: list[str], text: str, count: int) -> bool:
    return seen.count(text) == count


async def test_every_verb_of_schedules(kit, face):
    jobs = Jobs("notes", kit=kit)
    twin = face(jobs.schedules)

    @jobs.every(0.2)
    async def beat() -> None: ...

    async def has_fired() -> bool:
        found = await jobs.schedules.get("beat")
        return found is not None and found.runs >= 2

    await face(beat.using(cron="@yearly", name="sent")).send()
    async with jobs.worker():
        await until(has_fired)
        assert [found.name for found in await twin.list()] == ["beat", "sent"]
        receipt = await twin.run("sent")
        await status(jobs, receipt.id, "completed")
        assert (await twin.pause("beat"), await twin.resume("beat"), await twin.delete("sent")) == (True, True, True)


async def test_every_verb_of_a_queue(kit, face):
    queue: Queue[str] = Queue("events", schema=str, max_deliveries=1, kit=kit)
    twin = face(Queue("events", schema=str, kit=kit))
    await twin.send("a")
    message = await anext(queue.receive())
    assert await message.extend(20)
    assert await message.nack()
    (letter,) = await twin.failed()
    assert await twin.retry(letter.id)
    assert await (await anext(queue.receive())).ack()
    await twin.send_many(["b", "c"])
    assert await twin.purge() == 2
    assert (await twin.size()).waiting == 0


async def test_one_worker_over_queues_on_several_nodes(kit):
    sources, ran = [], []

    def source(name: str) -> Any:
        jobs = Jobs(name, kit=kit)

        @jobs.task(schema=int)
        async def work(number: int) -> None:
            ran.append((name, number))

        return jobs, work

    for name in "abcdef":
        sources.append(source(name))
    async with Worker(*(jobs for jobs, _ in sources), concurrency=4):
        for _, work in sources:
            await work.send_many(range(20))
        await until(lambda: _count(ran, 120))
    assert sorted(ran) == [(name, number) for name in "abcdef" for number in range(20)]


async def _count(ran: list[Any], count: int) -> bool:
    return len(ran) >= count


@pytest.mark.parametrize("place", ["cluster"], indirect=True)
async def test_a_queue_moves_to_another_node_while_it_is_worked_on(kit, place, namespace):
    jobs, ran = Jobs("notes", kit=kit), []

    @jobs.task(schema=int)
    async def work(number: int) -> None:
        ran.append(number)
        await anyio.sleep(0.002)

    key = f"{namespace}:q:{{notes}}:body"
    await work.send_many(range(1000))
    async with jobs.worker(concurrency=5):
        await until(lambda: _count(ran, 50))
        home = await anyio.to_thread.run_sync(place.owner, key)
        other = place.others(home)[0]
        await anyio.to_thread.run_sync(place.move, key, other)
        await until(lambda: _count(ran, 500))
        await anyio.to_thread.run_sync(place.move, key, home)
        await until(lambda: _completed(jobs, 1000), 60)
    assert set(ran) == set(range(1000))
    assert {job.crashes for job in await jobs.list(status="completed", limit=1000)} == {0}


async def _completed(jobs: Jobs, count: int) -> bool:
    return (await jobs.counts()).completed == count
