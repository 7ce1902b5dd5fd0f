"""Refusals that are known to hold still, so that a flood of calls for one key does not reach Redis.

What Redis refused for `retry_after` cannot be admitted before that: units only come free with time. The one
exception is a `reset` or `refund` in another process, so one call in each `ASK_AGAIN` goes to Redis all the same,
and when that one is admitted the refusal is forgotten.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any

from sync_kit._io.keys import MAX_PART
from sync_kit.ratelimit.decision import Decision, decide

if TYPE_CHECKING:
    from sync_kit.ratelimit.rules import Rules

ASK_AGAIN = 0.25
"""Seconds after which Redis is asked again about a key that is refused here."""
MOST = 10_000
"""Keys that are remembered; the oldest are forgotten, which costs nothing but a call."""
MOST_COSTS = 8
"""Costs that are remembered for a key."""
_MARGIN = 0.002
"""Seconds by which a refusal ends earlier here: the reply is in whole milliseconds."""


class _Denial:
    """One refusal: of a call that was sent at `asked` and answered at `heard`, and what it amounts to later.

    It ends by the first of the two, and says how long it takes by the second: each errs on the safe side.
    """

    __slots__ = ("ask_at", "heard", "last", "passed", "reply", "until")

    def __init__(self, decision: Decision, reply: list[Any], asked: float, heard: float) -> None:
        waits = reply[4::3]
        self.until = asked + (max(waits) / 1000 - _MARGIN if min(waits) >= 0 else math.inf)
        self.ask_at = heard + ASK_AGAIN
        self.heard = heard
        self.last = decision
        self.reply = reply
        self.passed = -1

    def at(self, rules: Rules, now: float) -> Decision:
        """The decision at `now`; calls of one millisecond share one."""
        passed, known = int(1000 * (now - self.heard)), self.last
        if passed == self.passed:
            return known
        reply = self.reply.copy()
        for i in range(4, len(reply), 3):
            reply[i] = _later(reply[i], passed)
            reply[i + 1] = _later(reply[i + 1], passed)
        made = decide(reply, rules, known.limiter, known.key, known.cost, by="cache", shadow=known.shadow)
        self.last, self.passed = made, passed
        return made


class _Counter:
    """The refusals of one counter under one set of rules, by cost."""

    __slots__ = ("by_cost", "rules")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.by_cost: dict[int, _Denial] = {}


class Denials:
    """The refusals known in this process, by counter. Threads may share it.

    Attributes:
        age: grows with every `forget`; what was asked at another age may be about what is no more.
    """

    __slots__ = ("_known", "_lock", "age")

    def __init__(self) -> None:
        self.age = 0
        self._known: dict[str, _Counter] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def known(self, counter: str, rules: Rules, cost: int, shadow: bool, now: float) -> Decision | None:
        """The decision on a call that is known to be refused at `now` (monotonic), else None."""
        found = self._known.get(counter)
        if found is None:
            return None
        denial = found.by_cost.get(cost)
        if denial is None or now >= denial.until or denial.last.shadow is not shadow:
            return None
        if found.rules is not rules and found.rules != rules:
            return None
        if now >= denial.ask_at:
            denial.ask_at = now + ASK_AGAIN  # this caller asks; the others are still refused meanwhile
            return None
        return denial.at(rules, now)

    def learn(self, counter: str, rules: Rules, decision: Decision, reply: list[Any], asked: tuple[float, int]) -> None:
        """Remember a refusal of a call that was `asked` at some time and age, and is answered now."""
        at, age = asked
        denial = _Denial(decision, reply, at, heard=time.monotonic())
        if denial.until <= denial.heard or len(decision.key) > MAX_PART:
            return
        with self._lock:
            if age != self.age:
                return
            found = self._known.get(counter)
            if found is None or found.rules != rules or len(found.by_cost) >= MOST_COSTS:
                if found is None and len(self._known) >= MOST:
                    del self._known[next(iter(self._known))]
                found = self._known[counter] = _Counter(rules)
            found.by_cost[decision.cost] = denial

    def admitted(self, counter: str, cost: int) -> None:
        """Redis has admitted `cost`: a refusal of as much or more is no longer true."""
        if counter not in self._known:
            return
        with self._lock:
            found = self._known.get(counter)
            if found is not None and min(found.by_cost) <= cost:
                del self._known[counter]

    def forget(self, counter: str) -> None:
        """Ask Redis again about `counter`."""
        with self._lock:
            self.age += 1
            self._known.pop(counter, None)


def _later(milliseconds: int, passed: int) -> int:
    """A time that was `milliseconds` away, `passed` later; 0 and -1 (never) stay."""
    return milliseconds if milliseconds <= 0 else max(1, milliseconds - passed)
