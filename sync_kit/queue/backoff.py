"""When something that failed is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sync_kit.options import Seconds, number, seconds


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
        object.__setattr__(self, "factor", number("factor", factor, 1, 1000))
        object.__setattr__(self, "max", seconds("max", max, least=self.base))
        object.__setattr__(self, "jitter", number("jitter", jitter, 0, 1))

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


Retry.__module__ = "sync_kit"  # where users know it from: its name is written down as the error of a job
