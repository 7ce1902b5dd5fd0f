"""Workers stop at random moments, in the midst of slow exchanges: nothing is stranded, lost or counted."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from sync_kit import SyncKit
from tests.chaos.chores import UNHARMED, Chore, at_rest, chores, ends
from tests.jobs.conftest import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"]), pytest.mark.timeout(600)]

DELAY = 0.02
DURATIONS = (0.001, 0.02, 0.1)
EACH = 10
"""Jobs sent before each stop."""


class Load:
    """Sends jobs, and looks in the end what became of them all."""

    def __init__(self, queue: Any, ledger: Any) -> None:
        self._jobs, self._task = queue
        self._ledger = ledger
        self._receipts: list[Any] = []
        self.dice = random.Random(11)

    async def more(self) -> None:
        """Send some."""
        numbers = range(len(self._receipts), len(self._receipts) + EACH)
        self._receipts += await self._task.send_many([Chore(number, self.dice.choice(DURATIONS)) for number in numbers])

    async def a_moment(self) -> None:
        """Let some of them run, or none."""
        await anyio.sleep(self.dice.uniform(0.0, 0.2))

    async def nothing_is_stranded(self) -> None:
        """No job belongs to the worker that has stopped."""
        assert (await self._jobs.counts()).active == 0

    async def all_are_unharmed(self) -> None:
        """Run the rest; each job ran to its end once, and what was handed back was not counted."""
        async with self._jobs.worker():
            await until(lambda: at_rest(self._jobs), 60)
        assert await ends(self._jobs, self._receipts) == UNHARMED
        assert (await self._jobs.counts()).completed == len(self._receipts)
        whole = [run.number for run in self._ledger.runs() if run.whole]
        assert sorted(whole) == list(range(len(self._receipts)))


@pytest.fixture
def load(queue, ledger):
    return Load(queue, ledger)


async def test_a_worker_that_stops_under_load_strands_and_loses_nothing(load, proxy, namespace, ledger, size):
    proxy.delay = DELAY
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        jobs, _ = chores(kit, ledger)
        for _ in range(size(25, 200)):
            await load.more()
            async with jobs.worker(concurrency=4, drain_timeout=load.dice.choice([0.0, 5.0])):
                await load.a_moment()
            await load.nothing_is_stranded()
    await load.all_are_unharmed()


async def test_a_process_that_is_terminated_under_load_strands_and_loses_nothing(load, proxy, fleet, settings, size):
    proxy.delay = DELAY
    for _ in range(size(8, 60)):
        await load.more()
        process = await fleet.start(settings(url=proxy.url, drain_timeout=load.dice.choice([0.0, 5.0])))
        await load.a_moment()
        await process.terminate()
        await load.nothing_is_stranded()
    await load.all_are_unharmed()
