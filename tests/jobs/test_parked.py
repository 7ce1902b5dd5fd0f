"""A task that a worker does not know: its jobs wait for a worker that does, and are shown."""

from __future__ import annotations

import pytest

from sync_kit import ConfigurationError, Jobs
from tests.jobs.conftest import Note, status, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def often(monkeypatch):
    """Workers look for parked jobs every 0.1 s."""
    monkeypatch.setattr("sync_kit.queue.line.ATTEND", 0.1)


async def test_a_job_of_an_unknown_task_is_parked_and_shown(kit, jobs, caplog):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    async with Jobs("notes", kit=kit).worker():
        job = await status(jobs, receipt.id, "parked")
    assert (job.attempts, job.crashes) == (0, 0)
    assert "no worker knew task 'write'" in job.error
    assert "this worker has no such task" in caplog.text
    assert (await jobs.counts()).parked == 1
    assert [parked.id for parked in await jobs.list(status="parked")] == [receipt.id]


async def test_a_worker_that_knows_the_task_runs_what_others_parked(kit, jobs, often):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    sent = await write.send_many([Note(text="a", number=n) for n in range(120)])
    async with Jobs("notes", kit=kit).worker():
        await until(lambda: _parked(jobs, 120))
    async with jobs.worker():
        for receipt in sent:
            await status(jobs, receipt.id, "completed")
    counts = await jobs.counts()
    assert (counts.parked, counts.completed) == (0, 120)


async def test_a_worker_that_was_there_before_fetches_them_too(kit, jobs, often):
    known: Jobs = Jobs("notes", kit=kit)

    async def write(note: Note) -> None: ...

    receipt = await jobs.task(schema=Note)(write).send(text="a")
    async with Jobs("notes", kit=kit).worker():
        await status(jobs, receipt.id, "parked")
        async with known.worker(poll_interval=60):
            known.task(schema=Note)(write)
            await status(known, receipt.id, "completed")


async def _parked(jobs, count: int) -> bool:
    return bool((await jobs.counts()).parked == count)


async def test_a_parked_job_can_be_cancelled_and_does_not_come_back(kit, jobs, often):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    async with Jobs("notes", kit=kit).worker():
        await status(jobs, receipt.id, "parked")
    assert await jobs.cancel(receipt.id)
    async with jobs.worker(poll_interval=0.05):
        other = await write.send(text="b")
        await status(jobs, other.id, "completed")
    assert (await jobs.get(receipt.id)).status == "cancelled"


async def test_after_a_time_that_is_told_it_has_failed(kit, jobs, client, namespace):
    sender = jobs.task(schema=Note, name="gone")(lambda note: None)
    receipt = await sender.send(text="a")
    async with Jobs("notes", kit=kit).worker(poll_interval=0.05):
        await status(jobs, receipt.id, "parked")
    client.zincrby(f"{namespace}:q:{{notes}}:parked", -3_600_000, receipt.id)
    async with Jobs("notes", park_ttl=3000, kit=kit).worker(poll_interval=0.05):
        job = await status(jobs, receipt.id, "failed")
    assert job.error == "no worker knew task gone in the time that it was parked"


def test_a_wrong_park_ttl_is_refused():
    with pytest.raises(ConfigurationError, match="park_ttl must be"):
        Jobs("notes", park_ttl=-1)


def test_the_name_of_a_task_is_one_line(jobs):
    with pytest.raises(ConfigurationError, match="must be one line"):
        jobs.task(schema=Note, name="a\nb")(lambda note: None)
