"""How handlers become tasks: the options, as type checkers see them, and names."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, overload

from sync_kit.errors import ConfigurationError
from sync_kit.jobs.versions import refuse_versioned
from sync_kit.options import Seconds, name_sent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sync_kit.jobs.job import Job
    from sync_kit.jobs.options import Key, OnDuplicate
    from sync_kit.jobs.task import Task
    from sync_kit.queue.backoff import Backoff

T = TypeVar("T")

NO_SCHEMA = "@jobs.task needs to know what is sent: write @jobs.task(schema=Email), or schema=int for a mere id"

ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]
TASK_OPTIONS = (
    *("schema", "name", "retries", "timeout", "backoff", "retry_for", "give_up_on"),
    *("on_success", "on_retry", "on_failure", "key", "on_duplicate", "result_ttl", "version", "upgrade"),
)


class TaskOptions(TypedDict, total=False):
    """The options of `Jobs.task`, beside the schema."""

    name: str | None
    retries: int
    timeout: Seconds | None
    backoff: Backoff | None
    retry_for: ErrorTypes | None
    give_up_on: ErrorTypes | None
    on_success: Callable[[Job], Any] | None
    on_retry: Callable[[Job, BaseException], Any] | None
    on_failure: Callable[[Job, BaseException], Any] | None
    key: Key | None
    on_duplicate: OnDuplicate
    result_ttl: Seconds | None
    version: int
    upgrade: Mapping[int, Callable[[Any], Any]] | None


class Register(Protocol):
    """Makes a task of a handler; what the handler takes is what is sent."""

    @overload
    def __call__(self, handler: Callable[[T], Any], /) -> Task[[T], T]: ...
    @overload
    def __call__(self, handler: Callable[[T, Job], Any], /) -> Task[[T], T]: ...


def origin(handler: Callable[..., Any]) -> tuple[str, str]:
    """Where a handler was written."""
    return handler.__module__, handler.__qualname__


def title_of(name: str | None, handler: Callable[..., Any]) -> str:
    """The name of a task: one line. Raises `ConfigurationError`."""
    given = getattr(handler, "__name__", None) if name is None else name
    if given is None:
        raise ConfigurationError(f"{handler!r} has no name of its own: give it a name=")
    title = name_sent("the name of a task", given)
    if title.splitlines() != [title]:
        raise ConfigurationError(f"the name of a task must be one line, not {title!r}")
    refuse_versioned(title)
    return title


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True
