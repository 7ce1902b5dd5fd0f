"""Jobs as results of tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.timezone import make_naive

from sync_kit_django.backend import history
from sync_kit_django.backend.library import TaskResult, TaskResultStatus

if TYPE_CHECKING:
    from sync_kit import Job
    from sync_kit_django.backend.library import Task, TaskError

STATUSES: dict[str, Any] = {
    "waiting": TaskResultStatus.READY,
    "delayed": TaskResultStatus.READY,
    "parked": TaskResultStatus.READY,
    "active": TaskResultStatus.RUNNING,
    "completed": TaskResultStatus.SUCCESSFUL,
    "failed": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
}


@dataclass
class Call:
    """The payload of a job: what a task is called with. `run_after` is in epoch seconds."""

    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    run_after: float | None = None


def call_of(job: Job) -> Call:
    """The payload of a job, also of one whose task was not known then; empty as far as it cannot be read."""
    if isinstance(job.data, Call):
        return job.data
    said = job.data if isinstance(job.data, dict) else {}
    args, kwargs, after = said.get("args"), said.get("kwargs"), said.get("run_after")
    return Call(
        args if isinstance(args, list) else [],
        kwargs if isinstance(kwargs, dict) else {},
        after if isinstance(after, (int, float)) else None,
    )


def enqueued(task: Task[Any, Any], backend: str, job_id: str, call: Call) -> TaskResult[Any]:
    """The result of a task that is about to be sent."""
    return TaskResult(
        task=task,
        id=job_id,
        status=STATUSES["waiting"],
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=call.args,
        kwargs=call.kwargs,
        backend=backend,
        errors=[],
        worker_ids=[],
    )


def seen(task: Task[Any, Any], backend: str, job: Job) -> TaskResult[Any]:
    """The result of a job as the engine knows it."""
    past, made = history.read(job.logs), job.result if isinstance(job.result, dict) else {}
    result = _started(task, backend, job, past, job.started_at, job.worker or made.get("worker"))
    change(
        result,
        status=STATUSES[job.status],
        finished_at=here(job.completed_at),
        errors=history.errors_of(job, past),
        _return_value=made.get("return_value"),
    )
    return result


def running(task: Task[Any, Any], backend: str, job: Job, began: datetime, lines: tuple[str, ...]) -> TaskResult[Any]:
    """The result of a job that runs here; `lines` are its log so far."""
    past = {run.number: run for run in history.read(lines).values() if run.number < history.number_of(job)}
    result = _started(task, backend, job, past, began, job.worker)
    change(result, status=TaskResultStatus.RUNNING, errors=[run.as_error() for run in past.values()])
    return result


def finished(result: TaskResult[Any], *errors: TaskError, value: Any = None) -> TaskResult[Any]:
    """The same when its last run has ended."""
    status = TaskResultStatus.FAILED if errors else TaskResultStatus.SUCCESSFUL
    change(
        result, status=status, finished_at=here(history.now()), errors=[*result.errors, *errors], _return_value=value
    )
    return result


def here(moment: datetime | None) -> datetime | None:
    """A moment as the project has them: aware, or without `USE_TZ` naive in its time zone."""
    return moment if moment is None or settings.USE_TZ else make_naive(moment)


def change(result: TaskResult[Any], **values: Any) -> None:
    """Give a result other values: it is frozen for everybody else."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _started(
    task: Task[Any, Any],
    backend: str,
    job: Job,
    past: dict[int, history.Past],
    started: datetime | None,
    worker: str | None,
) -> TaskResult[Any]:
    call = call_of(job)
    result = enqueued(_as_sent(task, backend, job, call), backend, job.id, call)
    first = past[1].began if 1 in past and history.number_of(job) > 1 else started
    ids = history.workers_of(job, past, worker)
    change(result, enqueued_at=here(job.created_at), started_at=here(first), last_attempted_at=here(started))
    change(result, worker_ids=ids)
    return result


def _as_sent(task: Task[Any, Any], backend: str, job: Job, call: Call) -> Task[Any, Any]:
    after = None if call.run_after is None else here(datetime.fromtimestamp(call.run_after, timezone.utc))
    if (task.priority, task.backend, task.run_after) == (job.priority, backend, after):
        return task
    return task.using(priority=job.priority, backend=backend, run_after=after)
