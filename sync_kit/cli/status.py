"""`sync-kit status`: queues, their workers and what is scheduled, once or again and again."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from sync_kit.cli.screen import Cell, Grid, Json, below, console, moment, on_terminal, show, show_json
from sync_kit.cli.snapshot import look
from sync_kit.cli.targets import Several, load_queues
from sync_kit.errors import Unavailable
from sync_kit.jobs.schedules.schedule import rule_of
from sync_kit.options import seconds
from sync_kit.queue.info import LAGS, SILENT
from sync_kit.queue.logs import clean
from sync_kit.queue.wording import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from sync_kit.cli.snapshot import Snapshot
    from sync_kit.jobs.schedules.schedule import Schedule
    from sync_kit.queue import WorkerInfo
    from sync_kit.queue.base import QueueBase

QUEUES = ("Queue", *(">Waiting >Delayed >Active >Completed >Failed >Cancelled >Parked >Oldest".split()), "")
WORKERS = ("Worker", ">Pid", "Queue", ">Running", ">Lag", ">Heard of", "")
SCHEDULES = ("Schedule", "Queue", "Rule", "Next")
QUEUES_FIRST_TO_GO = ("Cancelled", "Completed", "Parked", "Oldest", "Delayed", "Active")
WORKERS_FIRST_TO_GO = ("Lag", "Queue", "Heard of", "Running")
SCHEDULES_FIRST_TO_GO = ("Queue", "Rule")
LOUD = {"failed": "red", "parked": "yellow"}


def status(
    targets: Several,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    every: Annotated[
        float | None, typer.Option("--every", "-n", help="Seconds between two looks; with --watch, 2 if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show queues, their workers and their schedules."""
    queues = load_queues(targets)
    if watch or every is not None:
        _watch(queues, seconds("--every", 2.0 if every is None else every, least=0.1), as_json=as_json)
    else:
        _once(queues, as_json=as_json, compact=False)


def grids(snapshots: Sequence[Snapshot]) -> list[Grid]:
    """What is shown of queues: tables for what there is."""
    workers = [_worker(each.name, worker) for each in snapshots for worker in each.workers]
    schedules = [_schedule(each.name, schedule) for each in snapshots for schedule in each.schedules]
    note = "" if workers else "no worker is there"
    shown = [Grid(QUEUES, [_queue(each) for each in snapshots], note, QUEUES_FIRST_TO_GO)]
    shown += [Grid(WORKERS, workers, first_to_go=WORKERS_FIRST_TO_GO)] if workers else []
    return [*shown, Grid(SCHEDULES, schedules, first_to_go=SCHEDULES_FIRST_TO_GO)] if schedules else shown


def troubles(worker: WorkerInfo) -> list[str]:
    """What is wrong with a worker, in words."""
    lags = f"its event loop had not run for {span(worker.lag)}"
    silent = f"silent for {span(worker.silent)}"
    found = {"a thread is stuck": not worker.healthy, lags: worker.lag >= LAGS, silent: worker.silent >= SILENT}
    return [words for words, there in found.items() if there]


def _once(queues: Mapping[str, QueueBase], *, as_json: bool, compact: bool) -> None:
    snapshots = look(queues)
    if as_json:
        show_json({"queues": [each.as_dict() for each in snapshots]}, compact=compact)
    else:
        show(*grids(snapshots))


def _watch(queues: Mapping[str, QueueBase], every: float, *, as_json: bool) -> None:
    signal.signal(signal.SIGTERM, _leave)
    try:
        if on_terminal() and not as_json:
            _live(queues, every)
        else:
            _again(queues, every, as_json=as_json)
    except KeyboardInterrupt:
        pass


def _leave(number: int, _frame: FrameType | None) -> None:
    """An exception gives the terminal back as it was; the signal by itself would not."""
    raise SystemExit(128 + number)


def _again(queues: Mapping[str, QueueBase], every: float, *, as_json: bool) -> None:
    """One block after the other; while Redis is away, that it is, on stderr."""
    while True:
        try:
            _once(queues, as_json=as_json, compact=True)
            if not as_json:
                typer.echo()
        except Unavailable as error:
            typer.echo(f"sync-kit: {clean(error)}", err=True)
        time.sleep(every)


def _live(queues: Mapping[str, QueueBase], every: float) -> None:
    """On a screen of its own; the last picture stays on the ordinary one."""
    terminal, last = console(), _picture(queues, every)
    try:
        with Live(last, console=terminal, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                last = _picture(queues, every)
                live.update(last, refresh=True)
    finally:
        terminal.print(last)


def _picture(queues: Mapping[str, QueueBase], every: float) -> Any:
    """The tables; while Redis is away, that it is."""
    clock = Text(f"{time.strftime('%H:%M:%S')}, every {every:g} s, Ctrl-C to leave", "dim")
    try:
        return below(*grids(look(queues)), clock)
    except Unavailable as error:
        return below(Text(str(error), "red"), clock)


def _queue(seen: Snapshot) -> tuple[Cell, ...]:
    names = ("waiting", "delayed", "active", "completed", "failed", "cancelled", "parked")
    counts = {name: getattr(seen.tally, name) for name in names}
    cells = [Cell(str(count), LOUD.get(name, "") if count else "dim") for name, count in counts.items()]
    oldest = Cell("-", "dim") if seen.tally.oldest is None else Cell(span(seen.tally.oldest))
    paused = Cell("paused" if seen.oddities.paused else "", "yellow")
    return (Cell(clean(seen.name), "bold"), *cells, oldest, paused)


def _worker(queue: str, worker: WorkerInfo) -> tuple[Cell, ...]:
    running = Cell(f"{len(worker.running)} of {worker.concurrency}")
    lag, heard = Cell(span(worker.lag)), Cell(f"{span(worker.silent)} ago")
    return (
        *(Cell(clean(worker.host), "bold"), Cell(str(worker.pid)), Cell(clean(queue)), running, lag, heard),
        Cell(", ".join(troubles(worker)), "red"),
    )


def _schedule(queue: str, schedule: Schedule) -> tuple[Cell, ...]:
    following = Cell("paused", "yellow") if schedule.paused else Cell(moment(schedule.next_at))
    return Cell(clean(schedule.name), "bold"), Cell(clean(queue)), Cell(clean(rule_of(schedule))), following
