"""One queue of a backend: core jobs whose tasks are the tasks of Django, found by their paths."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

import sync_kit
from sync_kit import ConfigurationError
from sync_kit.jobs.results import FOR_EVER
from sync_kit_django import _registry
from sync_kit_django._handlers import clean, with_own_connections
from sync_kit_django._steps import in_loop
from sync_kit_django.backend.library import InvalidTask, Task
from sync_kit_django.backend.options import SPARE, BackendOptions, TaskOptions
from sync_kit_django.backend.results import Call
from sync_kit_django.backend.running import Runner
from sync_kit_django.backend.task import said_by
from sync_kit_django.errors import ReturnValueError

if TYPE_CHECKING:
    from sync_kit.jobs import Sender
    from sync_kit.jobs import Task as CoreTask

log = logging.getLogger("sync_kit")

PREFIX = "tasks"
MOST_SENDERS = 500
FIRST_YEAR, LAST_YEAR = 1971, 2199
"""Of times that tasks can wait for."""


def name_of(alias: str, queue_name: str) -> str:
    """What the core calls a queue of a backend: no two pairs have one name."""
    if alias == "default":
        return f"{PREFIX}.{queue_name}"
    return f"{PREFIX}-{alias.replace('%', '%25').replace('.', '%2E')}.{queue_name}"


def task_at(path: str) -> Task[Any, Any]:
    """The task at a path.

    Raises:
        ImportError: there is nothing at that path.
        InvalidTask: what is there is no task, or one that has its function from elsewhere.
    """
    if path.startswith("__main__."):
        raise InvalidTask(f"{path} is in the script that was started, which no worker is: move it into a module")
    found = import_string(path)
    if not isinstance(found, Task) or found.module_path != path:
        raise InvalidTask(f"{path} is no task: only functions that @task decorates are run, by the name that they have")
    return found


def _found_at(path: str) -> Task[Any, Any]:
    """See `task_at`. On a worker the module may ask the database while it is imported, which an event loop refuses."""
    if not in_loop() or path.rpartition(".")[0] in sys.modules:
        return task_at(path)
    with ThreadPoolExecutor(1) as own:
        return own.submit(with_own_connections, task_at, path).result()


class TaskQueue(sync_kit.Jobs):
    """The jobs of one queue of a backend. A task is a core task of the same name as its path.

    Attributes:
        alias, queue_name: the backend, and its name for this queue.
        sender: the class of the backend, which sends the signals.
        options: of the backend.
    """

    def __init__(self, sender: type, alias: str, queue_name: str, options: BackendOptions) -> None:
        super().__init__(name_of(alias, queue_name), keep=options.keep, max_payload=options.max_payload)
        self.sender = sender
        self.alias = alias
        self.queue_name = queue_name
        self.options = options
        self._unknown: set[str] = set()
        self._learning = threading.Lock()
        self._senders = lru_cache(maxsize=MOST_SENDERS)(self._make_sender)

    @property
    def kinds(self) -> Collection[str]:
        """See `Jobs.kinds`: also tasks in modules that nobody has imported yet."""
        return Kinds(self)

    def find(self, kind: str) -> tuple[CoreTask[Any, Any] | None, int]:
        """See `Jobs.find`. Raises `InvalidTask` for the path of something else: that job fails."""
        self.knows(kind)
        return super().find(kind)

    def knows(self, path: str) -> bool:
        """Whether there is a task at a path, which is imported if need be. Raises `InvalidTask`."""
        if path in self.tasks or path in self._unknown:
            return path in self.tasks
        try:
            self._learn(_found_at(path))
        except InvalidTask:
            raise
        except Exception as error:  # a module may raise anything while it is imported
            log.error("task %r of queue %r cannot be imported by this process: %r", path, self.name, error)
            self._unknown.add(path)
            return False
        return True

    def meet(self, task: Task[Any, Any]) -> None:
        """Get to know a task that is sent. Raises `InvalidTask` for one that a worker could not find."""
        path = task.module_path
        try:
            found = task_at(path)
        except ImportError as error:
            raise InvalidTask(f"{path} cannot be imported, so no worker could find it: {error}") from error
        if found.func is not task.func:
            raise InvalidTask(f"{path} is another task: no worker could find this one")
        if path not in self.tasks:
            self._learn(found)

    def try_again(self) -> None:
        """Look again for what could not be imported."""
        self._unknown.clear()

    def learn_declared(self) -> None:
        """Get to know the tasks that were decorated for this queue; what no worker could find is left out."""
        for path in sorted(_declared.get((self.alias, self.queue_name), ())):
            with suppress(InvalidTask):
                self.knows(path)

    def sender_of(self, task: Task[Any, Any]) -> Sender[Any, Any]:
        """What sends jobs of a task that is as `using` has made it. Raises `ConfigurationError`."""
        options = self.options.of(task.module_path, said_by(task))
        return self._senders(task.module_path, options, int(task.priority), due_at(task))

    def _make_sender(self, path: str, options: TaskOptions, priority: int, at: float | None) -> Sender[Any, Any]:
        kept = min(self.keep.completed + SPARE, FOR_EVER) if options.result_ttl is None else options.result_ttl
        terms: dict[str, Any] = {"retries": options.retries, "timeout": options.timeout, "result_ttl": kept}
        if options.key is not None:
            terms |= {"key": _key(options.key), "on_duplicate": options.on_duplicate}
        return self.tasks[path].using(at=at, priority=priority, **terms)

    def _learn(self, task: Task[Any, Any]) -> None:
        """Make the core task of a task."""
        path, runner = task.module_path, Runner(self, task)
        options = self.options.of(path, said_by(task))
        handler: Any = runner.awaited if iscoroutinefunction(task.func) else runner.plain
        with self._learning:
            self.task(
                schema=Call,
                name=path,
                backoff=options.backoff,
                retry_for=options.retry_for,
                give_up_on=(*options.give_up_on, ReturnValueError),
                on_success=clean(runner.succeeded),
                on_failure=clean(runner.failed),
            )(clean(handler))


class Kinds(Collection[str]):
    """The paths of the tasks that a queue can run: those that it knows, and any that it can import."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    def __contains__(self, path: object) -> bool:
        try:
            return self._queue.knows(str(path))
        except InvalidTask:
            return True  # its jobs are to be taken, and fail

    def __iter__(self) -> Iterator[str]:
        self._queue.learn_declared()
        return iter([*self._queue.tasks])

    def __len__(self) -> int:
        self._queue.learn_declared()
        return len(self._queue.tasks)


def due_at(task: Task[Any, Any]) -> float | None:
    """When a task is to run, in epoch seconds; None for now. Raises `ConfigurationError` for the far future."""
    after = task.run_after
    if after is None or after.year < FIRST_YEAR:
        return None
    if after.year > LAST_YEAR:
        raise ConfigurationError(f"run_after={after!r} is later than the year {LAST_YEAR}: leave such a task out")
    return after.timestamp()


def _key(key: Any) -> Any:
    return (lambda call: key(*call.args, **call.kwargs)) if callable(key) else key


_declared: dict[tuple[str, str], set[str]] = {}
_queues: dict[tuple[type, str, str], list[TaskQueue]] = {}
_making = threading.Lock()


def declare(alias: str, task: Task[Any, Any]) -> None:
    """A task was made for a queue; whether it can be found by its path is not known yet."""
    _declared.setdefault((alias, task.queue_name), set()).add(task.module_path)


def queue_of(sender: type, alias: str, queue_name: str, options: BackendOptions) -> TaskQueue:
    """The queue of a backend; one for the process, although each thread has backends of its own."""
    with _making:
        made = _queues.setdefault((sender, alias, queue_name), [])
        found = next((queue for queue in made if queue.options == options), None)
        if found is None:
            found = TaskQueue(sender, alias, queue_name, options)
            made.append(found)
            _registry.remember(found)
        return found


def remember_queues(queues: Iterable[TaskQueue]) -> None:
    """These are of the project, as its settings are now."""
    known = _registry.all_queues()
    for queue in queues:
        if queue not in known:
            _registry.remember(queue)


def forget_queues() -> None:
    """The setting `TASKS` changes: no queue is of the project, and what could not be imported may be by now."""
    with _making:
        for queue in [queue for made in _queues.values() for queue in made]:
            _registry.forget(queue)
            queue.try_again()
