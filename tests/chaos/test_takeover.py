"""The job of a killed worker starts again on another soon after its lease, and not for ever."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.jobs.conftest import status, until
from tests.support.ticks import Ticks

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"]), pytest.mark.timeout(300)]

LEASE = 2.0
SOON = 2.0
"""Seconds after the lease; idle workers look every `poll_interval`, by default once a second."""
elapsed = Ticks().elapsed


async def test_the_job_of_a_killed_worker_starts_again_on_an_idle_one_soon_after_its_lease(
    queue, ledger, fleet, settings, size
):
    jobs, task = queue
    calm = settings(lease=LEASE, poll_interval=1.0)
    pair = [await fleet.start(calm) for _ in range(2)]
    for number in range(size(2, 8)):
        receipt = await task.send(number=number, seconds=1)
        (first,) = await until(partial(_runs, ledger, number, 1))
        (killed,) = (process for process in pair if process.pid == first.pid)
        await killed.kill()
        at = elapsed()
        _, second = await until(partial(_runs, ledger, number, 2), LEASE + 15)
        assert elapsed() - at < LEASE + SOON
        assert second.pid in {process.pid for process in pair} - {killed.pid}
        job = await status(jobs, receipt.id, "completed")
        assert (job.attempts, job.crashes) == (1, 1)
        pair[pair.index(killed)] = await fleet.start(calm)


async def test_a_job_is_failed_when_its_worker_was_killed_three_times_and_not_before(queue, ledger, fleet, settings):
    jobs, task = queue
    receipt = await task.send(number=1, seconds=60)
    for deaths in (1, 2, 3):
        process = await fleet.start(settings(lease=1.0))
        await until(partial(_runs, ledger, 1, deaths))
        await process.kill()
        job = await jobs.get(receipt.id)
        assert (job.status, job.crashes) == ("active", deaths - 1)
    await fleet.start(settings(lease=1.0))
    job = await status(jobs, receipt.id, "failed")
    assert (job.crashes, job.error) == (3, "worker died 3 times")
    assert len(ledger.runs()) == 3


async def _runs(ledger: Any, number: int, count: int) -> Any:
    """The runs of a job, when there are so many."""
    found = [run for run in ledger.runs() if run.number == number]
    return found if len(found) == count else None
