"""What is known of a job."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 (pydantic asks for the types of a job)
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from sync_kit.jobs.header import Header, split
from sync_kit.jobs.reporting import Progress, Reporter, Reporting, read_progress
from sync_kit.jobs.results import seen_result
from sync_kit.jobs.versions import read_kind
from sync_kit.queue.ids import made_at
from sync_kit.queue.schema import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sync_kit.jobs.task import Task
    from sync_kit.queue import Claim, Entry

Status = Literal["waiting", "delayed", "active", "completed", "failed", "cancelled", "parked"]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many jobs are in each status, and how long the one that waits longest has waited.

    Attributes:
        oldest: seconds since when it waits, by the server's clock; None when none does. One that runs again after
            its worker died counts from its last start.
    """

    waiting: int
    delayed: int
    active: int
    completed: int
    failed: int
    cancelled: int = 0
    parked: int = 0
    oldest: float | None = None


class JobList(list["Job"]):
    """A page of jobs.

    Attributes:
        cursor: where the next page begins, for `list(cursor=)`; None when this is the last one.
    """

    def __init__(self, jobs: Iterable[Job] = (), cursor: str | None = None) -> None:
        super().__init__(jobs)
        self.cursor = cursor


@dataclass(frozen=True, slots=True)
class Job(Reporting):
    """One job, as it was when it was asked about. Times are UTC, by the server's clock.

    Attributes:
        id: a UUID version 7.
        task: the name of its task.
        data: the payload; as plain JSON values when the task is not known here, or its schema refuses it by now.
        status: waiting, delayed, active, completed, failed, cancelled, or parked: its task is not known to any worker.
        attempts: runs so far; lost workers and shutdowns do not count.
        max_retries: retries after the first run.
        timeout: seconds that a run may take, or None.
        crashes: how many workers died while they ran it.
        created_at: when it was sent, by the sender's clock.
        scheduled_at: when it is due, while it is delayed; of a job from a schedule, its slot.
        started_at: when its last run began.
        completed_at: when it was completed, failed for good or was cancelled.
        error: type and message of the last error, or None; or why its record cannot be read (then it has no data).
        priority: those of higher priority run first.
        tag: a word of the sender's, to find it by.
        key: its unique key, if it has one.
        headers: what its sender's context said, see `Jobs.carry`.
        schedule: the name of the schedule that it is from, or None.
        interval: seconds between two of its kind, if that schedule has an interval.
        traceback: where the last error was raised, as text.
        result: what its handler made, as plain JSON values, while that is kept.
        reported: the last progress that its handler told.
        logs: the last lines of its log.
        worker: the id of the worker that runs it; None while it does not run.
    """

    id: str
    task: str
    data: Any
    status: Status
    attempts: int
    max_retries: int
    timeout: float | None
    crashes: int
    created_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    error: str | None
    priority: int
    tag: str | None
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    schedule: str | None = None
    interval: float | None = None
    traceback: str | None = None
    result: Any = None
    reported: Progress | None = None
    logs: tuple[str, ...] = ()
    worker: str | None = None


def running(
    claim: Claim,
    task: str,
    header: Header,
    data: Any,
    reporter: Reporter | None,
    result: Any = None,
    worker: str | None = None,
) -> Job:
    """The job that a handler is given."""
    job = Job(
        id=claim.id,
        task=task,
        data=data,
        status="active",
        attempts=claim.attempts,
        max_retries=header.retries,
        timeout=header.timeout,
        crashes=claim.crashes,
        created_at=made_at(claim.id),
        scheduled_at=read_time(header.slot),
        started_at=None,
        completed_at=None,
        error=None,
        priority=header.priority,
        tag=header.tag,
        key=header.key,
        headers=dict(header.headers),
        schedule=header.schedule,
        interval=header.interval,
        result=result,
        worker=worker,
    )
    object.__setattr__(job, "_reporter", reporter)
    return job


def seen(entry: Entry, tasks: Mapping[str, Task[Any, Any]]) -> Job:
    """The job behind an entry of the engine. One whose record cannot be read says so as its error."""
    name, version = read_kind(entry.kind)
    try:
        header, payload = split(entry.body)
        data = read_payload(tasks.get(name), version, header, payload)
        return _job(entry, name, header, data, read_progress(entry.progress), entry.error or None)
    except Exception as error:  # whatever is in Redis: a page of jobs must not go for one of them
        return _job(entry, name, Header(), None, None, f"unreadable record: {error!r}")


def _job(entry: Entry, task: str, header: Header, data: Any, progress: Progress | None, error: str | None) -> Job:
    return Job(
        id=entry.id,
        task=task,
        data=data,
        status=entry.status,
        attempts=entry.attempts,
        max_retries=header.retries,
        timeout=header.timeout,
        crashes=entry.crashes,
        created_at=made_at(entry.id),
        scheduled_at=read_time(header.slot or (entry.due_ms if entry.status == "delayed" else 0)),
        started_at=read_time(entry.started_ms),
        completed_at=read_time(entry.finished_ms),
        error=error,
        priority=header.priority,
        tag=header.tag,
        key=header.key,
        headers=dict(header.headers),
        schedule=header.schedule,
        interval=header.interval,
        traceback=entry.traceback or None,
        result=seen_result(entry.result),
        reported=progress,
        logs=tuple(entry.log.splitlines()),
        worker=entry.worker,
    )


def read_payload(task: Task[Any, Any] | None, version: int, header: Header, payload: bytes) -> Any:
    """The payload as its task reads it; as plain values when it does not fit any more, so that it can be looked at."""
    if task is not None and version <= task.versions.newest:
        try:
            return task.load(payload, version)
        except Exception:  # a validator of the user's may raise anything
            return plain(payload, secret=header.secret or task.schema.has_secrets)
    return plain(payload, secret=header.secret)


def read_time(ms: int) -> datetime | None:
    """A moment of the server's clock, None for 0."""
    return datetime.fromtimestamp(ms / 1000, timezone.utc) if ms else None
