"""What goes wrong in tests. All are `SyncKitError`s, but for the plain `AssertionError`s of `assert_sent`."""

from __future__ import annotations

from sync_kit.errors import SyncKitError

MOST_LISTED = 20


class FailedJobsError(SyncKitError):
    """Jobs failed for good while a test ran them; the error of the first one is chained.

    Attributes:
        failures: a line for each of them: task, id and error.
    """

    def __init__(self, failures: list[str], advice: str = "") -> None:
        self.failures = failures
        super().__init__(f"{len(failures)} of the jobs failed:{listed(failures)}{advice}")


class NotDrainedError(SyncKitError, TimeoutError):
    """Jobs were left when the time for draining was over.

    Attributes:
        left: a line for each of them, at most a hundred: id, task, status, attempts and last error.
    """

    def __init__(self, seconds: float, left: list[str], why: str = "") -> None:
        self.left = left
        super().__init__(
            f"not drained within {seconds:g} s{why}:{listed(left or ['what is left is not known'])}\n"
            "Pass a longer timeout=, or look whether the queue is paused, a handler waits for something, "
            "or jobs send each other without end"
        )


class NestedTooDeepError(SyncKitError):
    """Jobs that run at once send jobs that send jobs, and so on: on a worker that would never end."""

    def __init__(self, task: str, depth: int) -> None:
        super().__init__(
            f"task {task!r} was sent by a job that was sent by a job ..., {depth} deep: with inline() that does not "
            "end. Use recorded(), or let the handler know when to stop"
        )


def listed(lines: list[str], most: int = MOST_LISTED) -> str:
    """Lines for an error, not too many of them."""
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return "".join(f"\n  {line}" for line in [*lines[:most], *more])
