"""`sync-kit schedules`: what runs again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_kit.cli.jobs import as_dict
from sync_kit.cli.screen import Cell, Grid, Json, away, moment, show, show_json
from sync_kit.cli.snapshot import look_at_schedules
from sync_kit.cli.targets import One, load_jobs
from sync_kit.jobs.schedules.schedule import rule_of
from sync_kit.queue.logs import clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from sync_kit.jobs.schedules.schedule import Schedule


Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Names, as `list` shows them.", show_default=False)]

HEADINGS = ("Name", "Task", "Rule", ">Runs", "Last", "Next")
FIRST_TO_GO = ("Runs", "Last", "Task", "Rule")


def list_schedules(target: One, as_json: Json = False) -> None:
    """List the schedules: the rule of each, when it ran last, and when it runs next."""
    found, unreadable = look_at_schedules(load_jobs(target))
    if as_json:
        show_json({"schedules": [as_dict(each) for each in found], "unreadable": unreadable})
        return
    note = f"cannot be read here: {', '.join(map(clean, unreadable))}" if unreadable else ""
    show(Grid(HEADINGS, [_row(each) for each in found], note or ("" if found else "there are none"), FIRST_TO_GO))


def pause(target: One, names: Names) -> None:
    """Let schedules make no jobs until they are resumed."""
    _each(names, load_jobs(target).schedules.blocking.pause, "is paused", ", or it is paused already")


def resume(target: One, names: Names) -> None:
    """Let paused schedules go on."""
    _each(names, load_jobs(target).schedules.blocking.resume, "goes on", ", or it is not paused")


def delete(target: One, names: Names) -> None:
    """Forget schedules. Those that decorators declare come back: pause them instead."""
    _each(names, load_jobs(target).schedules.blocking.delete, "is deleted")


def run(target: One, names: Names) -> None:
    """Make a job of each schedule now; the timetable stays as it is."""
    _each(names, load_jobs(target).schedules.blocking.run, "runs now")


def _each(names: list[str], act: Callable[[str], Any], done: str, otherwise: str = "") -> None:
    """Act on each and say what came of it; exit code 1 if one was not there."""
    missing = []
    for name in names:
        answer = act(name)
        if answer:
            job = getattr(answer, "id", None)
            typer.echo(f"{clean(name)} {done}{f', as job {job}' if job else ''}")
        else:
            missing.append(name)
    for name in missing:
        typer.echo(f"sync-kit: {clean(name)}: there is no such schedule{otherwise}", err=True)
    if missing:
        raise typer.Exit(1)


def _row(schedule: Schedule) -> tuple[Cell, ...]:
    following = Cell("paused", "yellow") if schedule.paused else Cell(moment(schedule.next_at))
    return (
        *(Cell(clean(schedule.name), "bold"), Cell(clean(schedule.task)), Cell(clean(rule_of(schedule)))),
        *(Cell(str(schedule.runs)), Cell(away(schedule.last_at), "dim"), following),
    )
