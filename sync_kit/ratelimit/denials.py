"""Refusals that are known to hold still, so that a flood of calls for one key does not reach Redis.

What Redis refused for `retry_after` cannot be admitted before that: units only come free with time. The one
exception is a `reset` or `refund` in another process, so one call in each `ASK_AGAIN` goes to Redis all the same.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from sync_kit.ratelimit.decision import Decision, decide

if TYPE_CHECKING:
    from sync_kit.ratelimit.rules import Rules

ASK_AGAIN = 0.25
"""Seconds after which Redis is asked again about a key that is refused here."""
MOST = 10_000
"""Keys that are remembered; the oldest are forgotten, which costs nothing but a call."""
_MARGIN = 0.002
"""Seconds by which a refusal ends earlier here: the reply is in whole milliseconds."""


class _Denial:
    """One refusal: what was answered to a call that was sent at `since`, and what it amounts to later."""

    __slots__ = ("ask_at", "decision", "passed", "reply", "since", "until")

    def __init__(self, decision: Decision, reply: list[Any], since: float, wait: float) -> None:
        self.decision = decision
        self.reply = reply
        self.since = since
        self.until = since + wait
        self.ask_at = since + ASK_AGAIN
        self.passed = -1

    def at(self, rules: Rules, cost: int, now: float) -> Decision:
        """The decision at `now`; calls of one millisecond share one."""
        passed, known = int(1000 * (now - self.since)), self.decision
        if passed != self.passed or cost != known.cost:
            reply = self.reply.copy()
            for i in range(4, len(reply), 3):
                reply[i] = _later(reply[i], passed)
                reply[i + 1] = _later(reply[i + 1], passed)
            self.passed = passed
            self.decision = decide(reply, rules, known.limiter, known.key, cost, by="cache", shadow=known.shadow)
        return self.decision


class Denials:
    """The refusals known in this process, by counter. Threads may share it.

    Attributes:
        age: grows with every `forget`; what was asked at another age may be about what is no more.
    """

    __slots__ = ("_known", "_lock", "age")

    def __init__(self) -> None:
        self.age = 0
        self._known: dict[str, tuple[Rules, int, _Denial]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def known(self, counter: str, rules: Rules, cost: int, shadow: bool, now: float) -> Decision | None:
        """The decision on a call that is known to be refused at `now` (monotonic), else None."""
        found = self._known.get(counter)
        if found is None:
            return None
        of, least, denial = found
        if cost < least or denial.decision.shadow is not shadow or (of is not rules and of != rules):
            return None
        if now >= denial.until:
            return None
        if now >= denial.ask_at:
            denial.ask_at = now + ASK_AGAIN  # this caller asks; the others are still refused meanwhile
            return None
        return denial.at(rules, cost, now)

    def learn(self, counter: str, rules: Rules, decision: Decision, reply: list[Any], asked: float, age: int) -> None:
        """Remember a refusal of a call that was sent at `asked`, before the server decided: so it ends early here."""
        waits = reply[4::3]
        wait = max(waits) / 1000 - _MARGIN if min(waits) >= 0 else ASK_AGAIN
        with self._lock:
            if wait <= 0 or age != self.age:
                return
            if len(self._known) >= MOST and counter not in self._known:
                del self._known[next(iter(self._known))]
            self._known[counter] = (rules, decision.cost, _Denial(decision, reply, asked, wait))

    def forget(self, counter: str) -> None:
        """Ask Redis again about `counter`."""
        with self._lock:
            self.age += 1
            self._known.pop(counter, None)


def _later(milliseconds: int, passed: int) -> int:
    """A time that was `milliseconds` away, `passed` later; 0 and -1 (never) stay."""
    return milliseconds if milliseconds <= 0 else max(1, milliseconds - passed)
