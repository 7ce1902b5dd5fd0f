"""`sync-kit jobs list` and `show`: looking at jobs. What acts on them is in `acts`."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_kit.cli.screen import Cell, Grid, Json, away, moment, show, show_facts, show_json
from sync_kit.cli.targets import One, load_jobs
from sync_kit.jobs.jobs import STATUSES
from sync_kit.jobs.masked import masked
from sync_kit.jobs.reporting import Progress
from sync_kit.options import choice, whole
from sync_kit.queue.logs import clean

if TYPE_CHECKING:
    from sync_kit.jobs import Job, Jobs
    from sync_kit.jobs.schedules.schedule import Schedule

JobId = Annotated[str, typer.Argument(metavar="ID", help="The id of a job, as `list` shows it.", show_default=False)]
OfStatus = Annotated[str | None, typer.Option("--status", help=f"One of {', '.join(STATUSES)}.")]
OfTask = Annotated[str | None, typer.Option("--task", help="Only jobs of this task.")]
OfTag = Annotated[str | None, typer.Option("--tag", help="Only jobs with this tag.")]

HEADINGS = ("Id", "Task", "Status", ">Attempts", "When", "Tag", "Error")
FIRST_TO_GO = ("Tag", "Attempts", "When", "Error", "Status")
ORDER = ("active", "waiting", "delayed", "parked", "failed", "cancelled", "completed")
STYLES = {"failed": "red", "parked": "yellow", "active": "green", "completed": "dim", "cancelled": "dim"}
EMPTY: tuple[Any, ...] = (None, {}, [])
THEIRS = ("data", "result", "headers")
"""What the app has put into a job: of any type, so it tells nothing of how to show it."""
SHORT = 60
MOST = 1000


def list_jobs(
    target: One,
    status: OfStatus = None,
    task: OfTask = None,
    tag: OfTag = None,
    limit: Annotated[int, typer.Option(help="Jobs at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended; needs --status.")] = None,
    as_json: Json = False,
) -> None:
    """List jobs, those of every status if none is given."""
    jobs = load_jobs(target)
    statuses = ORDER if status is None else (choice("--status", status, STATUSES),)
    if cursor is not None and status is None:
        raise typer.BadParameter("a cursor belongs to a list of one status: give --status, too")
    most = whole("--limit", limit, least=1, most=MOST)
    found, more, following = _page(jobs, statuses, most, task, tag, cursor)
    if as_json:
        show_json({"jobs": [as_dict(job) for job in found], "cursor": following, "more": more})
        return
    how = f"--status {status} --cursor {following}" if following else "narrow with --status"
    note = f"there are more: {how}" if more else "" if found else "there are none"
    show(Grid(HEADINGS, [_row(job) for job in found], note, FIRST_TO_GO, cuts=True))


def show_job(target: One, job_id: JobId, as_json: Json = False) -> None:
    """Show all that is known of a job."""
    jobs = load_jobs(target)
    job = jobs.blocking.get(job_id)
    if job is None:
        typer.echo(f"sync-kit: no job {clean(job_id)} in {jobs.name!r}: it is unknown, or no longer kept", err=True)
        raise typer.Exit(1)
    told = as_dict(job)
    if as_json:
        show_json(told)
    else:
        show_facts({name: _said(job, name, value) for name, value in told.items() if value not in EMPTY})


def as_dict(thing: Job | Schedule) -> dict[str, Any]:
    """A job or a schedule for JSON. Its secrets are masked: here, or by who could not read the payload."""
    return {each.name: masked(getattr(thing, each.name)) for each in fields(thing) if not each.name.startswith("_")}


def _page(
    jobs: Jobs, statuses: tuple[str, ...], limit: int, task: str | None, tag: str | None, cursor: str | None
) -> tuple[list[Job], bool, str | None]:
    """Jobs, whether there are more, and where those are, if it is about a single status."""
    found: list[Job] = []
    for status in statuses:
        room = limit - len(found)
        some, following = _of_status(jobs, status, max(1, room), task, tag, cursor)
        if room == 0 and some:  # one was looked at, to know whether there are more
            return found, True, None
        found += some
        if following is not None and _of_status(jobs, status, 1, task, tag, following)[0]:
            return found, True, following if len(statuses) == 1 else None
    return found, False, None


def _of_status(
    jobs: Jobs, status: Any, wanted: int, task: str | None, tag: str | None, cursor: str | None
) -> tuple[list[Job], str | None]:
    """Jobs of one status, page after page: with a filter one may be empty although there are more."""
    found: list[Job] = []
    while True:
        page = jobs.blocking.list(status=status, task=task, tag=tag, limit=wanted - len(found), cursor=cursor)
        found += page
        cursor = page.cursor
        if cursor is None or len(found) >= wanted:
            return found, cursor


def _said(job: Job, name: str, plain: Any) -> str:
    """A fact of a job for people."""
    value = None if name in THEIRS else getattr(job, name)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, Progress):
        return f"{value.fraction:.0%} {value.text}".rstrip()
    if isinstance(value, tuple):
        return "\n".join(value)
    if isinstance(plain, (dict, list)):
        return json.dumps(plain, ensure_ascii=False, indent=2 if len(str(plain)) > SHORT else None)
    return str(plain)


def _row(job: Job) -> tuple[Cell, ...]:
    when = job.scheduled_at or job.completed_at or job.started_at or job.created_at
    error = clean(job.error.splitlines()[0]) if job.error else ""
    return (
        *(Cell(job.id), Cell(clean(job.task), "bold"), Cell(job.status, STYLES.get(job.status, ""))),
        *(Cell(str(job.attempts)), Cell(away(when), "dim"), Cell(clean(job.tag or "")), Cell(error, "red")),
    )
