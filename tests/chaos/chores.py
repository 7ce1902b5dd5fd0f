"""The jobs of the chaos tests, for the test that sends them and for the processes that run them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from sync_kit import Jobs, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sync_kit import Receipt, SyncKit, Task
    from tests.chaos.ledger import Ledger

QUEUE = "chores"


@dataclass
class Chore:
    """A job that takes a while; one that `blocks` keeps its event loop from running meanwhile."""

    number: int
    seconds: float = 0.002
    blocks: bool = False


def chores(kit: SyncKit, ledger: Ledger) -> tuple[Jobs, Task[..., Chore]]:
    """The queue, and its task, whose runs are written into `ledger`."""
    jobs = Jobs(QUEUE, kit=kit)

    @jobs.task(schema=Chore, timeout=120)
    async def do(chore: Chore) -> None:
        run = ledger.began(chore.number)
        try:
            if chore.blocks:
                time.sleep(chore.seconds)  # noqa: ASYNC251 - that is what it is for
            else:
                await anyio.sleep(chore.seconds)
        except anyio.get_cancelled_exc_class():
            ledger.write("cancelled", run)
            raise
        ledger.write("ended", run)

    return jobs, do


async def at_rest(jobs: Jobs) -> bool:
    """Whether there is nothing left to do; False when the server is away."""
    try:
        counts = await jobs.counts()
    except Unavailable:
        return False
    return counts.waiting + counts.delayed + counts.active == 0


async def ends(jobs: Jobs, receipts: Iterable[Receipt]) -> set[tuple[str, int, int]]:
    """The different ways in which jobs ended: status, attempts and crashes."""
    found = [await jobs.get(receipt.id) for receipt in receipts]
    return {(job.status, job.attempts, job.crashes) if job else ("lost", 0, 0) for job in found}


UNHARMED = {("completed", 1, 0)}
"""How all jobs end that no worker was lost with."""
