"""What is odd in Redis, or in a payload, harms one schedule at most."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, Field

from sync_kit import ConfigurationError, Jobs, SyncKit
from sync_kit.testing import recorded
from tests.jobs.conftest import Note, until
from tests.jobs.schedules.conftest import fired, schedule

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]  # the loop makes no difference


async def test_a_record_of_a_worker_that_cannot_be_read_keeps_nobody_from_declaring(jobs, client, namespace):
    head = f"{namespace}:q:{{notes}}:"
    client.zadd(head + "workers", {"ghost": client.time()[0] * 1000})
    client.hset(head + "records", "ghost", "not json")

    @jobs.every(0.1)
    async def beat() -> None: ...

    async with jobs.worker():
        await fired(jobs, "beat", 2)
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        await jobs.schedules.pause("beat")
        await anyio.sleep(0.5)
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before < 15


async def test_a_server_that_is_away_at_the_start_delays_nothing_that_is_declared(own_server, namespace, caplog):
    server = own_server()
    server.stop()
    async with SyncKit(server.url, namespace=namespace) as kit:
        jobs = Jobs("notes", kit=kit)

        @jobs.every(0.1)
        async def beat() -> None: ...

        async with jobs.worker():
            await until(lambda: _has_said(caplog, "keeping schedules failed"))
            await anyio.to_thread.run_sync(server.start)
            with anyio.fail_after(15):
                await fired(jobs, "beat", 1)


async def _has_said(caplog, text):
    return text in caplog.text


async def test_a_pause_holds_when_nobody_declares_the_schedule_for_a_while(kit, jobs, often):
    @jobs.every(60)
    async def beat() -> None: ...

    other = Jobs("notes", kit=kit)
    async with other.worker():
        async with jobs.worker():
            await schedule(jobs, "beat")
            await jobs.schedules.pause("beat")
        await often(5)
        assert (await jobs.schedules.get("beat")).paused
        await jobs.schedules.resume("beat")
        await until(lambda: _is_gone(jobs, "beat"))


async def _is_gone(jobs, name):
    return await jobs.schedules.get(name) is None


ODD: list[Any] = [
    b'write\n{"every":0}\n{}',
    b'write\n{"every":-5,"missed":"newest","overlap":false,"declared":false,"digest":"a"}\n{}',
    b'write\n{"cron":5,"tz":"UTC","missed":"newest","overlap":false,"declared":false,"digest":"a"}\n{}',
    b'write\n{"every":100,"missed":"newest","overlap":false,"declared":false,"digest":"a"}\nno json',
    b"nothing",
]


@pytest.mark.parametrize("stored", ODD)
async def test_a_plan_that_cannot_be_read_hides_no_other(jobs, client, namespace, stored):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    @jobs.every(0.1)
    async def beat() -> None: ...

    await write.using(interval=0.1, name="odd").send(text="a")
    client.hset(f"{namespace}:q:{{notes}}:schedules", "odd", stored)
    async with jobs.worker():
        await fired(jobs, "beat", 2)
    assert (await jobs.counts()).completed < 10


@pytest.mark.parametrize("key", ["payloads", "turns"])
async def test_a_schedule_of_which_something_is_missing_hides_no_other(jobs, client, namespace, key):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    @jobs.every(0.1)
    async def beat() -> None: ...

    await write.using(interval=0.1, name="odd").send(text="a")
    client.hset(f"{namespace}:q:{{notes}}:{key}", "odd", "broken")
    if key == "payloads":
        client.hdel(f"{namespace}:q:{{notes}}:{key}", "odd")
    async with jobs.worker():
        await fired(jobs, "beat", 2)


class Tagged(BaseModel):
    tags: set[str]
    stamp: float = Field(default_factory=random.random)


async def test_a_payload_with_sets_and_defaults_that_change_is_one_schedule(kit):
    jobs = Jobs("notes", kit=kit)

    @jobs.task(schema=Tagged)
    async def note(tagged: Tagged) -> None: ...

    tags = [f"tag-{n}" for n in range(20)]
    sender: Any = note.using(interval=60)
    first = await sender.send(tags=tags)
    second = await sender.send(tags=[*reversed(tags)])
    assert first.id == second.id
    assert len(await jobs.schedules.list()) == 1


async def test_a_resumed_schedule_does_not_fire_a_slot_twice_when_the_clock_went_back(jobs, client, namespace, shelf):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    await write.using(cron="* * * * *", name="minute").send(text="a")
    turn = client.hget(shelf.key("turns"), "minute").decode().split()
    turn[2] = str(shelf.slot("minute"))  # fired already, by a clock that was ahead
    client.hset(shelf.key("turns"), "minute", " ".join(turn))
    await jobs.schedules.pause("minute")
    await jobs.schedules.resume("minute")
    assert shelf.slot("minute") == int(turn[2]) + 60_000
    await write.using(cron="*/1 * * * *", name="minute").send(text="a")
    assert shelf.slot("minute") == int(turn[2]) + 60_000


async def test_what_cannot_be_called_is_refused_when_it_is_declared(jobs):
    def needs(*, x): ...

    for wrong in (needs, dict, 5):
        with pytest.raises(ConfigurationError, match="schedule"):
            jobs.every(60)(wrong)

    @jobs.every(60)
    async def fine(*, x: int = 1, **more: Any) -> None: ...

    receipt = await fine.send()
    async with jobs.worker():
        await until(lambda: _completed(jobs, receipt.id))


async def _completed(jobs, job_id):
    return (await jobs.get(job_id)).status == "completed"


@pytest.mark.parametrize("name", ["a\nb", "x" * 201, "\x1b[31m"])
async def test_names_are_short_lines(jobs, name):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    with pytest.raises(ConfigurationError, match="name of a schedule"):
        write.using(interval=60, name=name)


async def test_the_timetable_in_redis_is_not_touched_while_a_test_records(jobs):
    with recorded(), pytest.raises(ConfigurationError, match="while a test records"):
        await jobs.schedules.run("beat")


async def test_thousands_that_wait_do_not_keep_a_keeper_busy(jobs, client):
    """Each end of a run makes it look; a look at thousands takes long, so it rests."""

    @jobs.task(schema=int)
    async def other(number: int) -> None: ...

    stranger = Jobs("notes", kit=jobs.kit)

    @stranger.task(schema=int)
    async def unknown(number: int) -> None: ...

    await unknown.using(interval=3600, start_immediately=True).send_many(range(1500))

    @jobs.every(0.05, overlap=True)
    async def beat() -> None: ...

    async with jobs.worker():
        await fired(jobs, "beat", 3)
        stats = client.info("commandstats")["cmdstat_evalsha"]
        await anyio.sleep(1.5)
        after = client.info("commandstats")["cmdstat_evalsha"]
    assert after["usec"] - stats["usec"] < 1_000_000
