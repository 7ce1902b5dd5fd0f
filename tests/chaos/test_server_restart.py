"""The server restarts under load, with its data: exactly what was sent is completed, and no worker is lost by it."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from sync_kit import Counts, SyncKit
from tests.chaos.chores import UNHARMED, Chore, at_rest, chores, ends
from tests.jobs.conftest import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"]), pytest.mark.timeout(600)]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_server_that_restarts_under_load_loses_no_job(own_server, ledger, fleet, settings, size, how):
    own, restarts = own_server(appendonly=True), size(1, 5)
    count = 300 * (restarts + 1)
    async with SyncKit(own.url, namespace="restart") as kit:
        jobs, task = chores(kit, ledger)
        receipts = await task.send_many([Chore(number, 0.02) for number in range(count)])
        for _ in range(2):
            await fleet.start(settings(url=own.url, namespace="restart"))
        for number in range(restarts):
            await until(partial(_whole, ledger, count * (number + 1) // (restarts + 1)), 60)
            await anyio.to_thread.run_sync(getattr(own, how))
            await anyio.to_thread.run_sync(own.start)
        await until(lambda: at_rest(jobs), 60)
        await fleet.end()
        assert await ends(jobs, receipts) == UNHARMED
        assert await jobs.counts() == Counts(0, 0, 0, completed=count, failed=0)
    assert sorted(run.number for run in ledger.runs()) == list(range(count))


async def _whole(ledger: Any, count: int) -> bool:
    """Whether so many jobs ran to their ends."""
    return bool(sum(run.whole for run in ledger.runs()) >= count)
