"""The storm: worker processes are killed, stopped, ended and cut off at random; every job is completed nevertheless.

Proven of each run: exactly what was sent is completed, each job once; each ran to its end; and every second run is
explained by a fault that hit the process of the run before (see `verdict`). Faults that may not cost anything have a
storm of their own, in which no run is excused.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from sync_kit import Counts
from tests.chaos.chores import UNHARMED, Chore, at_rest, ends
from tests.chaos.ledger import Fault
from tests.chaos.verdict import second_runs, violations
from tests.jobs.conftest import until
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sync_kit import Receipt
    from tests.chaos.fleet import Fleet, Process
    from tests.chaos.worker import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"]), pytest.mark.timeout(1200)]

LEASE = 2.0
FAULTS = ("killed", "terminated", "stopped", "cut", "slow", "deaf", "hole")
HARMLESS = ("terminated", "cut", "slow")
"""Those that may not cost a job anything."""
BATCH = 25
PACE = 0.3
"""Seconds between two batches: the jobs last about as long as the faults, and the queue is empty at times."""
DURATIONS = (0.002, 0.01, 0.05, 0.3)
LONG, OFTEN = 1.5 * LEASE, 60
"""Of so many jobs one needs its lease to be renewed."""


class Member:
    """A worker process behind a proxy of its own, and its fate. A process that dies is followed by another."""

    def __init__(self, fleet: Fleet, proxy: Proxy, settings: Settings, dice: random.Random) -> None:
        self.faults: list[Fault] = []
        self._fleet = fleet
        self._proxy = proxy
        self._settings = settings
        self._dice = dice

    async def suffer(self, faults: tuple[str, ...], rounds: int) -> None:
        """Go through these faults, in an order and at times that the dice say, some rounds."""
        self._process = await self._fleet.start(self._settings)
        for _ in range(rounds):
            for kind in self._dice.sample(faults, len(faults)):
                await anyio.sleep(self._dice.uniform(0.5, 2.5))
                await getattr(self, f"_{kind}")()

    @contextmanager
    def _noted(self, kind: str) -> Iterator[Process]:
        began = time.monotonic()
        yield self._process
        self.faults.append(Fault(kind, self._process.pid, began, time.monotonic()))

    async def _killed(self) -> None:
        with self._noted("killed") as process:
            await process.kill()
        self._process = await self._fleet.start(self._settings)

    async def _terminated(self) -> None:
        with self._noted("terminated") as process:
            await process.terminate()
        self._process = await self._fleet.start(self._settings)

    async def _stopped(self) -> None:
        with self._noted("stopped") as process:
            process.stop()
            await anyio.sleep(LEASE + self._dice.uniform(0.2, 1.0))
            process.resume()

    async def _cut(self) -> None:
        """Again and again, and slow, so that calls are under way."""
        with self._noted("cut"):
            self._proxy.delay = 0.02
            for _ in range(15):
                await anyio.sleep(self._dice.uniform(0.01, 0.05))
                await anyio.to_thread.run_sync(self._proxy.cut)
            self._proxy.delay = 0.0

    async def _slow(self) -> None:
        with self._noted("slow"):
            self._proxy.delay = 0.02
            await anyio.sleep(1)
            self._proxy.delay = 0.0

    async def _deaf(self) -> None:
        with self._noted("deaf"):
            self._proxy.drop_replies = True
            await self._for_a_moment()

    async def _hole(self) -> None:
        with self._noted("hole"):
            self._proxy.black_hole()
            await self._for_a_moment()

    async def _for_a_moment(self) -> None:
        """Then heal, but on new connections only: no network loses bytes within a stream and goes on with it."""
        await anyio.sleep(self._dice.uniform(0.5, 2 * LEASE))
        await anyio.to_thread.run_sync(self._proxy.refuse)
        await anyio.to_thread.run_sync(self._proxy.heal)


def _chore(number: int, dice: random.Random) -> Chore:
    return Chore(number, LONG if dice.randrange(OFTEN) == 0 else dice.choice(DURATIONS))


async def _send(task: Any, count: int, pace: float) -> list[Receipt]:
    """Send jobs batch by batch, some of them delayed; returns the receipts, in the order of the numbers."""
    dice = random.Random(9)
    sent: list[Receipt] = []
    while len(sent) < count:
        numbers = range(len(sent), min(count, len(sent) + BATCH))
        sender = dice.choice((task, task, task, task.using(delay=0.5)))
        sent += await sender.send_many([_chore(number, dice) for number in numbers])
        await anyio.sleep(pace)
    return sent


async def _states(jobs: Any, sent: list[Receipt]) -> dict[int, str]:
    """The status of each job that is known."""
    found = [await jobs.get(receipt.id) for receipt in sent]
    return {number: job.status for number, job in enumerate(found) if job is not None}


@pytest.fixture
def storm(server, queue, fleet, settings, ledger):
    """`storm(faults, rounds, count)` lets processes suffer while jobs are sent; returns the receipts and the faults.

    There are four processes; the dice of each are seeded with its number.
    """
    jobs, task = queue

    async def rage(faults, rounds, count, *, pace=PACE, **told):
        with Proxy(server) as a, Proxy(server) as b, Proxy(server) as c, Proxy(server) as d:
            members = [
                Member(fleet, proxy, settings(url=proxy.url, drain_timeout=drain, **told), random.Random(seed))
                for seed, (proxy, drain) in enumerate([(a, 0.0), (b, 0.1), (c, 5.0), (d, 5.0)])
            ]
            async with anyio.create_task_group() as group:
                for member in members:
                    group.start_soon(member.suffer, faults, rounds)
                sent = await _send(task, count, pace)
            await until(lambda: at_rest(jobs), 60)
            await fleet.end()
        return sent, [fault for member in members for fault in member.faults]

    return rage


async def test_in_a_storm_every_job_is_completed_and_every_second_run_explained(storm, queue, ledger, size):
    jobs, _ = queue
    ledger.watch(LEASE / 4)
    sent, faults = await storm(FAULTS, size(1, 6), size(1500, 10_000), lease=LEASE, max_crashes=20)
    runs, stood = ledger.runs(), ledger.standstills()
    print(second_runs(runs), "second runs in", len(runs), "and", len(stood), "standstills", *faults, sep="\n")
    assert violations(range(len(sent)), await _states(jobs, sent), runs, [*faults, *stood], LEASE) == []
    assert await jobs.counts() == Counts(0, 0, 0, completed=len(sent), failed=0)


async def test_shutdowns_and_broken_connections_cost_nothing(storm, queue, ledger, size):
    jobs, _ = queue
    sent, faults = await storm(HARMLESS, size(1, 10), size(900, 9000), pace=0.0)  # the queue is never empty
    assert {fault.kind for fault in faults} == {*HARMLESS}
    assert await ends(jobs, sent) == UNHARMED
    assert await jobs.counts() == Counts(0, 0, 0, completed=len(sent), failed=0)
    assert sorted(run.number for run in ledger.runs() if run.whole) == list(range(len(sent)))
