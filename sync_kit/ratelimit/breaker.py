"""A circuit breaker, so that an outage costs one deadline and not one for each request.

    closed  -- a call fails, and none was answered while it waited -->  open
    open    -- PAUSE is over: one call tries -->                        half-open
    half-open -- the call fails -->                                     open
    any     -- a call is answered -->                                   closed

While it is open, nothing is sent: `on_error` decides at once.
"""

from __future__ import annotations

import time

PAUSE = 0.5
"""Seconds between two tries while Redis does not answer."""


class Breaker:
    """Shared by the limiters of a kit and a deadline in this process.

    Threads may use it: at worst two of them try at once.
    """

    __slots__ = ("_answered", "_next_try", "error")

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._next_try = 0.0
        self._answered = 0.0

    @property
    def open(self) -> bool:
        """Whether Redis is taken to be away."""
        return self.error is not None

    def lets_pass(self, now: float) -> bool:
        """Whether a call may be sent at `now` (monotonic); of those that come while it is open, one in each pause."""
        if self.error is None:
            return True
        if now < self._next_try:
            return False
        self._next_try = now + PAUSE
        return True

    def answered(self, now: float) -> bool:
        """Redis has answered; says whether that closes the breaker."""
        self._answered = now
        if self.error is None:
            return False
        self.error = None
        return True

    def failed(self, started: float, error: Exception) -> bool:
        """A call that started at `started` has failed; says whether that opens the breaker."""
        if self._answered >= started:
            return False  # others are answered meanwhile: one node of a cluster, or one slow reply
        was_open, self.error = self.error is not None, error
        self._next_try = time.monotonic() + PAUSE
        return not was_open
