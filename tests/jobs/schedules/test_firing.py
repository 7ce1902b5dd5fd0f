"""One run for each slot, whatever becomes of the runs."""

from __future__ import annotations

import anyio
import pytest

from sync_kit import Job
from sync_kit.queue.events import Sent
from tests.jobs.conftest import Note, status, until
from tests.jobs.schedules.conftest import fired, slots

pytestmark = pytest.mark.anyio


async def test_slots_are_an_interval_apart_without_drift(jobs):
    @jobs.every(0.05)
    async def beat() -> None: ...

    async with jobs.worker():
        await fired(jobs, "beat", 30)
    found = await slots(jobs, "beat")
    assert len(found) == len(set(found)) >= 25
    assert {(slot - found[0]) % 50 for slot in found} == {0}


async def test_a_job_knows_its_schedule_and_its_slot(jobs):
    seen: list[Job] = []

    @jobs.every(3600, start_immediately=True)
    async def beat(job: Job) -> None:
        seen.append(job)

    async with jobs.worker():
        await until(lambda: _said(seen))
    (job,) = seen
    found = await jobs.schedules.get("beat")
    assert (job.schedule, job.interval, job.data) == ("beat", 3600, None)
    assert (job.id, job.scheduled_at) == (found.last_job, found.last_at)
    looked_at = await jobs.get(job.id)
    assert (looked_at.schedule, looked_at.interval, looked_at.scheduled_at) == ("beat", 3600, found.last_at)


async def _said(seen):
    return bool(seen)


async def test_the_payload_and_the_options_arrive(jobs):
    seen: list[tuple[Note, Job]] = []

    @jobs.task(schema=Note)
    async def write(note: Note, job: Job) -> None:
        seen.append((note, job))

    sender = write.using(interval=3600, start_immediately=True, retries=3, timeout=7, priority=5, tag="blue")
    async with jobs.worker():
        await sender.send(text="a", number=2)
        await until(lambda: _said(seen))
    ((note, job),) = seen
    assert note == Note(text="a", number=2)
    assert (job.max_retries, job.timeout, job.priority, job.tag) == (3, 7, 5, "blue")


async def test_a_worker_that_is_idle_hears_of_a_new_schedule_at_once(jobs, looked):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    async with jobs.worker(poll_interval=60):
        await looked(1)
        await until(jobs.workers)
        with anyio.fail_after(5):
            await write.using(interval=0.5, name="digest").send(text="a")
            await fired(jobs, "digest", 2)


async def test_observers_are_told_of_what_is_sent(jobs):
    events: list[object] = []
    jobs.observe(events.append)

    @jobs.every(3600, start_immediately=True)
    async def beat() -> None: ...

    async with jobs.worker():
        found = await fired(jobs, "beat")
        await status(jobs, found.last_job, "completed")
    assert [event for event in events if isinstance(event, Sent)] == [Sent("notes", found.last_job, "beat")]
