"""The stand-in while Redis is away (`on_error="local"`): the same rules in this process, each divided by `replicas`."""

from __future__ import annotations

import math
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sync_kit.ratelimit.rule import Rule
    from sync_kit.ratelimit.rules import Rules

MOST = 10_000
"""Keys that are counted; beyond that the one that was first seen longest ago begins anew."""


class _Counter(Protocol):
    def refusal(self, now: int, cost: int) -> int:
        """Milliseconds until `cost` fits; 0 when it does now, -1 when it never will."""
        ...

    def take(self, now: int, cost: int) -> None: ...

    def left(self, now: int) -> tuple[int, int]:
        """Units that remain, and milliseconds until all are there again."""
        ...


class _Window:
    """Buckets of units, as in `take.lua`; a fixed window is one bucket."""

    def __init__(self, rule: Rule, replicas: int) -> None:
        self.limit = max(1, rule.limit // replicas)
        self.width, self.span = rule.width_ms, rule.buckets
        self.units: dict[int, int] = {}

    def refusal(self, now: int, cost: int) -> int:
        if cost > self.limit:
            return -1
        wait, excess = 0, self._used(now) + cost - self.limit
        for bucket, units in self.units.items():
            if excess <= 0:
                break
            wait, excess = self._ends(bucket, now), excess - units
        return wait

    def take(self, now: int, cost: int) -> None:
        bucket = now // self.width
        self.units[bucket] = self.units.get(bucket, 0) + cost

    def left(self, now: int) -> tuple[int, int]:
        used = self._used(now)
        return max(0, self.limit - used), self._ends(max(self.units), now) if self.units else 0

    def _used(self, now: int) -> int:
        for bucket in [bucket for bucket in self.units if self._ends(bucket, now) <= 0]:
            del self.units[bucket]
        return sum(self.units.values())

    def _ends(self, bucket: int, now: int) -> int:
        return (bucket + self.span + 1) * self.width - now


class _TokenBucket:
    """Debt that leaks, in units times the width of the window, so that every number is whole."""

    def __init__(self, rule: Rule, replicas: int) -> None:
        self.width, self.rate = rule.width_ms, max(1, rule.limit // replicas)
        self.room = max(1, rule.burst // replicas) * self.width
        self.debt, self.stamp = 0, 0

    def refusal(self, now: int, cost: int) -> int:
        if cost * self.width > self.room:
            return -1
        return max(0, -((self.room - self._leaked(now) - cost * self.width) // self.rate))

    def take(self, now: int, cost: int) -> None:
        self.debt, self.stamp = self._leaked(now) + cost * self.width, now

    def left(self, now: int) -> tuple[int, int]:
        debt = self._leaked(now)
        return max(0, (self.room - debt) // self.width), math.ceil(debt / self.rate)

    def _leaked(self, now: int) -> int:
        return max(0, self.debt - (now - self.stamp) * self.rate)


def _counter(rule: Rule, replicas: int) -> _Counter:
    return (_TokenBucket if rule.algorithm == "token-bucket" else _Window)(rule, replicas)


class LocalCounters:
    """Counts in this process alone, on the monotonic clock. Threads may share it."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas
        self._counters: dict[str, tuple[Rules, list[_Counter]]] = {}
        self._lock = threading.Lock()
        _all.add(self)

    def take(self, counter: str, rules: Rules, cost: int, spend: bool, now: float) -> list[Any]:
        """Decide as `take.lua` does, and answer in its form."""
        at = int(now * 1000)
        with self._lock:
            counters = self._of(counter, rules)
            waits = [one.refusal(at, cost) for one in counters]
            allowed = not any(waits)
            if allowed and spend and cost:
                for one in counters:
                    one.take(at, cost)
            reply: list[Any] = [b"ok" if allowed else b"limited", 0, at]
            for one, wait in zip(counters, waits, strict=True):
                left, reset_in = one.left(at)
                reply += [left, wait, reset_in]
            return reply

    def _of(self, counter: str, rules: Rules) -> list[_Counter]:
        known = self._counters.get(counter)
        if known is None or known[0] != rules:
            if len(self._counters) >= MOST and known is None:
                del self._counters[next(iter(self._counters))]
            known = self._counters[counter] = (rules, [_counter(rule, self._replicas) for rule in rules.all])
        return known[1]


_all: weakref.WeakSet[LocalCounters] = weakref.WeakSet()


def _after_fork() -> None:
    for counters in list(_all):  # another thread of the parent may have held the lock
        counters._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
