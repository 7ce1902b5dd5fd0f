"""What becomes of a run that raised or timed out: tried again, when, or failed; and who is told."""

from __future__ import annotations

import asyncio
import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.to_thread

from sync_kit._io.loops import current_task, is_cancelled
from sync_kit.errors import ConfigurationError
from sync_kit.queue.backoff import Backoff, Retry
from sync_kit.queue.run import is_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from sync_kit.jobs.job import Job

log = logging.getLogger("sync_kit")

Errors = tuple[type[BaseException], ...]
Moment = Literal["on_success", "on_retry", "on_failure"]
HOOK_LIMIT = 30.0
"""Seconds that a hook may take."""


@dataclass(frozen=True)
class Policy:
    """How a task answers to what its runs end with. See `Jobs.task` for the meaning of each."""

    backoff: Backoff | None = None
    retry_for: Errors = (BaseException,)
    give_up_on: Errors = ()
    on_success: Callable[..., Any] | None = None
    on_retry: Callable[..., Any] | None = None
    on_failure: Callable[..., Any] | None = None

    def pause(self, error: BaseException, attempts: int, retries: int) -> float | None:
        """Seconds until the job is tried again after `attempts` runs, or None when it has failed for good."""
        if attempts > retries:
            return None
        pause = 0.0 if self.backoff is None else self.backoff.pause(attempts)
        if isinstance(error, Retry):
            return pause if error.after is None else error.after
        wanted = isinstance(error, self.retry_for) and not isinstance(error, self.give_up_on)
        return pause if wanted else None

    async def tell(self, moment: Moment, make: Callable[[], Job], *error: BaseException) -> None:
        """Call a hook with a job and perhaps an error. Whatever it raises is logged, and changes nothing."""
        hook = getattr(self, moment)
        if hook is None:
            return
        job = make()
        try:
            with anyio.fail_after(HOOK_LIMIT):
                await _call(hook, (job, *error))
        except (Exception, SystemExit, asyncio.CancelledError) as raised:
            if isinstance(raised, asyncio.CancelledError) and is_cancelled(current_task()):
                raise
            log.exception("%s of job %s failed; its outcome stays as it is", moment, job.id)


async def _call(hook: Callable[..., Any], told: tuple[Any, ...]) -> None:
    if is_async(hook):
        await hook(*told)
        return
    made = await anyio.to_thread.run_sync(hook, *told, abandon_on_cancel=True)
    if inspect.isawaitable(made):
        await made


def read_policy(
    backoff: object, retry_for: object, give_up_on: object, hooks: dict[Moment, Callable[..., Any] | None]
) -> Policy:
    """Check the options of a task. Raises `ConfigurationError`."""
    if backoff is not None and not isinstance(backoff, Backoff):
        raise ConfigurationError(f"backoff must be a Backoff, as in backoff=Backoff(base=1), not {backoff!r}")
    for moment, hook in hooks.items():
        if hook is not None:
            _refuse_hook(moment, hook)
    errors = (BaseException,) if retry_for is None else _errors("retry_for", retry_for)
    return Policy(backoff, errors, _errors("give_up_on", give_up_on or ()), **hooks)


def _refuse_hook(moment: Moment, hook: Callable[..., Any]) -> None:
    told = 1 if moment == "on_success" else 2
    try:
        inspect.signature(hook).bind(*range(told))
    except TypeError:
        given = "the job" if told == 1 else "the job and the error"
        raise ConfigurationError(f"{moment} must be callable with {given}, which {hook!r} is not") from None


def _errors(name: str, given: Any) -> Errors:
    kinds = given if isinstance(given, (tuple, list, set, frozenset)) else (given,)
    for kind in kinds:
        if not (inspect.isclass(kind) and issubclass(kind, BaseException)):
            raise ConfigurationError(f"{name} must be exception types, as in {name}=(OSError,), not {kind!r}")
    return tuple(kinds)
