"""What workers say of themselves: a record in Redis for each, renewed every ten seconds."""

from __future__ import annotations

import json
import logging
import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit._io.flow import Flow
    from sync_kit.queue.desk import Desk

log = logging.getLogger("sync_kit")

MOST_NAMED = 100
SILENT = 30.0
"""Seconds after which a worker that says nothing is doubtful: it speaks every ten."""
LAGS = 5.0
"""Seconds without a turn of its event loop after which a worker is doubtful, too."""
_NAMES = ("running", "tasks", "declared")
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("host", "version"), str),
    **dict.fromkeys(("pid", "concurrency"), int),
    **dict.fromkeys(("lag", "started_at"), (int, float)),
    "healthy": bool,
    **dict.fromkeys(_NAMES, list),
}


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
    """The workers of a queue that were heard of lately; a record that cannot be read is logged and left out."""
    found = yield from desk.workers_flow()
    workers = []
    for name, silent, said in found:
        try:
            workers.append(_read(name, silent, said))
        except (ValueError, TypeError, RecursionError) as error:
            log.warning("what worker %r says of itself cannot be read, it is left out: %r", name, error)
    return workers


def _read(name: str, silent: float, told: bytes) -> WorkerInfo:
    said: Any = json.loads(told)
    if not isinstance(said, dict):
        raise ValueError("it is no JSON object")
    for field, kinds in _KINDS.items():
        if not isinstance(said.get(field, [] if kinds is list else None), kinds):
            raise ValueError(f"it has no {field}, or an odd one")
    known = {field: said[field] for field in _KINDS if field in said}  # a newer worker says more
    for names in _NAMES:
        known[names] = tuple(map(str, said.get(names, ())))
    return WorkerInfo(**known, id=name, silent=silent)


@lru_cache(maxsize=1)
def _version() -> str:
    from importlib import metadata  # slow to import, and only a worker needs it

    try:
        return metadata.version("sync-kit")
    except metadata.PackageNotFoundError:  # run from a folder
        return "unknown"
