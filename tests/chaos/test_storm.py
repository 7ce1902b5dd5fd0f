"""The storm: worker processes are killed, stopped, ended and cut off at random; every job is completed nevertheless.

Proven of each run: exactly what was sent is completed, each job once; each ran to its end; and every second run is
explained by a fault that hit the process of the run before (see `verdict`).
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from sync_kit import Counts
from tests.chaos.chores import Chore, at_rest
from tests.chaos.ledger import Fault
from tests.chaos.verdict import second_runs, violations
from tests.jobs.conftest import until
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.fleet import Fleet, Process
    from tests.chaos.worker import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"]), pytest.mark.timeout(1200)]

LEASE = 2.0
FAULTS = ("killed", "terminated", "stopped", "cut", "slow", "deaf", "hole")
BATCH = 25
PACE = 0.3
"""Seconds between two batches: the jobs last about as long as the faults."""
DURATIONS = (0.002, 0.01, 0.05, 0.3)


class Member:
    """A worker process behind a proxy of its own, and its fate. A process that dies is followed by another."""

    def __init__(self, fleet: Fleet, proxy: Proxy, settings: Settings, dice: random.Random) -> None:
        self.faults: list[Fault] = []
        self._fleet = fleet
        self._proxy = proxy
        self._settings = settings
        self._dice = dice

    async def suffer(self, rounds: int) -> None:
        """Go through every fault, in an order and at times that the dice say, some rounds."""
        self._process = await self._fleet.start(self._settings)
        for _ in range(rounds):
            for kind in self._dice.sample(FAULTS, len(FAULTS)):
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
        with self._noted("cut"):
            await anyio.to_thread.run_sync(self._proxy.cut)

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
        await anyio.sleep(self._dice.uniform(0.2, 1.5 * LEASE))
        await anyio.to_thread.run_sync(self._proxy.refuse)
        await anyio.to_thread.run_sync(self._proxy.heal)


async def _send(task: Any, count: int, dice: random.Random) -> dict[int, str]:
    """Send jobs batch by batch, some of them delayed; returns the id of each number."""
    sent: dict[int, str] = {}
    while len(sent) < count:
        numbers = range(len(sent), min(count, len(sent) + BATCH))
        sender = dice.choice((task, task, task, task.using(delay=0.5)))
        receipts = await sender.send_many([Chore(number, dice.choice(DURATIONS)) for number in numbers])
        sent |= {number: receipt.id for number, receipt in zip(numbers, receipts, strict=True)}
        await anyio.sleep(PACE)
    return sent


async def _states(jobs: Any, sent: dict[int, str]) -> dict[int, str]:
    """The status of each job that is known."""
    found = {number: await jobs.get(job_id) for number, job_id in sent.items()}
    return {number: job.status for number, job in found.items() if job is not None}


@pytest.fixture
def members(server, fleet, settings) -> Iterator[list[Member]]:
    """Four of them. The seed of each is its number."""
    with Proxy(server) as a, Proxy(server) as b, Proxy(server) as c, Proxy(server) as d:
        yield [
            Member(fleet, proxy, settings(url=proxy.url, lease=LEASE, drain_timeout=drain), random.Random(seed))
            for seed, (proxy, drain) in enumerate([(a, 0.0), (b, 0.1), (c, 5.0), (d, 5.0)])
        ]


async def test_in_a_storm_every_job_is_completed_and_every_second_run_explained(members, queue, fleet, ledger, size):
    jobs, task = queue
    ledger.watch(LEASE / 4)
    async with anyio.create_task_group() as group:
        for member in members:
            group.start_soon(member.suffer, size(1, 6))
        sent = await _send(task, size(1500, 10_000), random.Random(9))
    await until(lambda: at_rest(jobs), 60)
    states = await _states(jobs, sent)
    await fleet.end()
    runs = ledger.runs()
    faults = [fault for member in members for fault in member.faults]
    print(
        second_runs(runs), "second runs in", len(runs), "and", len(ledger.standstills()), "standstills of the machine"
    )
    print(*faults, sep="\n")
    assert violations(sent, states, runs, [*faults, *ledger.standstills()], LEASE) == []
    failed = sum(state == "failed" for state in states.values())
    assert await jobs.counts() == Counts(0, 0, 0, completed=len(sent) - failed, failed=failed)
