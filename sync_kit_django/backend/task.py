"""What `@task` makes for this backend: a task that says more of how it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sync_kit.options import refuse_unknown
from sync_kit_django.backend.library import SLOTS, Task
from sync_kit_django.backend.options import TASK, UNSET, Unset

if TYPE_CHECKING:
    from datetime import datetime

    from typing_extensions import Never, Self

    from sync_kit import Backoff
    from sync_kit.jobs.registering import ErrorTypes
    from sync_kit.options import Seconds
    from sync_kit_django.backend.options import Key

SENT = ("retries", "timeout", "key", "on_duplicate", "result_ttl")
"""Options that travel with a job. The others are the worker's to know."""


@dataclass(frozen=True, slots=SLOTS, kw_only=True)  # type: ignore[literal-required]
class SyncKitTask(Task):  # type: ignore[type-arg]
    """A task of `TasksBackend`. What it does not say is as `OPTIONS` of the backend says.

    Where `@task` takes further arguments (Django 6.1 and the backport), these are they: `@task(retries=3, timeout=60)`.

    Attributes:
        retries: runs after a first one that raised or timed out.
        timeout: seconds that a run may take; None for no limit.
        key: at most one job of this task with this key has not ended; a text, or a function of the task's arguments.
        on_duplicate: what a second one does: `"return"` the first, `"raise"`, or `"replace"` the first.
        result_ttl: seconds that the return value is kept; None for as long as the job.
        backoff: a `Backoff`: how long to wait before each retry.
        retry_for, give_up_on: exception types that are worth a retry, and those that are not.
    """

    retries: int | Unset = UNSET
    timeout: Seconds | Unset | None = UNSET
    key: Key | Unset | None = UNSET
    on_duplicate: str | Unset = UNSET
    result_ttl: Seconds | Unset | None = UNSET
    backoff: Backoff | Unset | None = UNSET
    retry_for: ErrorTypes | Unset | None = UNSET
    give_up_on: ErrorTypes | Unset = UNSET

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        retries: int | Unset = UNSET,
        timeout: Seconds | Unset | None = UNSET,
        key: Key | Unset | None = UNSET,
        on_duplicate: str | Unset = UNSET,
        result_ttl: Seconds | Unset | None = UNSET,
        **unknown: Never,
    ) -> Self:
        """The same task with other options. `backoff` and the like are the worker's to know: say those to `@task`.

        Raises:
            InvalidTask: an option is wrong.
            ConfigurationError: there is no such option.
        """
        standard = {"priority": priority, "queue_name": queue_name, "run_after": run_after, "backend": backend}
        own = dict(zip(SENT, (retries, timeout, key, on_duplicate, result_ttl), strict=True))
        refuse_unknown("using", unknown, (*standard, *own))
        changes: dict[str, Any] = {name: value for name, value in standard.items() if value is not None}
        changes |= {name: value for name, value in own.items() if value is not UNSET}
        return replace(self, **changes)


def said_by(task: Task[Any, Any]) -> dict[str, Any]:
    """What a task says of how it runs, by the names of the options; a task of another backend says nothing."""
    return {name: getattr(task, name, UNSET) for name in TASK}
