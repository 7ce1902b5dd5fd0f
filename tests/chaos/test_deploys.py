"""Deploys that come one after the other while a long job runs cost it neither an attempt nor a crash."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.jobs.conftest import status, until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"]), pytest.mark.timeout(120)]


async def test_three_deploys_in_a_row_during_a_long_job_cost_no_crash(queue, ledger, fleet, settings, size):
    jobs, task = queue
    receipt = await task.send(number=1, seconds=3)
    deploys = size(3, 10)
    for number in range(deploys):
        process = await fleet.start(settings(drain_timeout=0.2))
        await until(partial(_begun, ledger, number + 1))
        await process.terminate()
        job = await jobs.get(receipt.id)
        assert (job.status, job.attempts, job.crashes) == ("waiting", 0, 0)
    await fleet.start(settings())
    job = await status(jobs, receipt.id, "completed")
    assert (job.attempts, job.crashes) == (1, 0)
    assert [run.whole for run in ledger.runs()] == [False] * deploys + [True]


async def _begun(ledger: Any, count: int) -> bool:
    """Whether the job has begun so often."""
    return bool(len(ledger.runs()) == count)
