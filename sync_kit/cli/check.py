"""`sync-kit worker --check`: whether a worker of this host is alive and well, for the health checks of containers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import typer

from sync_kit.queue.checkup import complaints
from sync_kit.queue.logs import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit.queue.source import Source


def check_workers(sources: Sequence[Source]) -> None:
    """Say that all is well, or leave with exit code 1 and the reason; so it is when Redis is away or refuses, too."""
    reasons = complaints(sources)
    for reason in reasons:
        typer.echo(f"sync-kit: {clean(reason)}", err=True)
    if reasons:
        raise typer.Exit(1)
    typer.echo(f"ok: a worker of {clean(socket.gethostname())} is alive and well")
