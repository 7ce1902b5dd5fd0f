"""Whether workers of this host are alive and well, for the health checks of containers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sync_kit.errors import SyncKitError
from sync_kit.queue.info import workers_flow
from sync_kit.queue.wording import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit.queue.info import WorkerInfo
    from sync_kit.queue.source import Source

MOST_SILENT = 30.0
MOST_LAG = 30.0


def complaints(sources: Sequence[Source]) -> list[str]:
    """A line for each queue without a good worker of this host; one that says so if Redis is away or refuses."""
    try:
        return [reason for source in sources if (reason := _complaint(source)) is not None]
    except SyncKitError as error:
        return [str(error)]


def _complaint(source: Source) -> str | None:
    """Why there is no good worker of this host for a queue; None if there is one."""
    here = socket.gethostname()
    found = source.run_blocking(workers_flow(source.desk), "workers()")
    own = [worker for worker in found if worker.host == here]
    if not own:
        elsewhere = f"; {len(found)} on other hosts" if found else ""
        return f"queue {source.name!r}: no worker of host {here!r} was heard of in the last 45 s{elsewhere}"
    if any(_trouble(worker) is None for worker in own):
        return None
    return f"queue {source.name!r}: " + "; ".join(f"worker {worker.pid} {_trouble(worker)}" for worker in own)


def _trouble(worker: WorkerInfo) -> str | None:
    if worker.silent >= MOST_SILENT:
        return f"has been silent for {span(worker.silent)}"
    if not worker.healthy:
        return "has a thread that is stuck in a plain function"
    if worker.lag >= MOST_LAG:
        return f"has an event loop that did not run for {span(worker.lag)}"
    return None
