"""What becomes of a run that raised or timed out: tried again, when, or failed; and who is told."""

from __future__ import annotations

import inspect
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.to_thread

from sync_kit.errors import ConfigurationError
from sync_kit.options import Seconds, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("sync_kit")

Errors = tuple[type[BaseException], ...]
Moment = Literal["on_success", "on_retry", "on_failure"]
HOOK_LIMIT = 30.0
"""Seconds that a hook may take."""


@dataclass(frozen=True, init=False)
class Backoff:
    """How long to wait before each retry: `base`, then `factor` times as long each time, at most `max` seconds.

    Args:
        base: seconds before the first retry.
        factor: by which the pause grows with each retry.
        max: the longest pause in seconds.
        jitter: the share of each pause that is left to chance, from 0 to 1: jobs that failed together do not come
            back together. With 0.5, a pause of 10 s is one between 5 and 10 s.

    Raises:
        ConfigurationError: an argument is out of bounds.
    """

    base: float
    factor: float
    max: float
    jitter: float

    def __init__(
        self,
        base: Seconds = 1.0,
        factor: float = 2.0,
        max: Seconds = 300.0,  # noqa: A002
        jitter: float = 0.5,
    ) -> None:
        object.__setattr__(self, "base", seconds("base", base))
        object.__setattr__(self, "factor", _number("factor", factor, 1, 1000))
        object.__setattr__(self, "max", seconds("max", max, least=self.base))
        object.__setattr__(self, "jitter", _number("jitter", jitter, 0, 1))

    def pause(self, retry: int) -> float:
        """Seconds before the retry of that number, from 1."""
        try:
            grown = min(self.max, self.base * self.factor ** (retry - 1))
        except OverflowError:
            grown = self.max
        return grown * (1 - self.jitter * random.random())


class Retry(Exception):
    """Raised by a handler to be tried again, as if it had failed, whatever `retry_for` and `give_up_on` say.

    It counts as an attempt: when no retries are left, the job is failed.

    Args:
        after: seconds until then; the task's back-off if not given.
        why: what is written down as the error.
    """

    def __init__(self, after: Seconds | None = None, why: str = "the handler asked for it") -> None:
        super().__init__(why)
        self.after = None if after is None else seconds("after", after)


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

    async def tell(self, moment: Moment, *told: Any) -> None:
        """Call a hook. Whatever it raises is logged, and changes nothing."""
        hook = getattr(self, moment)
        if hook is None:
            return
        try:
            with anyio.fail_after(HOOK_LIMIT):
                await _call(hook, told)
        except Exception:
            log.exception("%s of job %s failed; its outcome stays as it is", moment, told[0].id)


async def _call(hook: Callable[..., Any], told: tuple[Any, ...]) -> None:
    if inspect.iscoroutinefunction(hook):
        await hook(*told)
    else:
        await anyio.to_thread.run_sync(hook, *told, abandon_on_cancel=True)


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


def _number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigurationError(f"{name} must be a number from {least:g} to {most:g}, not {value!r}")
    return float(value)
