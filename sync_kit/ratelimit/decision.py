"""What a limiter answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of a rate limiter.

    Attributes:
        allowed: whether the call was admitted (and its cost spent).
        limit: units in any window.
        remaining: units left right now.
        reset_in: seconds until the whole limit is available again if nothing more is spent.
        retry_after: seconds after which the same call is admitted if nobody else spends; 0 when it was
            allowed, `inf` when it never will be (its cost is above the limit).
        key: what was asked about.
        checked: False when Redis could not be asked and `on_error` decided instead.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_in: float
    retry_after: float
    key: str
    checked: bool = True

    @property
    def limited(self) -> bool:
        """The opposite of `allowed`."""
        return not self.allowed


def decide(reply: list[Any], limit: int, key: str) -> Decision:
    """Read the reply of `take.lua`."""
    word, remaining, retry_after, reset_in = reply
    if word == b"ok":
        return Decision(True, limit, remaining, reset_in / 1000, 0.0, key)
    wait = math.inf if retry_after < 0 else retry_after / 1000
    return Decision(False, limit, remaining, reset_in / 1000, wait, key)


def undecided(allowed: bool, limit: int, window: float, key: str) -> Decision:
    """The decision of `on_error` when Redis cannot be asked. A refusal asks for a pause of a second at most."""
    return Decision(allowed, limit, 0, 0.0, 0.0 if allowed else min(window, 1.0), key, checked=False)
