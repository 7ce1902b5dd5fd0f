"""What is known of a job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from sync_kit.queue.ids import made_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sync_kit.jobs.task import Task
    from sync_kit.queue import Claim, Entry

Status = Literal["waiting", "delayed", "active", "completed", "failed", "cancelled", "parked"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a `send`: the job is accepted and will run.

    Attributes:
        id: the job's id, a UUID version 7.
        task: the name of its task.
    """

    id: str
    task: str


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
class Job:
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
        scheduled_at: when it is due, while it is delayed.
        started_at: when its last run began.
        completed_at: when it was completed, failed for good or was cancelled.
        error: type and message of the last error, or None.
        priority: those of higher priority run first.
        tag: a word of the sender's, to find it by.
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


@dataclass(frozen=True, slots=True)
class Header:
    """The part of a job's record that is ours: a line of JSON before the payload."""

    retries: int
    timeout: float | None
    priority: int = 0
    tag: str | None = None

    def encode(self) -> bytes:
        """The line, line break included."""
        named: dict[str, Any] = {"retries": self.retries, "timeout": self.timeout}
        if self.priority:
            named["priority"] = self.priority
        if self.tag is not None:
            named["tag"] = self.tag
        return json.dumps(named, separators=(",", ":")).encode() + b"\n"


@lru_cache(maxsize=1024)
def _header(line: bytes) -> Header:
    named = json.loads(line)
    return Header(**{name: named[name] for name in Header.__slots__ if name in named})  # a newer sender may say more


def split(body: bytes) -> tuple[Header, bytes]:
    """The header and the payload of a record."""
    line, _, payload = body.partition(b"\n")
    return _header(line), payload


def running(claim: Claim, header: Header, data: Any) -> Job:
    """The job that a handler is given."""
    return Job(
        id=claim.id,
        task=claim.kind,
        data=data,
        status="active",
        attempts=claim.attempts,
        max_retries=header.retries,
        timeout=header.timeout,
        crashes=claim.crashes,
        created_at=made_at(claim.id),
        scheduled_at=None,
        started_at=None,
        completed_at=None,
        error=None,
        priority=header.priority,
        tag=header.tag,
    )


def seen(entry: Entry, tasks: Mapping[str, Task[Any, Any]]) -> Job:
    """The job behind an entry of the engine."""
    header, payload = split(entry.body)
    task = tasks.get(entry.kind)
    return Job(
        id=entry.id,
        task=entry.kind,
        data=_payload(task, payload),
        status=entry.status,
        attempts=entry.attempts,
        max_retries=header.retries,
        timeout=header.timeout,
        crashes=entry.crashes,
        created_at=made_at(entry.id),
        scheduled_at=_time(entry.due_ms) if entry.status == "delayed" else None,
        started_at=_time(entry.started_ms),
        completed_at=_time(entry.finished_ms),
        error=entry.error or None,
        priority=header.priority,
        tag=header.tag,
    )


def _payload(task: Task[Any, Any] | None, payload: bytes) -> Any:
    """The payload as its task reads it; as plain values when it does not fit any more, so that it can be looked at."""
    if task is not None:
        try:
            return task.schema.load(payload)
        except Exception:  # a validator of the user's may raise anything
            return json.loads(payload)
    return json.loads(payload)


def _time(ms: int) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, timezone.utc) if ms else None
