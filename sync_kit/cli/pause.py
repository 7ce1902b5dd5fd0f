"""`sync-kit pause` and `resume`: whether workers take anything from a queue."""

from __future__ import annotations

import typer

from sync_kit.cli.targets import Several, load_queues
from sync_kit.queue.logs import clean


def pause(targets: Several) -> None:
    """Let no worker take anything, on any host, until `resume`; what runs goes on."""
    for target, queue in load_queues(targets).items():
        new = queue.run_blocking(queue.desk.pause_flow(True), "pause()")
        said = "is paused" if new else "was paused already"
        typer.echo(f"queue {clean(queue.name)} {said}; undo it with: sync-kit resume {clean(target)}")


def resume(targets: Several) -> None:
    """Let workers take jobs and messages again."""
    for queue in load_queues(targets).values():
        new = queue.run_blocking(queue.desk.pause_flow(False), "resume()")
        typer.echo(f"queue {clean(queue.name)} {'goes on' if new else 'was not paused'}")
