"""The blocking twin of a rate limiter."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from sync_kit.errors import RateLimitError
from sync_kit.ratelimit.decision import refuse
from sync_kit.ratelimit.limiter import costs, deadline_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sync_kit.options import Seconds
    from sync_kit.ratelimit.decision import Decision
    from sync_kit.ratelimit.limiter import RateLimiter


class BlockingRateLimiter:
    """The blocking twin of a `RateLimiter`: the same verbs, without await."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    def check(self, key: str | int, *, cost: int = 1) -> Decision:
        """See `RateLimiter.check`."""
        checks = self._limiter.checks()
        return checks.kit.run_blocking(checks.take(key, cost, True), "limiter.check(...)")

    def check_or_raise(self, key: str | int, *, cost: int = 1) -> Decision:
        """See `RateLimiter.check_or_raise`."""
        return self._limiter.or_raise(self.check(key, cost=cost))

    def check_many(self, keys: Iterable[str | int] | Mapping[str | int, int], *, cost: int = 1) -> list[Decision]:
        """See `RateLimiter.check_many`."""
        checks = self._limiter.checks()
        return checks.kit.run_blocking(checks.take_many(costs(keys, cost)), "limiter.check_many(...)")

    def peek(self, key: str | int, *, cost: int = 1) -> Decision:
        """See `RateLimiter.peek`."""
        checks = self._limiter.checks()
        return checks.kit.run_blocking(checks.take(key, cost, False), "limiter.peek(...)")

    def wait(self, key: str | int, *, cost: int = 1, timeout: Seconds | None = None) -> Decision:
        """See `RateLimiter.wait`."""
        ends = deadline_of(timeout)
        checks = self._limiter.checks()
        checks.kit.refuse_in_loop("limiter.wait(...)")
        if checks.never(key, cost):
            self._limiter.or_raise(self.peek(key, cost=cost))
        line, counter, turn = checks.shared.line, checks.counter_of(key), threading.Event()
        first = line.join(counter, turn.set)
        try:
            if not first:
                self._stand_in_line(turn, key, cost, ends)
            while (decision := self.check(key, cost=cost)).limited:
                time.sleep(self._limiter.pause(decision, ends))
            return decision
        finally:
            line.leave(counter, turn.set)

    def _stand_in_line(self, turn: threading.Event, key: str | int, cost: int, ends: float | None) -> None:
        seen = self.peek(key, cost=cost)
        if seen.limited:
            self._limiter.pause(seen, ends)
        if not turn.wait(None if ends is None else max(0.0, ends - time.monotonic())):
            raise RateLimitError(self._limiter.name, refuse(seen))

    def reset(self, key: str | int) -> None:
        """See `RateLimiter.reset`."""
        checks = self._limiter.checks()
        checks.kit.run_blocking(checks.reset(key), "limiter.reset(...)")

    def refund(self, decision: Decision) -> bool:
        """See `RateLimiter.refund`."""
        checks = self._limiter.checks()
        return checks.kit.run_blocking(checks.refund(decision), "limiter.refund(...)")
