"""Copies of queues for tests: their plain functions are called elsewhere, and who fails is written down."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

from sync_kit.jobs import Jobs
from sync_kit.jobs.policy import Policy
from sync_kit.queue.processing import Processing
from sync_kit.queue.run import is_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sync_kit.jobs import Job, Task
    from sync_kit.jobs.policy import Moment
    from sync_kit.queue.source import Source

    Call = Callable[..., Awaitable[Any]]
    """Calls a plain function with arguments, wherever that is to be."""

HOOKS: tuple[Moment, ...] = ("on_success", "on_retry", "on_failure")


@dataclass(frozen=True)
class Witness(Policy):
    """The policy of a task that also remembers the errors for which jobs failed, by their ids."""

    failures: dict[str, BaseException] = field(default_factory=dict)

    async def tell(self, moment: Moment, make: Callable[[], Job], *error: BaseException) -> None:
        """See `Policy.tell`."""
        if moment == "on_failure":
            self.failures[make().id] = error[0]
        await super().tell(moment, make, *error)


def stand_in(source: Source, call: Call, failures: dict[str, BaseException]) -> Source:
    """The same queue, for a worker of a test."""
    shadow: Any = copy.copy(source)
    if isinstance(source, Jobs):
        shadow.companion = lambda _: None  # a test that works a queue off does not want it filled by schedules
        shadow.tasks = {name: _task(task, call, failures) for name, task in source.tasks.items()}
    elif isinstance(source, Processing) and not source.is_async:
        shadow.handler, shadow.is_async = _awaitable(source.handler, call), True
    return shadow  # type: ignore[no-any-return]


def _task(task: Task[Any, Any], call: Call, failures: dict[str, BaseException]) -> Task[Any, Any]:
    shadow = copy.copy(task)
    shadow.handler, shadow.is_async = _awaitable(task.handler, call), True
    kept: dict[str, Any] = {each.name: getattr(task.policy, each.name) for each in fields(task.policy)}
    hooks: dict[str, Any] = {name: _awaitable(kept[name], call) for name in HOOKS if kept[name] is not None}
    shadow.policy = Witness(**(kept | hooks), failures=failures)
    return shadow


def _awaitable(function: Callable[..., Any], call: Call) -> Callable[..., Any]:
    """A function as one that is to be awaited. What a plain one makes of an `async def` is awaited here."""
    if is_async(function):
        return function

    @wraps(function)
    async def called(*arguments: Any) -> Any:
        made = await call(function, *arguments)
        return await made if inspect.isawaitable(made) else made

    return called
