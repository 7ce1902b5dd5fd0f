"""The stored counter as a test sees it, a clock that it may set, and plain models of the three algorithms."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

from sync_kit._io.scripts import Script
from sync_kit.ratelimit.checks import REFUND
from sync_kit.ratelimit.take import TAKE

CLOCK = "the-clock-of-this-test"


def timed(script: Script) -> Script:
    """The script with a clock that a test may set; everything else is the script itself."""
    return Script(script.name, script.source.replace("redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK}', 0, 1)"))


TIMED = {"take.TAKE": timed(TAKE), "checks.REFUND": timed(REFUND)}


def the_counter(client: Any) -> str:
    """The only counter on the server."""
    (key,) = client.keys("*:rl:*")
    return str(key, "ascii")


def image(client: Any) -> list[tuple[bytes, bytes | None, int]]:
    """Every counter, byte for byte, and the very millisecond in which it expires."""
    return [(key, client.get(key), client.pexpiretime(key)) for key in sorted(client.keys("*:rl:*"))]


def shift(client: Any, buckets: int) -> None:
    """Let `buckets` buckets pass (backwards, if negative) by changing the stamp of the only counter, of one window."""
    key = the_counter(client)
    head = int.from_bytes(client.getrange(key, 5, 10), "big")
    client.setrange(key, 5, (head - buckets).to_bytes(6, "big"))


class Clock:
    """The clock that the scripts of `TIMED` read, in milliseconds."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.now = 0
        self.set(1_800_000_000_000)

    def set(self, now: int) -> None:
        self.now = now
        with self._client.pipeline() as batch:
            batch.delete(CLOCK)
            batch.rpush(CLOCK, now // 1000, now % 1000 * 1000)
            batch.pexpire(CLOCK, 600_000)
            batch.execute()

    def step(self, by: int) -> None:
        self.set(self.now + by)


class Part(NamedTuple):
    """What the model says of one rule: units, and seconds."""

    remaining: int
    reset_in: float
    retry_after: float


class WindowModel:
    """Buckets aligned to the clock: a unit counts in its own bucket and in the `buckets` after it."""

    def __init__(self, limit: int, width: int, buckets: int) -> None:
        self.capacity, self.width, self.buckets = limit, width, buckets
        self.spent: list[tuple[int, int]] = []

    def part(self, now: int, cost: int) -> Part:
        live = self._live(now)
        used = sum(units for _, units in live)
        reset = max((end for end, _ in live), default=0)
        return Part(max(self.capacity - used, 0), reset / 1000, self._wait(live, used + cost - self.capacity, cost))

    def spend(self, now: int, cost: int) -> None:
        self.spent.append((now, cost))

    def unspend(self, at: int, cost: int) -> None:
        self.spent.remove((at, cost))

    def _live(self, now: int) -> list[tuple[int, int]]:
        ends = [((at // self.width + self.buckets + 1) * self.width - now, units) for at, units in self.spent]
        return sorted((end, units) for end, units in ends if end > 0)

    def _wait(self, live: list[tuple[int, int]], excess: int, cost: int) -> float:
        if cost > self.capacity:
            return math.inf
        freed = 0
        for end, units in [(0, 0), *live]:
            freed += units
            if freed >= excess:
                return end / 1000
        raise AssertionError("everything is free and it still does not fit")


class TokenModel:
    """GCRA with fractions: what was spent leaks at a steady rate, and never below nothing."""

    def __init__(self, burst: int, limit: int, window: int) -> None:
        self.capacity, self.rate = burst, Fraction(limit, window)
        self.spent: list[tuple[int, int]] = []

    def part(self, now: int, cost: int) -> Part:
        debt = self.debt(now)
        over = debt + cost - self.capacity
        wait = math.inf if cost > self.capacity else max(0, math.ceil(over / self.rate)) / 1000
        return Part(max(math.floor(self.capacity - debt), 0), math.ceil(debt / self.rate) / 1000, wait)

    def spend(self, now: int, cost: int) -> None:
        self.spent.append((now, cost))

    def unspend(self, at: int, cost: int) -> None:
        self.spent.remove((at, cost))

    def debt(self, now: int) -> Fraction:
        debt, stamp = Fraction(0), 0
        for at, cost in self.spent:
            debt, stamp = max(Fraction(0), debt - (at - stamp) * self.rate) + cost, at
        return max(Fraction(0), debt - (now - stamp) * self.rate)


class Model:
    """Several rules at once: all of them are charged, or none."""

    def __init__(self, rules: Any) -> None:
        self.parts = [model_of(rule) for rule in rules]

    def check(self, now: int, cost: int) -> tuple[bool, list[Part]]:
        answers = [part.part(now, cost) for part in self.parts]
        if any(answer.retry_after for answer in answers):
            return False, answers
        if cost:
            for part in self.parts:
                part.spend(now, cost)
        return True, [part.part(now, 0)._replace(retry_after=0.0) for part in self.parts]


def model_of(rule: Any) -> WindowModel | TokenModel:
    """The model of one rule; everything is worked out from what the user wrote."""
    window = round(rule.window * 1000)
    if rule.algorithm == "token-bucket":
        return TokenModel(rule.burst, rule.limit, window)
    if rule.algorithm == "fixed-window":
        return WindowModel(rule.limit, window, 0)
    return WindowModel(rule.limit, -(-window // rule.precision), rule.precision)


def answer(decision: Any) -> tuple[bool, list[Part]]:
    """A decision in the words of the model."""
    return decision.allowed, [Part(state.remaining, state.reset_in, state.retry_after) for state in decision.states]
