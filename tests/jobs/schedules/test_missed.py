"""Slots that are missed while nobody works, and slots that come while the last run has not ended."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest

from sync_kit import Backoff, Job
from tests.jobs.conftest import Note, status, until
from tests.jobs.schedules.conftest import fired, slots

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]  # the loop makes no difference
MINUTE = 60_000


@pytest.fixture
def write(jobs):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    return write


@pytest.mark.parametrize(
    ("options", "late", "expected"),
    [
        ({}, 90_000, 1),
        ({"missed": "newest", "overlap": True}, 90_000, 1),
        ({"missed": "all", "overlap": True}, 90_000, 2),
        ({"missed": "all"}, 90_000, 2),
        ({"missed": "skip"}, 65_000, 1),
    ],
)
async def test_after_a_downtime(jobs, write, shelf, options, late, expected):
    await write.using(interval=60, name="digest", **options).send(text="a")
    slot = shelf.slot("digest")
    shelf.move("digest", late + MINUTE)  # the slot is `late` in the past
    async with jobs.worker():
        found = await fired(jobs, "digest", expected)
        await status(jobs, found.last_job, "completed")
    first, newest = slot - late - MINUTE, slot - late - MINUTE + late // MINUTE * MINUTE
    expects = [newest] if expected == 1 else [first, newest]
    assert [*await slots(jobs, "digest")] == expects
    assert shelf.slot("digest") == newest + MINUTE, "the next one is in the same grid"
    assert found.runs == expected


async def test_skip_passes_over_what_is_late(jobs, write, shelf):
    await write.using(interval=3600, name="digest", missed="skip").send(text="a")
    slot = shelf.slot("digest")
    shelf.move("digest", 3_600_000 + 2 * MINUTE)

    async def moved():
        return shelf.slot("digest") == slot - 2 * MINUTE

    async with jobs.worker():
        await until(moved)
    assert (await jobs.schedules.get("digest")).runs == 0


async def test_all_of_a_thousand_slots(jobs, write, shelf):
    await write.using(interval=60, name="digest", missed="all", overlap=True).send(text="a")
    shelf.move("digest", 250 * MINUTE)
    async with jobs.worker():
        await fired(jobs, "digest", 250)
        await until(lambda: _none_waits(jobs))
    found = await slots(jobs, "digest")
    assert len(found) == len(set(found)) == 250


async def _none_waits(jobs):
    counts = await jobs.counts()
    return counts.waiting + counts.active == 0


@pytest.fixture
def gate(jobs):
    """A scheduled task that runs until the gate is opened; how many run, and the most that ever did."""

    class Gate:
        opened = anyio.Event()
        inside = most = 0

    @jobs.task(schema=Note)
    async def wait(note: Note, job: Job) -> None:
        Gate.inside += 1
        Gate.most = max(Gate.most, Gate.inside)
        await Gate.opened.wait()
        Gate.inside -= 1

    Gate.task = wait  # type: ignore[attr-defined]
    return Gate


async def test_runs_of_one_schedule_do_not_overlap(jobs, gate, looked):
    await gate.task.using(interval=0.1, name="digest").send(text="a")
    async with jobs.worker():
        await fired(jobs, "digest")
        await looked(2)
        found = await jobs.schedules.get("digest")
        assert (found.runs, gate.inside) == (1, 1)
        gate.opened.set()
        await fired(jobs, "digest", 4)
    assert gate.most == 1
    first, second, *_ = await slots(jobs, "digest")
    assert second - first >= 300, "of the slots that waited, the newest fired"


async def test_unless_they_are_told_to(jobs, gate):
    await gate.task.using(interval=0.1, name="digest", overlap=True).send(text="a")
    async with jobs.worker():
        await until(lambda: _inside(gate, 3))
        gate.opened.set()
    found = await slots(jobs, "digest")
    assert {slot - before for before, slot in pairwise(found)} == {100}


async def _inside(gate, count):
    return gate.inside >= count


async def test_a_slot_that_waits_fires_as_soon_as_the_run_has_ended(jobs, gate, shelf, monkeypatch):
    monkeypatch.setattr("sync_kit.jobs.schedules.keeper.BUSY_SLEEP", 60)
    monkeypatch.setattr("sync_kit.jobs.schedules.keeper.LONGEST_SLEEP", 60)
    await gate.task.using(interval=0.2, name="digest").send(text="a")
    async with jobs.worker():
        await until(lambda: _inside(gate, 1))
        await until(lambda: _is_due(shelf, "digest"))
        gate.opened.set()
        with anyio.fail_after(5):
            await fired(jobs, "digest", 3)


async def test_with_skip_a_slot_that_comes_too_early_is_passed_over(jobs, gate, shelf):
    await gate.task.using(interval=0.2, name="digest", missed="skip").send(text="a")
    async with jobs.worker():
        await fired(jobs, "digest")
        slot = shelf.slot("digest")

        async def moved():
            return shelf.slot("digest") > slot + 400

        await until(moved)
        assert (await jobs.schedules.get("digest")).runs == 1
        gate.opened.set()
        await fired(jobs, "digest", 2)


async def _is_due(shelf, name):
    return shelf.slot(name) < shelf.now()


async def test_a_job_between_two_retries_has_not_ended(jobs, shelf, looked):
    @jobs.task(schema=Note, retries=1, backoff=Backoff(base=60, jitter=0))
    async def fail(note: Note) -> None:
        raise ValueError

    await fail.using(interval=0.1, name="digest").send(text="a")
    async with jobs.worker():
        found = await fired(jobs, "digest")
        await status(jobs, found.last_job, "delayed")
        await looked(2)
        assert (await jobs.schedules.get("digest")).runs == 1
        await jobs.cancel(found.last_job)
        await fired(jobs, "digest", 2)
