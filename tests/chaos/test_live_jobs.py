"""No job that runs is taken away from its worker, however busy that is and however eager the others are."""

from __future__ import annotations

import itertools

import pytest

from tests.chaos.chores import UNHARMED, Chore, at_rest, ends
from tests.chaos.ledger import undisturbed
from tests.jobs.conftest import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"]), pytest.mark.timeout(300)]

LEASE = 1.0


@pytest.fixture
def play(queue, ledger):
    """`play(count, seconds=2)` sends jobs and waits; returns the ways they ended and the numbers of runs they had."""
    jobs, task = queue
    numbers = itertools.count()

    async def played(count, **how):
        sent = [Chore(next(numbers), **how) for _ in range(count)]
        receipts = await task.send_many(sent)
        await until(lambda: at_rest(jobs), 60)
        ran = [run.number for run in ledger.runs()]
        return await ends(jobs, receipts), {ran.count(chore.number) for chore in sent}

    return played


async def test_a_handler_that_blocks_the_loop_for_twice_the_lease_is_not_run_again(play, ledger, fleet, settings, size):
    for _ in range(2):
        await fleet.start(settings(lease=LEASE))
    for _ in range(size(2, 10)):
        played = await undisturbed(ledger, lambda: play(1, seconds=2 * LEASE, blocks=True))
        assert played == (UNHARMED, {1})


async def test_twenty_workers_that_sweep_every_10_ms_reclaim_no_live_job(play, ledger, fleet, settings, size):
    for _ in range(2):
        await fleet.start(settings(lease=LEASE, workers=10, concurrency=2, poll_interval=0.01))
    for _ in range(size(1, 10)):
        played = await undisturbed(ledger, lambda: play(20, seconds=2.5 * LEASE))
        assert played == (UNHARMED, {1})
