"""When queues are empty, as far as a worker can make them so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from sync_kit.errors import SyncKitError
from sync_kit.queue.courier import back_off

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit.queue.source import Source
    from sync_kit.queue.worker import Worker

LOOK_AGAIN = 1.0
"""Seconds between two looks at what others run."""


async def until_empty(worker: Worker, sources: Sequence[Source]) -> None:
    """Wait until nothing of these queues waits or runs, be it here or elsewhere.

    What is delayed, between retries too, or parked does not count, nor does what waits in a queue that is paused. Jobs
    of one queue may send to another, so only two looks at all of them, between which nothing was run, are believed.
    """
    looks = failures = 0
    while looks < 2:
        await worker.rest()
        took = worker.took
        try:
            empty = not [source for source in sources if await _has_work(source)]
            failures = 0
        except SyncKitError as error:
            failures, empty = await back_off(failures, "looking whether queues are empty", error), False
        looks = looks + 1 if empty and worker.took == took else 0
        if not empty:
            await anyio.sleep(LOOK_AGAIN)


async def _has_work(source: Source) -> bool:
    tally = await source.kit.driver.run(source.desk.count_flow())
    if tally.active or not tally.waiting:
        return tally.active > 0
    oddities = await source.kit.driver.run(source.desk.examine_flow())
    return not oddities.paused
