"""The jobs of the chaos tests, for the test that sends them and for the processes that run them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from sync_kit import Jobs

if TYPE_CHECKING:
    from sync_kit import SyncKit, Task
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
