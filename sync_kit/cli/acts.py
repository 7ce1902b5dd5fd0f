"""`sync-kit jobs retry`, `cancel`, `delete`: acting on jobs, on few or on many."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from sync_kit.cli.jobs import OfTag, OfTask
from sync_kit.cli.targets import One, load_jobs
from sync_kit.options import choice
from sync_kit.queue.engine import BATCH, batches
from sync_kit.queue.logs import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sync_kit._io.flow import Flow
    from sync_kit.jobs import Jobs

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of jobs.", show_default=False)]

ENDED = ("failed", "cancelled", "completed")
FEW = 50
"""So many ids are done before anybody would look at a progress bar."""


def retry(
    target: One,
    ids: Ids = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="All that have failed until now.")] = False,
    task: OfTask = None,
    tag: OfTag = None,
) -> None:
    """Let jobs that failed or were cancelled run again, with all of their retries before them."""
    jobs = load_jobs(target)
    _refuse_filters(task, tag, needed="--all-failed", given=all_failed)
    if _one_of(ids, all_failed, "--all-failed"):
        found = _every(jobs, "failed", task, tag)
        _in_batches("retrying", found, lambda some: jobs.desk.retry_flow(some), jobs, "run again")
    else:
        _one_by_one("retrying", ids or [], jobs.blocking.retry, "runs again", "neither failed nor cancelled")


def cancel(target: One, ids: Ids = None) -> None:
    """End jobs that have not ended: those that wait at once, those that run within a second."""
    jobs = load_jobs(target)
    _one_of(ids, False, "")
    _one_by_one("cancelling", ids or [], jobs.blocking.cancel, "is cancelled", "unknown, or has ended")


def delete(
    target: One,
    ids: Ids = None,
    status: Annotated[str | None, typer.Option("--status", help=f"All that are {', '.join(ENDED)}.")] = None,
    task: OfTask = None,
    tag: OfTag = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget jobs that have ended."""
    jobs = load_jobs(target)
    _refuse_filters(task, tag, needed="--status", given=status is not None)
    if not _one_of(ids, status is not None, "--status"):
        _one_by_one("deleting", ids or [], jobs.blocking.delete, "is deleted", "not among those that have ended")
        return
    found = _every(jobs, choice("--status", status, ENDED), task, tag)
    if found and not yes:
        _ask(f"delete {len(found)} {status} jobs of {jobs.name!r}?")
    _in_batches("deleting", found, lambda some: jobs.desk.delete_flow(some), jobs, "deleted")


def _one_of(ids: list[str] | None, wide: bool, option: str) -> bool:
    """Whether it is about many, rather than about ids. Refuses both, and neither."""
    if bool(ids) == wide:
        other = f" or {option}" if option else ""
        raise typer.BadParameter(f"give ids of jobs{other}{', not both' if wide else ''}")
    return wide


def _refuse_filters(task: str | None, tag: str | None, *, needed: str, given: bool) -> None:
    if (task or tag) and not given:
        raise typer.BadParameter(f"--task and --tag go with {needed}")


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} Say --yes")
    typer.confirm(question, abort=True)


def _every(jobs: Jobs, status: Any, task: str | None, tag: str | None) -> list[str]:
    """The ids of all jobs of a status, as they are now."""
    found: list[str] = []
    cursor = None
    while True:
        page = jobs.blocking.list(status=status, task=task, tag=tag, limit=1000, cursor=cursor)
        found += [job.id for job in page]
        cursor = page.cursor
        if cursor is None:
            return found


def _one_by_one(doing: str, ids: Sequence[str], act: Callable[[str], bool], done: str, missing: str) -> None:
    """Act on each id and say what came of it; exit code 1 if one was not there."""
    ids, acted = [*dict.fromkeys(ids)], dict[str, bool]()
    try:
        for job in _progress(doing, ids, len(ids) > FEW):
            acted[job] = act(job)
    finally:  # also when it was interrupted
        for job in filter(acted.get, acted):
            typer.echo(f"{clean(job)} {done}")
    failures = [job for job, there in acted.items() if not there]
    for job in failures:
        typer.echo(f"sync-kit: {clean(job)}: {missing}", err=True)
    if failures:
        raise typer.Exit(1)


def _in_batches(
    doing: str, ids: Sequence[str], flow: Callable[[Sequence[str]], Flow[int]], jobs: Jobs, done: str
) -> None:
    """A hundred at a time: when it is interrupted, the others stay as they are."""
    count = 0
    for some in _progress(doing, list(batches(ids)), len(ids) > BATCH):
        count += jobs.run_blocking(flow(some), "retry(...)")
    typer.echo(f"{count} {'job' if count == 1 else 'jobs'} {done}")


def _progress(doing: str, steps: Sequence[Any], long: bool) -> Iterator[Any]:
    """The steps, with a bar on the terminal while they are done, if that takes long."""
    if not (long and sys.stderr.isatty()):
        yield from steps
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(steps, description=doing)
