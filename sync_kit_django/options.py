"""Options and decorators, as type checkers see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, tzinfo

    from typing_extensions import ParamSpec

    from sync_kit import Job
    from sync_kit.jobs.options import Key, OnDuplicate
    from sync_kit.jobs.schedules.plan import Missed
    from sync_kit.options import Seconds
    from sync_kit_django.sending import Task

    P = ParamSpec("P")

T = TypeVar("T")


class UsingOptions(TypedDict, total=False):
    """The options of `sync_kit.Task.using`."""

    delay: Seconds | None
    at: datetime | float | None
    retries: int | None
    timeout: Seconds | None
    priority: int | None
    tag: str | None
    key: Key | None
    on_duplicate: OnDuplicate | None
    result_ttl: Seconds | None
    headers: Mapping[str, str] | None
    interval: Seconds | None
    cron: str | None
    tz: str | tzinfo | None
    name: str | None
    start_immediately: bool | None
    missed: Missed | None
    overlap: bool | None


class Register(Protocol):
    """Makes a task of a handler; what the handler takes is what is sent."""

    @overload
    def __call__(self, handler: Callable[[T], Any], /) -> Task[[T], T]: ...
    @overload
    def __call__(self, handler: Callable[[T, Job], Any], /) -> Task[[T], T]: ...


class Scheduled(Protocol):
    """Makes a task of a handler without payload, or schedules a task that is there."""

    @overload
    def __call__(self, handler: Task[P, T], /) -> Task[P, T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, handler: Callable[[], Any], /) -> Task[[], None]: ...
    @overload
    def __call__(self, handler: Callable[[Job], Any], /) -> Task[[], None]: ...
