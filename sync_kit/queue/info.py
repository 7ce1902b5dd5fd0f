"""What workers say of themselves: a record in Redis for each, renewed every ten seconds."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit._io.flow import Flow
    from sync_kit.queue.desk import Desk

MOST_NAMED = 100


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker says of itself, every ten seconds.

    Attributes:
        id: its name, a UUID.
        host: the name of its machine.
        pid: its process.
        version: of sync_kit.
        concurrency: its slots, for all of its queues together.
        running: ids of what it runs from this queue, 100 at most.
        tasks: names of the tasks that it knows, 100 at most.
        lag: seconds for which its event loop had not run then.
        healthy: whether none of its threads is stuck in a plain function that overran ten timeouts.
        started_at: epoch seconds by its own clock.
        silent: seconds since it said this, by the server's clock.
        declared: schedules in its code, as `name@digest`.
    """

    id: str
    host: str
    pid: int
    version: str
    concurrency: int
    running: tuple[str, ...]
    tasks: tuple[str, ...]
    lag: float
    healthy: bool
    started_at: float
    silent: float
    declared: tuple[str, ...] = ()


def record(*, running: Sequence[str], tasks: Sequence[str], **said: Any) -> bytes:
    """The record of a worker of this process."""
    here = {"host": socket.gethostname(), "pid": os.getpid(), "version": _version()}
    return json.dumps({**here, "running": running[:MOST_NAMED], "tasks": tasks[:MOST_NAMED], **said}).encode()


def workers_flow(desk: Desk) -> Flow[list[WorkerInfo]]:
    """The workers of a queue that were heard of lately."""
    found = yield from desk.workers_flow()
    return [_read(name, silent, json.loads(said)) for name, silent, said in found]


def _read(name: str, silent: float, said: dict[str, Any]) -> WorkerInfo:
    known = {field: said[field] for field in WorkerInfo.__slots__ if field in said}  # a newer worker says more
    for names in ("running", "tasks", "declared"):
        known[names] = tuple(said.get(names, ()))
    return WorkerInfo(**known | {"id": name, "silent": silent})


@lru_cache(maxsize=1)
def _version() -> str:
    from importlib import metadata  # slow to import, and only a worker needs it

    try:
        return metadata.version("sync-kit")
    except metadata.PackageNotFoundError:  # run from a folder
        return "unknown"
