"""Failed jobs are kept: they can be looked at, run again, one or all, and deleted."""

from __future__ import annotations

import pytest

from sync_kit import ConfigurationError
from tests.jobs.conftest import Note, status

pytestmark = pytest.mark.anyio


async def test_a_failed_job_runs_again_when_asked_to(jobs, face):
    broken = True

    @jobs.task(schema=Note, retries=1)
    async def write(note: Note) -> None:
        if broken:
            raise ConnectionError("the printer is off")

    receipt = await write.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed")
        assert (job.attempts, job.error) == (2, "ConnectionError: the printer is off")
        assert [each.id for each in await face(jobs).list(status="failed")] == [receipt.id]
        broken = False
        assert await face(jobs).retry(receipt.id)
        job = await status(jobs, receipt.id, "completed")
    assert job.attempts == 1
    assert not await face(jobs).retry(receipt.id), "it has not failed"


async def test_all_failed_jobs_run_again_when_asked_to(jobs, face):
    broken = True

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        if broken or note.number == 3:
            raise ValueError

    receipts = await write.send_many([Note(text="a", number=number) for number in range(5)])
    async with jobs.worker():
        for receipt in receipts:
            await status(jobs, receipt.id, "failed")
        broken = False
        assert await face(jobs).retry_failed() == 5
        for number in (0, 1, 2, 4):
            await status(jobs, receipts[number].id, "completed")
        await status(jobs, receipts[3].id, "failed")
    assert (await jobs.counts()).failed == 1


async def test_an_ended_job_can_be_forgotten(jobs, face):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    assert not await face(jobs).delete(receipt.id), "it is still to run"
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
    assert await face(jobs).delete(receipt.id)
    assert await face(jobs).get(receipt.id) is None
    assert not await face(jobs).delete(receipt.id)


@pytest.mark.parametrize("verb", ["retry", "delete"])
@pytest.mark.parametrize("job_id", ["", None, 5])
async def test_what_is_no_id_is_refused(jobs, face, verb, job_id):
    with pytest.raises(ConfigurationError, match="job id"):
        await getattr(face(jobs), verb)(job_id)
