"""What somebody does to a schedule by hand."""

from __future__ import annotations

import anyio
import pytest

from tests.jobs.conftest import Note, status, until
from tests.jobs.schedules.conftest import fired

pytestmark = pytest.mark.anyio


async def test_run_now_does_not_move_the_timetable(jobs, shelf, face):
    @jobs.task(schema=Note, retries=2)
    async def write(note: Note) -> None: ...

    await write.using(interval=60, name="digest", priority=3).send(text="a")
    before = await jobs.schedules.get("digest")
    receipt = await face(jobs.schedules).run("digest")
    assert await jobs.schedules.get("digest") == before
    job = await jobs.get(receipt.id)
    assert (job.schedule, job.data, job.max_retries, job.priority) == ("digest", Note(text="a"), 2, 3)
    assert await face(jobs.schedules).run("nothing") is None


async def test_pause_holds_through_a_deploy_and_resume_goes_on(jobs, shelf, face):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    sender = write.using(interval=0.6, name="digest")
    await sender.send(text="a")
    assert await face(jobs.schedules).pause("digest")
    assert not await face(jobs.schedules).pause("digest")
    await sender.send(text="a")
    await write.using(interval=0.4, name="digest").send(text="b")
    found = await jobs.schedules.get("digest")
    assert (found.paused, found.next_at, found.data) == (True, None, Note(text="b"))
    async with jobs.worker():
        assert await face(jobs.schedules).resume("digest")
        assert not await face(jobs.schedules).resume("digest")
        assert shelf.slot("digest") is not None
        await fired(jobs, "digest")


async def test_what_is_not_there_cannot_be_paused(jobs, face):
    assert not await face(jobs.schedules).pause("nothing")
    assert not await face(jobs.schedules).resume("nothing")


async def test_what_came_while_it_was_paused_was_not_missed(jobs, shelf):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    await write.using(interval=60, name="digest", missed="all", overlap=True).send(text="a")
    shelf.move("digest", 150_000)
    await jobs.schedules.pause("digest")
    await jobs.schedules.resume("digest")
    assert shelf.slot("digest") > shelf.now()
    async with jobs.worker():
        await until(jobs.workers)
    assert (await jobs.schedules.get("digest")).runs == 0


async def test_a_deleted_schedule_fires_no_more_and_its_jobs_stay(jobs, shelf):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    await write.using(interval=0.1, name="digest").send(text="a")
    async with jobs.worker():
        found = await fired(jobs, "digest")
        await jobs.schedules.delete("digest")
        await status(jobs, found.last_job, "completed")
        sent = sum(vars_of(await jobs.counts()))
        await anyio.sleep(0.3)
        assert sum(vars_of(await jobs.counts())) == sent


def vars_of(counts):
    return counts.waiting, counts.delayed, counts.active, counts.completed
