"""`sync-kit worker`: a worker as a process, restarted when code changes if wanted; and a check of it for containers."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from sync_kit.cli.check import check_workers
from sync_kit.cli.logs import set_up_logging
from sync_kit.cli.reload import Reloader
from sync_kit.cli.targets import Several, load_sources, refuse_misshapen
from sync_kit.errors import ConfigurationError
from sync_kit.jobs import Jobs
from sync_kit.kit import SyncKit
from sync_kit.options import choice
from sync_kit.queue import Worker
from sync_kit.queue.logs import clean
from sync_kit.queue.process import run_worker
from sync_kit.queue.worker import DRAIN_TIMEOUT, POLL_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit.queue.source import Source

LEVELS = ("debug", "info", "warning", "error")
LOOPS = ("asyncio", "uvloop")


def worker(
    targets: Several,
    concurrency: Annotated[int, typer.Option(help="Jobs that run at the same time.")] = 10,
    poll_interval: Annotated[float, typer.Option(help="Seconds to wait for a wake-up at most.")] = POLL_INTERVAL,
    drain_timeout: Annotated[
        float, typer.Option(help="Seconds that running jobs have to end after SIGINT or SIGTERM.")
    ] = DRAIN_TIMEOUT,
    loop: Annotated[str, typer.Option(help=f"The event loop: {' or '.join(LOOPS)}.")] = "asyncio",
    log_level: Annotated[str, typer.Option(help=f"One of {', '.join(LEVELS)}.")] = "info",
    reload: Annotated[bool, typer.Option("--reload", help="Start again when a .py file below here changes.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Start nothing: is a worker of this host alive and well?")
    ] = False,
) -> None:
    """Run jobs and messages until SIGINT or SIGTERM.

    The first signal lets what runs end, a second one hands it back, a third one ends the process as it is.
    """
    level = choice("--log-level", log_level, LEVELS)
    uses_uvloop = _wants_uvloop(loop)

    def make(*sources: Source) -> Worker:
        return Worker(*sources, concurrency=concurrency, poll_interval=poll_interval, drain_timeout=drain_timeout)

    if reload and not check:
        refuse_misshapen(targets)
        make(Jobs("any", kit=SyncKit("redis://localhost")))  # no change of code mends a wrong option
        arguments = [each for each in sys.argv[1:] if each != "--reload"]
        raise typer.Exit(Reloader(arguments, drain_timeout).run())
    set_up_logging(level)
    sources = load_sources(targets)
    if check:
        check_workers(sources)
        return
    made = make(*sources)
    typer.echo(_announced(sources, made), err=True)
    _run(made, uses_uvloop=uses_uvloop)


def _announced(sources: Sequence[Source], made: Worker) -> str:
    """The line at the start: what runs here, and where its jobs are."""
    places = {f"{source.kit.label} (namespace {source.kit.namespace!r})" for source in sources}
    tasks = ((source, sorted(source.tasks) if isinstance(source, Jobs) else ["messages"]) for source in sources)
    queues = (f"{source.name} ({', '.join(names) or 'no tasks'})" for source, names in tasks)
    said = f"worker on {', '.join(sorted(places))}, concurrency {made.concurrency}: {', '.join(queues)}"
    return f"sync-kit: {clean(said)}"


def _wants_uvloop(loop: str) -> bool:
    if choice("--loop", loop, LOOPS) != "uvloop":
        return False
    if find_spec("uvloop") is None:
        raise ConfigurationError("--loop uvloop needs uvloop: pip install uvloop")
    return True


def _run(made: Worker, *, uses_uvloop: bool) -> None:
    async def main() -> None:
        await run_worker(made, handle_signals=True)

    anyio.run(main, backend="asyncio", backend_options={"use_uvloop": uses_uvloop})
