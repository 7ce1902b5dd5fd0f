"""The backend: what `django.tasks` calls."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.checks import CheckMessage, Error

from sync_kit import ConfigurationError
from sync_kit.jobs import outlet
from sync_kit.jobs.parcel import deliver
from sync_kit.options import shown
from sync_kit.queue.ids import made_at
from sync_kit_django.backend import results
from sync_kit_django.backend.library import (
    BaseTaskBackend,
    InvalidTask,
    TaskResultDoesNotExist,
    normalize_json,
    signals,
)
from sync_kit_django.backend.options import read_options
from sync_kit_django.backend.queue import declare, due_at, queue_of, remember_queues, task_at
from sync_kit_django.backend.results import Call
from sync_kit_django.backend.running import announce, tell
from sync_kit_django.backend.task import SyncKitTask, said_by
from sync_kit_django.commit import Rule, send

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sync_kit import Job, SyncKit
    from sync_kit._io.flow import Flow
    from sync_kit.jobs import Receipt
    from sync_kit.jobs.parcel import Parcel
    from sync_kit_django.backend.library import Task, TaskResult
    from sync_kit_django.backend.queue import TaskQueue

HINT = "see the table of OPTIONS in sync_kit_django/README.md"


class TasksBackend(BaseTaskBackend):
    """Tasks as jobs of sync_kit: `TASKS = {"default": {"BACKEND": "sync_kit_django.TasksBackend"}}`.

    `manage.py runworker` runs them. What is wrong in its settings is said by `manage.py check`, and by `enqueue`.
    """

    task_class = SyncKitTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        self._where = f'TASKS["{alias}"]'
        problem = _problem_of_queues(self._where, params.get("QUEUES", ["default"]))
        super().__init__(alias, {**params, "QUEUES": []} if problem else params)
        self._read = read_options(f'{self._where}["OPTIONS"]', params.get("OPTIONS", {}))
        self._problems = [*([problem] if problem else []), *self._read.problems]

    @property
    def task_queues(self) -> list[TaskQueue]:
        """The core's jobs behind each queue, in the order of their names. Raises `ConfigurationError`."""
        return [self._queue(name) for name in sorted(self.queues)]

    def remember(self) -> None:
        """Let workers of this process know the queues, unless the settings are wrong."""
        if not self._problems:
            remember_queues(self.task_queues)

    def validate_task(self, task: Task[Any, Any]) -> None:
        """See `BaseTaskBackend.validate_task`. Raises `InvalidTask` also for wrong options of ours."""
        super().validate_task(task)
        try:
            self._read.of(task.module_path, said_by(task))
            due_at(task)
        except ConfigurationError as error:
            raise InvalidTask(str(error)) from None
        declare(self.alias, task)

    def enqueue(self, task: Task[Any, Any], args: Any, kwargs: Any) -> TaskResult[Any]:
        """Send a job; inside of a transaction, when that is committed.

        Returns:
            The result, whose id is known at once; `enqueued_at` is None until the job is sent.

        Raises:
            InvalidTask: the task is not one that a worker could find or run.
            TypeError, ValueError: the arguments are no JSON.
            InvalidPayloadError: they are too large.
            DuplicateJobError: there is a job with its key, and `on_duplicate` is `"raise"`.
            Unavailable: Redis cannot be reached; whether the job was stored is not known.
            NotSentError: the same after a commit, raised by the end of the `atomic` block.
            ConfigurationError: an event loop runs here: `await task.aenqueue(...)`.
        """
        queue, parcel, result = self._pack(task, args, kwargs)
        verb, rule = f"{task.module_path}.aenqueue(...)", Rule(on_commit=self._read.on_commit)
        send(parcel, rule, verb, waits=rule.waits(), arrived=partial(self._arrived, queue, result))
        return result

    async def aenqueue(self, task: Task[Any, Any], args: Any, kwargs: Any) -> TaskResult[Any]:
        """Send a job, at once: Django has no transactions in async code. Returns and raises what `enqueue` does."""
        queue, parcel, result = self._pack(task, args, kwargs)
        (receipt,) = await deliver(parcel)
        if receipt.duplicate:
            self._become(result, queue, receipt, None if outlet.current else await queue.get(receipt.id))
        else:
            results.change(result, enqueued_at=results.here(made_at(receipt.id)))
            await announce(signals.task_enqueued, type(self), result)
        return result

    def get_result(self, result_id: str) -> TaskResult[Any]:
        """What is known of a job, whichever task it is of.

        Raises:
            TaskResultDoesNotExist: there is none of this id, or it is not kept any longer.
            InvalidTask: its task is not in this process's code.
            Unavailable: Redis cannot be reached.
        """
        found = self._kit.run_blocking(self._find_flow(_name_of(result_id)), "aget_result(...)")
        return self._result(result_id, found)

    async def aget_result(self, result_id: str) -> TaskResult[Any]:
        """See `get_result`."""
        found = await self._kit.driver.run(self._find_flow(_name_of(result_id)))
        return self._result(result_id, found)

    def check(self, **_: Any) -> Iterable[CheckMessage]:
        """What is wrong in the settings of this backend."""
        for problem in self._problems:
            yield Error(problem, hint=HINT, id="sync_kit.E030")
        for path in self._read.tasks:
            try:
                task_at(path)
            except (ImportError, InvalidTask) as error:
                where = f'{self._where}["OPTIONS"]["tasks"]["{path}"] is about no task: {error}'
                yield Error(where, hint="name a task by the path of its function", id="sync_kit.E031")

    def _queue(self, name: str) -> TaskQueue:
        if self._problems:
            raise ConfigurationError(self._problems[0])
        return queue_of(type(self), self.alias, name, self._read)

    def _pack(self, task: Task[Any, Any], args: Any, kwargs: Any) -> tuple[TaskQueue, Parcel, TaskResult[Any]]:
        """Check what is to be sent, and give it an id; nothing is sent."""
        self.validate_task(task)
        queue = self._queue(task.queue_name)
        queue.meet(task)
        call = Call(_as_json([*args]), _as_json(dict(kwargs)), due_at(task))
        parcel = queue.sender_of(task).pack([call])
        return queue, parcel, results.enqueued(task, self.alias, parcel.items[0].id, call)

    def _arrived(self, queue: TaskQueue, result: TaskResult[Any], receipts: Sequence[Receipt]) -> None:
        """The job of a result is stored."""
        (receipt,) = receipts
        if receipt.duplicate:
            self._become(result, queue, receipt, None if outlet.current else queue.blocking.get(receipt.id))
        else:
            results.change(result, enqueued_at=results.here(made_at(receipt.id)))
            tell(signals.task_enqueued, type(self), result)

    def _become(self, result: TaskResult[Any], queue: TaskQueue, receipt: Receipt, job: Job | None) -> None:
        """An older job has the key: the result is that job's; in a test that keeps jobs all that is known is its id."""
        results.change(result, id=receipt.id, enqueued_at=results.here(made_at(receipt.id)))
        if job is not None:
            older = self._seen(queue, job)
            results.change(result, **{name: getattr(older, name) for name in older.__dataclass_fields__})

    def _find_flow(self, result_id: str) -> Flow[tuple[TaskQueue, Job] | None]:
        for queue in self.task_queues:
            job = yield from queue.get_flow(result_id)
            if job is not None:
                return queue, job
        return None

    @property
    def _kit(self) -> SyncKit:
        return self.task_queues[0].kit

    def _result(self, result_id: str, found: tuple[TaskQueue, Job] | None) -> TaskResult[Any]:
        if found is None:
            raise TaskResultDoesNotExist(result_id)
        return self._seen(*found)

    def _seen(self, queue: TaskQueue, job: Job) -> TaskResult[Any]:
        if not queue.knows(job.task):
            raise InvalidTask(f"the result {job.id} is of {job.task}, which cannot be imported here")
        task = task_at(job.task)
        if task.queue_name != queue.queue_name or task.backend != self.alias:
            task = task.using(queue_name=queue.queue_name, backend=self.alias)
        return results.seen(task, self.alias, job)


def _name_of(result_id: object) -> str:
    """An id as a text; a `UUIDField` gives it back as a UUID. Raises `TaskResultDoesNotExist` for what is none."""
    name = str(result_id) if isinstance(result_id, UUID) else result_id
    if not isinstance(name, str) or not name.strip() or not name.isascii():
        raise TaskResultDoesNotExist(result_id)
    return name


def _as_json(value: Any) -> Any:
    """A value as it will arrive. Raises `TypeError` and `ValueError` for what is no JSON."""
    return json.loads(json.dumps(normalize_json(value), allow_nan=False))


def _problem_of_queues(where: str, names: object) -> str | None:
    """What is wrong with the names of the queues, if anything is."""
    known = names if isinstance(names, (list, tuple, set, frozenset)) else [None]
    if not all(isinstance(name, str) and name.strip() for name in known):
        return f'{where}["QUEUES"] must be a list of names, not {shown(names)}'
    if not known:
        return f'{where}["QUEUES"] is empty, which lets tasks name any queue: a worker must know them, so list them'
    return None
