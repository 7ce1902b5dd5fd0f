"""The whole error tree on one page.

Every error that sync_kit raises on purpose is a `SyncKitError`. Its message says what happened,
to which key or setting, and what to do about it. Anything else that escapes is a bug.
"""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ConfigurationError",
    "DuplicateJobError",
    "InvalidPayloadError",
    "JobError",
    "LockError",
    "LockLostError",
    "RateLimitError",
    "ServerError",
    "SyncKitError",
    "Unavailable",
    "UnknownTaskError",
]


class SyncKitError(Exception):
    """The root of every error that sync_kit raises on purpose.

    Attributes:
        decisions: of `RateLimiter.check_many`: what was decided for the other keys, in order, None for those
            that failed; empty for every other verb.
    """

    decisions: Sequence[Any] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # the arguments of its subclasses are not those of Exception: without this, none could be unpickled
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[SyncKitError], args: tuple[object, ...], state: dict[str, Any]) -> SyncKitError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _short(text: str) -> str:
    return repr(text) if len(text) <= 200 else f"{text[:100]!r}... ({len(text)} characters)"


class ConfigurationError(SyncKitError):
    """A setting, option, name or call is wrong; the message says how to fix it.

    Raised as early as the mistake can be known: at construction, when a decorator is applied,
    or at the first call.
    """


class Unavailable(SyncKitError):
    """Redis could not be reached, did not answer in time, or said that it cannot serve now; the cause is chained.

    The operation may or may not have happened, unless the message says that it was not carried out: so
    it is when Redis itself declined (loading, out of memory, a replica, a cluster that is down, ...).
    Repeating it is safe wherever the call carries an id of its own (sending a job, acquiring and
    releasing a lock).
    """


class ServerError(SyncKitError):
    """Redis answered with an error that waiting does not cure: wrong type of a key, no permission, ...

    The message names the operation and the key; the server's own words are chained.
    """


class Decided(Protocol):
    """What `RateLimitError` needs to know of a decision."""

    @property
    def key(self) -> str: ...
    @property
    def limit(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_in(self) -> float: ...
    @property
    def retry_after(self) -> float: ...


class RateLimitError(SyncKitError):
    """The call was refused by a rate limit.

    Attributes:
        decision: the refusing decision.
        key: the key that is limited.
        remaining: units left in the window.
        reset_in: seconds until the whole limit is available again.
        retry_after: seconds after which the same call is admitted; `inf` if never.
    """

    def __init__(self, limiter: str, decision: Decided) -> None:
        self.decision = decision
        self.key = decision.key
        self.remaining = decision.remaining
        self.reset_in = decision.reset_in
        self.retry_after = decision.retry_after
        again = f"try again in {decision.retry_after:.3f} s"
        if math.isinf(decision.retry_after):
            again = "the call costs more than the limit and is never admitted"
        super().__init__(f"rate limit {limiter!r} of {decision.limit} reached for {_short(decision.key)}: {again}")


class LockError(SyncKitError):
    """The resource is held by somebody else, or by this very task: a mutex is not re-entrant.

    Attributes:
        resource: what was asked for.
        holder: who holds it (host and process id), as far as known.
        expires_in: seconds until that lease ends unless it is renewed.
    """

    def __init__(self, where: str, resource: str, holder: str, expires_in: float, *, said: str | None = None) -> None:
        self.resource = resource
        self.holder = holder
        self.expires_in = expires_in
        held = f"is held by {holder} for another {expires_in:.3f} s unless renewed"
        super().__init__(f"{_short(resource)} of {where} {said or f'{held}: try again later or pass a longer wait='}")


class LockLostError(SyncKitError):
    """The lease of a guarded block ended before the block did; the block was cancelled.

    Attributes:
        resource: what was held.
        fence: the fencing token of the lost lease; a store that checks fences refuses it.
    """

    def __init__(self, where: str, resource: str, fence: int, reason: str) -> None:
        self.resource = resource
        self.fence = fence
        super().__init__(
            f"the lease on {_short(resource)} of {where} (fence {fence}) is lost: {reason}. "
            "Somebody else may hold it now; undo or repeat the work"
        )


class InvalidPayloadError(SyncKitError):
    """A payload does not fit the schema of its task or queue; nothing was written.

    Attributes:
        where: whose schema that is, such as "task 'send_email'".
        errors: pydantic's list of what is wrong, without the input values.
    """

    def __init__(self, where: str, errors: Sequence[Any], detail: str) -> None:
        self.where = where
        self.errors = list(errors)
        super().__init__(f"payload of {where} refused by its schema: {detail}")


class UnknownTaskError(SyncKitError):
    """There is no task of this name among those that this process has registered."""

    def __init__(self, queue: str, name: str, known: Iterable[str]) -> None:
        close = difflib.get_close_matches(name, tasks := [*known], n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(repr, tasks)) or 'none'}"
        super().__init__(f"queue {queue!r} has no task {_short(name)}: {advice}")


class DuplicateJobError(SyncKitError):
    """Another job with this unique key has not ended yet; only raised where `on_duplicate="raise"`.

    Attributes:
        key: the unique key.
        job_id: the job that has it.
        receipts: of all that the same call sent, in order; those of duplicates say so. All others are stored.
    """

    def __init__(self, task: str, key: str, job_id: str, receipts: Sequence[Any] = ()) -> None:
        self.key = key
        self.job_id = job_id
        self.receipts = receipts
        super().__init__(
            f"task {task!r} has a job with the key {_short(key)} already, {job_id}: wait until it has ended, "
            'or take on_duplicate="return" or "replace"'
        )


class JobError(SyncKitError):
    """A job whose result was waited for has none.

    Attributes:
        job_id: its id.
        status: "failed", "cancelled", "unknown" (it is not kept any longer, or never was), or "completed" when its
            result could not be stored or is not kept any longer.
        error: type and message of the exception that it ended with, as text; empty if there is none.
        traceback: where that was raised, as text; empty if that is not known.
    """

    def __init__(self, job_id: str, status: str, error: str, traceback: str = "") -> None:
        self.job_id = job_id
        self.status = status
        self.error = error
        self.traceback = traceback
        super().__init__(f"job {job_id} {_ENDS.get(status, f'is {status}')}{f': {error}' if error else ''}")


_ENDS = {
    "failed": "has failed",
    "cancelled": "was cancelled",
    "completed": "has ended, without a result",
    "unknown": "is not known: it never was sent, or is not kept any longer",
}
