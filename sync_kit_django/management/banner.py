"""What `runworker` says when it starts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.db import connections

from sync_kit.queue.logs import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.core.management.color import Style

    from sync_kit import Jobs, Worker

HOW_TO_STOP = "Stop it with CONTROL-C or SIGTERM: running jobs have {} s to end; again hands them back."


def banner(queues: Sequence[Jobs], worker: Worker, style: Style, *, reloads: bool) -> str:
    """Who runs what, where, and how to stop it."""
    places = " and ".join(sorted({f"{queue.kit.label}, namespace {queue.kit.namespace!r}" for queue in queues}))
    bound = most_connections(queues, worker.concurrency)
    lines = (
        style.MIGRATE_HEADING(f"Worker on {clean(places)}"),
        *_tasks(queues, style),
        f"  concurrency {worker.concurrency}, at most {bound} connections to each database, process {os.getpid()}",
        f"  Django {django.get_version()}, settings {clean(settings.SETTINGS_MODULE)!r}",
        HOW_TO_STOP.format(f"{worker.drain_timeout:g}"),
        *(["It starts again when code changes, once running jobs have ended."] if reloads else []),
    )
    return "\n".join(lines)


def most_connections(queues: Sequence[Jobs], concurrency: int) -> int:
    """How many connections to a database the handlers of a worker may have.

    A run uses one, and two if there is middleware; and threads of plain functions may keep theirs while async ones
    have others.
    """
    are_kept = any(database["CONN_MAX_AGE"] != 0 for database in connections.settings.values())
    return concurrency * (2 if are_kept or any(queue.middlewares for queue in queues) else 1)


def _tasks(queues: Sequence[Jobs], style: Style) -> Iterator[str]:
    width = max(len(queue.name) for queue in queues)
    for queue in queues:
        named = ", ".join(sorted({queue.title(kind) for kind in queue.kinds}))
        yield f"  {clean(f'{queue.name:<{width}}')}  {clean(named) if named else style.WARNING('no tasks')}"
