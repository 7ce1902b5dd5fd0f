"""Runs that fail, keepers among others, a network that loses things: still one run for each slot."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from sync_kit import Job, Jobs, SyncKit, Unavailable
from sync_kit.jobs.schedules.plan import fires
from sync_kit.testing import drain
from tests.jobs.conftest import Note, until
from tests.jobs.schedules.conftest import fired, schedule, slots

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]  # the loop makes no difference


@pytest.mark.parametrize("end", ["raises", "times out", "is cancelled", "is deleted"])
async def test_it_goes_on_whatever_becomes_of_a_run(jobs, end):
    @jobs.every(0.2, timeout=0.1 if end == "times out" else 30)
    async def beat(job: Job) -> None:
        if end == "raises":
            raise ValueError
        if end in ("times out", "is cancelled"):
            await anyio.sleep_forever()

    async with jobs.worker(poll_interval=0.1):
        for runs in range(1, 4):
            found = await fired(jobs, "beat", runs)
            if end == "is cancelled":
                await until(partial(jobs.cancel, found.last_job))
            if end == "is deleted":
                await until(partial(jobs.delete, found.last_job))


async def test_it_goes_on_after_a_deploy(kit, jobs):
    runs = 0
    for _ in range(3):
        deployed: Jobs = Jobs("notes", kit=kit)

        @deployed.every(0.1)
        async def beat() -> None: ...

        async with deployed.worker():
            runs = (await fired(jobs, "beat", runs + 2)).runs


async def test_a_drain_for_tests_fires_nothing(jobs):
    @jobs.every(0.05, start_immediately=True)
    async def beat() -> None: ...

    await beat.send()
    drained = await drain(jobs)
    assert drained.completed == 1
    assert await jobs.schedules.list() == []


async def test_a_schedule_of_an_unknown_task_waits_for_a_worker_that_knows_it(kit, jobs, shelf):
    for number in range(120):  # more than one look can show: they hide nothing
        task = jobs.task(schema=Note, name=f"other{number}")(lambda note: None)
        await task.using(interval=3600, start_immediately=True).send(text="a")
    known: Jobs = Jobs("notes", kit=kit)

    @known.every(3600, start_immediately=True)
    async def beat() -> None: ...

    async with known.worker():
        await fired(known, "beat")
    assert {found.runs for found in await jobs.schedules.list() if found.task != "beat"} == {0}
    async with jobs.worker():
        for found in await jobs.schedules.list():
            if found.task != "beat":
                await fired(jobs, found.name)


async def test_a_keeper_with_nothing_to_do_makes_no_calls(jobs, client):
    @jobs.every(3600)
    async def beat() -> None: ...

    async with jobs.worker(poll_interval=60):
        await schedule(jobs, "beat")
        await until(jobs.workers)
        await anyio.sleep(0.3)
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        await anyio.sleep(2)
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before <= 2


async def test_what_cannot_fire_here_makes_no_busy_loop(kit, jobs, client, shelf):
    task = jobs.task(schema=Note, name="other")(lambda note: None)
    await task.using(interval=3600, start_immediately=True, name="unknown").send(text="a")
    known: Jobs = Jobs("notes", kit=kit)

    @known.every(3600, start_immediately=True, name="broken")
    async def beat() -> None: ...

    await kit.driver.run(jobs.schedules.timetable.put_flow([made for _, made in known.declared.values()]))
    client.hdel(shelf.key("payloads"), "broken")
    async with known.worker(poll_interval=60):
        await until(known.workers)
        await anyio.sleep(0.2)
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        await anyio.sleep(1)
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before < 60


async def test_a_slot_whose_reply_was_lost_fires_once(jobs, shelf):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    await write.using(interval=60, name="digest", overlap=True).send(text="a")
    shelf.move("digest", 60_000)
    table, run = jobs.schedules.timetable, jobs.kit.driver.run
    due = await run(table.due_flow(0))
    (waiting,) = due.waiting
    firing = fires(waiting.plan, waiting.turn.anchor, waiting.slot, due.now, busy=False)
    flow = table.fire_flow([(waiting, firing)])
    effect = next(flow)
    replies = [await run(_just(effect)) for _ in range(2)]  # the driver sends it again
    assert replies == [[[b"ok"]], [[b"ok"]]]
    assert [len(ids) for ids in await run(table.fire_flow([(waiting, firing)]))] == [0], "another keeper is too late"
    assert (await jobs.counts()).waiting == 1
    assert (await jobs.schedules.get("digest")).runs == 1


def _just(effect):
    return (yield effect)


async def test_replies_that_are_lost_on_the_way_cost_no_slot_and_double_none(proxy, namespace, jobs):
    async with SyncKit(proxy.url, namespace=namespace) as far:
        there: Jobs = Jobs("notes", kit=far)

        @there.every(0.1, overlap=True)
        async def beat() -> None: ...

        async with there.worker(poll_interval=0.5):
            for runs in (5, 10, 15):
                await fired(jobs, "beat", runs)
                proxy.drop_replies = True
                await anyio.sleep(0.25)
                proxy.cut()
                proxy.heal()
            await fired(jobs, "beat", 25)
    found = [*await slots(jobs, "beat"), *await slots(jobs, "beat", "waiting")]
    assert len(found) == len(set(found)) >= 25
    assert (await jobs.schedules.get("beat")).runs == len(found)


async def test_a_schedule_that_was_changed_since_it_was_seen_does_not_fire(jobs, shelf):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    await write.using(interval=60, name="digest").send(text="a")
    shelf.move("digest", 60_000)
    table, run = jobs.schedules.timetable, jobs.kit.driver.run
    due = await run(table.due_flow(0))
    firing = fires(due.waiting[0].plan, due.waiting[0].turn.anchor, due.waiting[0].slot, due.now, busy=False)
    await write.using(interval=60, name="digest").send(text="b")
    assert await run(table.fire_flow([(due.waiting[0], firing)])) == [[]]
    assert (await jobs.counts()).waiting == 0


async def test_keepers_survive_an_outage(own_server, namespace):
    server = own_server(appendonly=True)
    async with SyncKit(server.url, namespace=namespace) as kit:
        jobs: Jobs = Jobs("notes", kit=kit)

        @jobs.every(0.2)
        async def beat() -> None: ...

        async with jobs.worker():
            found = await fired(jobs, "beat")
            server.stop()
            await anyio.sleep(0.3)
            server.start()
            await until(lambda: _later(jobs, found.runs))


async def _later(jobs, runs):
    try:
        return (await jobs.schedules.get("beat")).runs > runs
    except Unavailable:
        return False
