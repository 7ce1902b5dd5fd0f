"""What a worker calls for a job: the function of a task, between the signals, with what it asked for."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from pydantic_core import to_json

from sync_kit import SyncKitError
from sync_kit.jobs.current import running_job
from sync_kit_django.backend import history, results
from sync_kit_django.backend.library import (
    TaskContext,
    normalize_json,
    only_logged,
    signals,
)
from sync_kit_django.errors import ReturnValueError

if TYPE_CHECKING:
    from datetime import datetime

    from django.dispatch import Signal

    from sync_kit import Job
    from sync_kit.jobs.run import JobRun
    from sync_kit_django.backend.library import Task, TaskResult
    from sync_kit_django.backend.queue import TaskQueue
    from sync_kit_django.backend.results import Call


class Runner:
    """Runs one task. Its methods are the handler, of either kind, and the hooks of a core task."""

    def __init__(self, queue: TaskQueue, task: Task[Any, Any]) -> None:
        self._queue = queue
        self._task = task.using(queue_name=queue.queue_name, backend=queue.alias)
        self._began: WeakKeyDictionary[JobRun, datetime] = WeakKeyDictionary()

    def plain(self, _: Call, job: Job) -> dict[str, Any]:
        """The handler of a plain function, on a thread."""
        began = self._begin()
        lines: tuple[str, ...] = ()
        if self._has_past(job):
            with suppress(SyncKitError):
                lines = _log_of(self._queue.blocking.get(job.id))
        result = self._running(job, began, lines)
        tell(signals.task_started, self._queue.sender, result)
        try:
            return self._made(self._task.call(*self._arguments(result), **result.kwargs), job)
        except BaseException as error:
            history.write(job, began, error)
            raise

    async def awaited(self, _: Call, job: Job) -> dict[str, Any]:
        """The handler of an `async def`, on the event loop."""
        began = self._begin()
        result = self._running(job, began, await self._log(job))
        await announce(signals.task_started, self._queue.sender, result)
        try:
            return self._made(await self._task.acall(*self._arguments(result), **result.kwargs), job)
        except BaseException as error:
            history.write(job, began, error)
            raise

    async def succeeded(self, job: Job) -> None:
        """The hook of a run that ended well."""
        result = self._running(job, self._begun(), await self._log(job))
        ended = results.finished(result, value=job.result["return_value"])
        await announce(signals.task_finished, self._queue.sender, ended)

    async def failed(self, job: Job, error: BaseException) -> None:
        """The hook of a job that has failed for good."""
        result = self._running(job, self._begun(), await self._log(job))
        ended = results.finished(result, history.error_of(error))
        await announce(signals.task_finished, self._queue.sender, ended, error)

    def _begin(self) -> datetime:
        """Note for the hooks of a run that it begins."""
        began, run = history.now(), running_job.get(None)
        if run is not None:
            self._began[run] = began
        return began

    def _begun(self) -> datetime:
        """When the run began whose hook this is; now, if it ended before its function was called."""
        run = running_job.get(None)
        return (None if run is None else self._began.get(run)) or history.now()

    def _running(self, job: Job, began: datetime, lines: tuple[str, ...]) -> TaskResult[Any]:
        return results.running(self._task, self._queue.alias, job, began, lines)

    def _arguments(self, result: TaskResult[Any]) -> list[Any]:
        return [TaskContext(task_result=result), *result.args] if self._task.takes_context else result.args

    def _made(self, value: Any, job: Job) -> dict[str, Any]:
        """What is stored. Raises `ReturnValueError` for a value that cannot be."""
        try:
            made = {"return_value": normalize_json(value), "worker": job.worker}
            size, most = len(to_json(made)), self._queue.max_payload
        except (TypeError, ValueError) as error:
            raise ReturnValueError(f"a return value that is no JSON cannot be stored: {error}") from error
        if size > most:
            raise ReturnValueError(
                f"a return value of {size} bytes is more than the {most} of max_payload: "
                "store it elsewhere, and return its key"
            )
        return made

    def _has_past(self, job: Job) -> bool:
        """Whether there were runs before this one, on workers."""
        return job.worker is not None and history.number_of(job) > 1

    async def _log(self, job: Job) -> tuple[str, ...]:
        if self._has_past(job):
            with suppress(SyncKitError):
                return _log_of(await self._queue.get(job.id))
        return ()


async def announce(signal: Signal, sender: type, result: TaskResult[Any], error: BaseException | None = None) -> None:
    """Tell who listens; on the thread of Django's plain code, unless only the library's log does."""
    if only_logged(signal, sender):
        tell(signal, sender, result, error)
    else:
        await sync_to_async(tell)(signal, sender, result, error)


def tell(signal: Signal, sender: type, result: TaskResult[Any], error: BaseException | None = None) -> None:
    """Tell who listens. What they raise is logged. They find `error` as the one that is being handled."""
    if error is None:
        signal.send_robust(sender, task_result=result)
        return
    trace = error.__traceback__
    try:
        raise error
    except BaseException:
        signal.send_robust(sender, task_result=result)
    finally:
        error.__traceback__ = trace


def _log_of(job: Job | None) -> tuple[str, ...]:
    return () if job is None else job.logs
