"""What holds however many jobs there are: scripts are short, and nothing stays behind."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from sync_kit import Jobs, Queue, Retry, SyncKit
from sync_kit.queue import engine
from sync_kit.queue.records import Outcome
from tests.jobs.conftest import Note, until
from tests.support.structural import structural

MOST_MS = 25.0


@pytest.fixture
def slow_log(own_server):
    """A server of one's own, and the milliseconds of its slowest script."""
    own = own_server()
    client = own.client()
    client.config_set("slowlog-log-slower-than", int(MOST_MS * 1000))
    client.config_set("slowlog-max-len", 1000)
    yield own, client
    client.close()


def slowest(client: Any) -> list[tuple[str, float]]:
    """Scripts that took longer than they may, without the pauses of the machine: those are seen once at most."""
    return [(str(each["command"][:60]), each["duration"] / 1000) for each in client.slowlog_get(1000)]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_many_delayed_jobs_that_are_due_at_once_stop_nobody(slow_log):
    own, client = slow_log
    count = 200_000
    async with SyncKit(own.url, namespace="due") as kit:
        jobs, ran = Jobs("notes", kit=kit), [0]

        @jobs.task(schema=int)
        async def work(number: int) -> None:
            ran[0] += 1

        await work.using(delay=3600).send_many(range(count))
        due = "due:q:{notes}:delayed"
        client.eval(
            "local ids = redis.call('ZRANGE', KEYS[1], 0, -1)"
            "for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], 1, id) end",
            1,
            due,
        )
        client.slowlog_reset()
        pings: list[float] = []
        async with jobs.worker(concurrency=100), anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, ping, own, pings, ran, count)
            await until(lambda: _reached(ran, count), 120)
    assert len(slowest(client)) <= 1, slowest(client)
    pings.sort()
    assert pings[int(len(pings) * 0.99)] < 50, pings[-20:]


def ping(own: Any, pings: list[float], ran: list[int], count: int) -> None:
    with own.client() as client:
        while ran[0] < count:
            began = time.monotonic()
            client.ping()
            pings.append((time.monotonic() - began) * 1000)
            time.sleep(0.005)


async def _reached(ran: list[int], count: int) -> bool:
    return ran[0] >= count


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_memory_of_many_jobs_of_every_kind_comes_back(own_server):
    """Nothing is kept: then nothing but a few structural keys is left, and the memory of the server is what it was."""
    own = own_server()
    count = 50_000
    with own.client() as client:
        async with SyncKit(own.url, namespace="memory") as kit:
            await one_of_every_kind(kit, 300)  # scripts, buffers and pools have their size now
            client.flushall()
            client.memory_purge()
            before = client.info("memory")["used_memory"]
            await one_of_every_kind(kit, count)
        assert {key.decode() for key in client.scan_iter(count=1000) if not structural(key.decode())} == set()
        client.memory_purge()
        after = client.info("memory")["used_memory"]
        left = {key.decode().rpartition(":")[2] for key in client.scan_iter(count=1000)}
    assert left <= {"wake"}, left
    assert after - before < 1_000_000, (before, after)


async def one_of_every_kind(kit: SyncKit, count: int) -> None:
    """Jobs that are completed, retried, failed, delayed, parked and cancelled, with priorities and tags; messages."""
    jobs = Jobs("notes", keep=0, kit=kit)
    failures: list[str] = []

    @jobs.task(schema=Note, retries=1)
    async def work(note: Note, job) -> None:
        if note.number % 5 == 1 and job.attempts == 1:
            raise Retry(after=0.001)
        if note.number % 5 == 2:
            failures.append(job.id)
            raise ValueError

    unknown = Jobs("notes", kit=kit).task(schema=Note, name="unknown")(lambda note: None)
    notes = [Note(text="a", number=number) for number in range(count // 5)]
    await work.send_many(notes)
    await work.using(priority=5, tag="blue").send_many(notes)
    await work.using(delay=0.01).send_many(notes)
    parked = await unknown.send_many(notes[: len(notes) // 5])
    cancelled = await work.using(delay=3600).send_many(notes[: len(notes) // 5])
    async with jobs.worker(concurrency=50, poll_interval=0.05):
        await until(lambda: _all_parked(jobs, len(parked)), 120)
        for receipt in (*parked, *cancelled):
            await jobs.cancel(receipt.id)
        await until(lambda: _nothing_waits(jobs), 120)
    for failed in dict.fromkeys(failures):
        await jobs.delete(failed)
    await forget(jobs)
    queue: Queue[int] = Queue("numbers", schema=int, kit=kit)
    await queue.send_many(range(count // 5))
    async with queue.process(lambda number: None, concurrency=50):
        await until(lambda: _is_empty(queue), 120)
    await expire_memories(kit)


async def forget(jobs: Jobs) -> None:
    """What a worker would do sooner or later: trim what is not kept."""
    from tests.queue.hands import Hands

    hands = Hands(jobs.kit, jobs.name)

    def sweep() -> None:
        while True:
            hands.exchange(keep=jobs.keep)
            tally = hands.run(hands.desk.count_flow())
            if tally.completed + tally.cancelled == 0:
                return

    await anyio.to_thread.run_sync(sweep)


async def expire_memories(kit: SyncKit) -> None:
    """What the last exchanges took is remembered for some minutes: let these be over."""
    place: Any = kit._address
    connection = await anyio.to_thread.run_sync(place.connect, 5.0)

    def delete() -> None:
        connection.send_command("KEYS", "*:worker:*")
        for key in connection.read_response():
            connection.send_command("DEL", key)
            connection.read_response()
        connection.disconnect()

    await anyio.to_thread.run_sync(delete)


async def _all_parked(jobs: Jobs, count: int) -> bool:
    counts = await jobs.counts()
    return counts.parked == count and counts.waiting == 0


async def _nothing_waits(jobs: Jobs) -> bool:
    counts = await jobs.counts()
    return counts.waiting + counts.delayed + counts.active + counts.parked == 0


async def _is_empty(queue: Queue[int]) -> bool:
    size = await queue.size()
    return size.waiting + size.delayed + size.active == 0


def test_twenty_workers_that_sweep_all_the_time_reclaim_no_live_job(make_kit, monkeypatch):
    """Leases of 1 s, jobs of 2.5 s, and a sweep every 10 ms from each worker."""
    monkeypatch.setattr(engine, "LEASE", 1.0)
    ran: list[int] = []

    async def main() -> tuple[int, int]:
        async with make_kit() as kit:
            jobs = Jobs("notes", kit=kit)

            @jobs.task(schema=int)
            async def work(number: int) -> None:
                ran.append(number)
                await asyncio.sleep(2.5)

            await work.send_many(range(40))
            async with AsyncExitStack() as stack:
                for _ in range(20):
                    await stack.enter_async_context(jobs.worker(concurrency=3, poll_interval=0.01))
                await until(lambda: _completed(jobs, 40))
            found = await jobs.list(status="completed")
            return max(job.crashes for job in found), max(job.attempts for job in found)

    assert asyncio.run(main()) == (0, 1)
    assert sorted(ran) == list(range(40))


async def _completed(jobs: Jobs, count: int) -> bool:
    return (await jobs.counts()).completed == count


def test_a_script_takes_no_more_than_a_batch_at_a_time(hands, client):
    names = [f"j{number:04}" for number in range(350)]
    hands.send(*names)
    client.zadd(hands.key("ready"), dict.fromkeys(names, 1))
    taken = [hands.take(1000) for _ in range(4)]
    assert [len(each) for each in taken] == [100, 100, 100, 50]
    client.zadd(hands.key("leases"), dict.fromkeys(names, 1), xx=True)
    assert len(hands.exchange(Outcome("nobody", 1, "done")).lost) == 100
