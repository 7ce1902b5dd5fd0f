"""`sync-kit worker --check`: whether a worker of this host is alive and well, for the health checks of containers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import typer

from sync_kit.cli.screen import clean, span
from sync_kit.errors import SyncKitError
from sync_kit.queue.info import workers_flow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit.queue import WorkerInfo
    from sync_kit.queue.source import Source

MOST_SILENT = 30.0
MOST_LAG = 30.0


def check_workers(sources: Sequence[Source]) -> None:
    """Say that all is well, or leave with exit code 1 and the reason; so it is when Redis is away or refuses, too."""
    try:
        reasons = [reason for source in sources if (reason := _complaint(source)) is not None]
    except SyncKitError as error:
        reasons = [str(error)]
    for reason in reasons:
        typer.echo(f"sync-kit: {clean(reason)}", err=True)
    if reasons:
        raise typer.Exit(1)
    typer.echo(f"ok: a worker of {clean(socket.gethostname())} is alive and well")


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
