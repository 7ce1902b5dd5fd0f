"""What is known of a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sync_kit.jobs.header import split
from sync_kit.jobs.job import read_payload, read_time
from sync_kit.jobs.schedules.rules import Calendar
from sync_kit.jobs.versions import read_kind
from sync_kit.queue.wording import span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sync_kit.jobs.schedules.plan import Missed
    from sync_kit.jobs.schedules.timetable import Stored
    from sync_kit.jobs.task import Task


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule, as it was when it was asked about. Times are UTC, by the server's clock.

    Attributes:
        name: the only one of its queue.
        task: the name of the task whose jobs it sends.
        data: their payload; as plain JSON values when the task is not known here, or its schema refuses it by now.
        interval: seconds between two slots; None for a cron expression.
        cron: the expression; None for an interval.
        tz: the time zone of the expression.
        missed: what becomes of missed slots: the `newest` one fires, `all` do, or they are passed over (`skip`).
        overlap: whether a job is sent although the one before has not ended.
        next_at: the next slot; in the past while it waits for the last run, or for a worker; None while it is paused.
        last_at: the last slot that fired.
        last_job: the id of the job that was sent then.
        runs: how many jobs were sent.
        paused: nothing is sent until it is resumed.
        declared: a decorator made it, rather than a `send`.
    """

    name: str
    task: str
    data: Any
    interval: float | None
    cron: str | None
    tz: str | None
    missed: Missed
    overlap: bool
    next_at: datetime | None
    last_at: datetime | None
    last_job: str | None
    runs: int
    paused: bool
    declared: bool


def seen(stored: Stored, tasks: Mapping[str, Task[Any, Any]]) -> Schedule | None:
    """The schedule behind what is stored; None if it cannot be read here."""
    plan, turn = stored.plan, stored.turn
    if plan is None:
        return None
    task, version = read_kind(plan.kind)
    return Schedule(
        name=plan.name,
        task=task,
        data=read_payload(tasks.get(task), version, split(plan.header)[0], stored.payload),
        interval=plan.interval,
        cron=plan.rule.cron if isinstance(plan.rule, Calendar) else None,
        tz=plan.rule.tz if isinstance(plan.rule, Calendar) else None,
        missed=cast("Missed", plan.missed),
        overlap=plan.overlap,
        next_at=read_time(stored.next_ms),
        last_at=read_time(turn.last),
        last_job=None if turn.job == "-" else turn.job,
        runs=turn.runs,
        paused=turn.paused,
        declared=plan.declared,
    )


def rule_of(schedule: Schedule) -> str:
    """How a schedule is written: `every 5 min`, `cron 0 3 * * * Europe/Berlin`."""
    if schedule.cron:
        return f"cron {schedule.cron} {schedule.tz or ''}".rstrip()
    return f"every {span(schedule.interval or 0)}"
