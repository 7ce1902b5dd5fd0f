"""Schedules in the code: they come with a deploy, and go when no worker has them any more."""

from __future__ import annotations

import json

import pytest

from sync_kit import Job, Jobs
from tests.jobs.conftest import Note, status, until
from tests.jobs.schedules.conftest import fired, schedule

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]  # the loop makes no difference


def deploy(kit, *rules, payload="a"):
    """A queue as one version of the code declares it: a task `write` and a schedule for each (name, interval)."""
    made: Jobs = Jobs("notes", kit=kit)

    @made.task(schema=Note)
    async def write(note: Note) -> None: ...

    for name, interval in rules:
        made.every(interval, name=name, payload=Note(text=payload))(write)
    return made


async def test_a_worker_makes_them_known(kit, jobs):
    async with deploy(kit, ("a", 60), ("b", 3600)).worker():
        found = await schedule(jobs, "a")
        assert (found.interval, found.declared, found.task) == (60, True, "write")
        assert await schedule(jobs, "b")


async def test_three_deploys_are_one_schedule(kit, jobs, shelf, often):
    for _ in range(3):
        async with deploy(kit, ("a", 60)).worker():
            await schedule(jobs, "a")
    async with deploy(kit, ("a", 60)).worker():
        slot = shelf.slot("a")
        await often(3)  # it has said what it declares, and compared
        assert shelf.slot("a") == slot
    assert len(await jobs.schedules.list()) == 1


async def test_what_is_gone_from_the_code_is_gone_from_redis(kit, jobs, often):
    async with deploy(kit, ("old", 60), ("kept", 60)).worker():
        await schedule(jobs, "old")
    async with deploy(kit, ("kept", 60)).worker():
        await until(lambda: _names(jobs, {"kept"}))


async def _names(jobs, names):
    return {found.name for found in await jobs.schedules.list()} == names


async def test_a_deploy_without_any_schedule_takes_them_away_too(kit, jobs, often):
    async with deploy(kit, ("old", 60)).worker():
        await schedule(jobs, "old")
    async with deploy(kit).worker():
        await until(lambda: _names(jobs, set()))


async def test_while_an_old_worker_lives_its_schedules_stay(kit, jobs, often):
    async with deploy(kit, ("old", 60)).worker():
        await schedule(jobs, "old")
        async with deploy(kit, ("new", 60)).worker():
            await schedule(jobs, "new")
            await often(10)
            assert await _names(jobs, {"old", "new"})


async def test_what_was_sent_is_never_pruned(kit, jobs, often):
    old = deploy(kit, ("old", 60))
    await old.tasks["write"].using(interval=60, name="sent").send(text="a")
    async with old.worker():
        await schedule(jobs, "old")
    async with deploy(kit).worker():
        await until(lambda: _names(jobs, {"sent"}))


@pytest.mark.parametrize("record", [b"nonsense", b"[]", b"", b'{"declared": 7}'])
async def test_a_record_that_cannot_be_read_stops_pruning(kit, jobs, often, client, shelf, record):
    async with deploy(kit, ("old", 60)).worker():
        await schedule(jobs, "old")
    client.zadd(shelf.key("workers"), {"odd": shelf.now() + 20_000})
    client.hset(shelf.key("records"), "odd", record)
    async with deploy(kit).worker():
        await often(5)
        assert await _names(jobs, {"old"})
        client.zrem(shelf.key("workers"), "odd")
        await until(lambda: _names(jobs, set()))


async def test_in_a_rolling_deploy_the_newer_one_stays(kit, jobs, often):
    async with deploy(kit, ("a", 60)).worker():
        await schedule(jobs, "a")
        async with deploy(kit, ("a", 30)).worker():
            await until(lambda: _interval(jobs, 30))
            await often(10)
            assert (await jobs.schedules.get("a")).interval == 30


async def _interval(jobs, interval):
    found = await jobs.schedules.get("a")
    return found is not None and found.interval == interval


async def test_an_old_pod_that_restarts_does_not_win_in_the_end(kit, jobs, often):
    async with deploy(kit, ("a", 30)).worker():
        await until(lambda: _interval(jobs, 30))
        async with deploy(kit, ("a", 60)).worker():
            await until(lambda: _interval(jobs, 60))
        await until(lambda: _interval(jobs, 30))


async def test_what_somebody_deleted_or_sent_over_comes_back(kit, jobs, often):
    made = deploy(kit, ("a", 60))
    async with made.worker():
        await schedule(jobs, "a")
        await jobs.schedules.delete("a")
        await schedule(jobs, "a")
        await made.tasks["write"].using(interval=30, name="a").send(text="b")
        await until(lambda: _interval(jobs, 60))


async def test_a_paused_one_stays_paused_through_deploys(kit, jobs, often):
    async with deploy(kit, ("a", 60)).worker():
        await schedule(jobs, "a")
        await jobs.schedules.pause("a")
    async with deploy(kit, ("a", 30), payload="b").worker():
        await until(lambda: _interval(jobs, 30))
        assert (await jobs.schedules.get("a")).paused
        await jobs.schedules.resume("a")
        assert (await jobs.schedules.get("a")).next_at


async def test_workers_say_what_they_declare(kit, jobs, client, shelf):
    async with deploy(kit, ("a", 60)).worker():
        (worker,) = await until(jobs.workers)
        assert [name.partition("@")[0] for name in worker.declared] == ["a"]
    older = {"host": "h", "pid": 1, "version": "0", "concurrency": 1, "running": [], "tasks": [], "lag": 0}
    client.zadd(shelf.key("workers"), {"odd": shelf.now()})
    client.hset(shelf.key("records"), "odd", json.dumps(older | {"healthy": True, "started_at": 1, "later": 2}))
    assert [worker.declared for worker in await jobs.workers()] == [()]


@pytest.mark.parametrize("decorate", ["every", "cron"])
async def test_a_handler_takes_nothing_or_the_job(jobs, decorate):
    rule = {"every": 3600, "cron": "@yearly"}[decorate]
    ran = []

    @getattr(jobs, decorate)(rule, start_immediately=True)
    async def nothing():
        ran.append("nothing")

    @getattr(jobs, decorate)(rule, start_immediately=True)
    def the_job(job: Job):
        ran.append(job.task)

    async with jobs.worker():
        for name in ("nothing", "the_job"):
            await status(jobs, (await fired(jobs, name)).last_job, "completed")
    assert sorted(ran) == ["nothing", "the_job"]


async def test_the_task_can_be_called_and_sent_by_hand(jobs):
    ran = []

    @jobs.every(3600)
    async def beat() -> str:
        """Beats."""
        ran.append("beat")
        return "called"

    assert await beat() == "called"
    assert (beat.name, beat.__doc__) == ("beat", "Beats.")
    async with jobs.worker():
        receipt = await beat.send()
        await status(jobs, receipt.id, "completed")
    assert ran == ["beat", "beat"]
    assert not receipt.schedule


async def test_options_of_the_task_are_kept(jobs):
    @jobs.every(3600, retries=3, timeout=5, name="heart", start_immediately=True)
    async def beat() -> None: ...

    async with jobs.worker():
        job = await jobs.get((await fired(jobs, "heart")).last_job)
    assert (job.task, job.max_retries, job.timeout) == ("heart", 3, 5)
