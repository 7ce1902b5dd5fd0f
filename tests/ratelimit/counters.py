"""The stored counter as a test sees it, a clock that it may set, and a plain model of the strict window."""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

from sync_kit._io.scripts import Script
from sync_kit.ratelimit.limiter import TAKE
from sync_kit.ratelimit.rule import BUCKETS

CLOCK = "the-clock-of-this-test"
TIMED = Script("take", TAKE.source.replace("redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK}', 0, 1)"))
"""`take.lua` with a clock that a test may set; everything else is the script itself."""


def the_counter(client: Any) -> str:
    """The only counter on the server."""
    (key,) = client.keys("*:rl:*")
    return str(key, "ascii")


def image(client: Any) -> list[tuple[bytes, bytes | None, int]]:
    """Every counter, byte for byte, and the very millisecond in which it expires."""
    return [(key, client.get(key), client.pexpiretime(key)) for key in sorted(client.keys("*:rl:*"))]


def shift(client: Any, buckets: int) -> None:
    """Let `buckets` buckets pass (backwards, if negative) by changing the stamp of the only counter."""
    key = the_counter(client)
    (head,) = struct.unpack(">d", client.getrange(key, 0, 7))
    client.setrange(key, 0, struct.pack(">d", head - buckets))


class Clock:
    """The clock that `TIMED` reads, in milliseconds."""

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


class Answer(NamedTuple):
    """What the model says of one call."""

    allowed: bool
    remaining: int
    retry_after: float
    reset_in: float


class Model:
    """The strict window in plain Python: a unit counts in its own bucket and in the `BUCKETS` after it."""

    def __init__(self, limit: int, width: int) -> None:
        self.limit, self.width = limit, width
        self.spent: list[tuple[int, int]] = []

    def check(self, now: int, cost: int) -> Answer:
        ends = [((bucket + BUCKETS + 1) * self.width - now, units) for bucket, units in self.spent]
        live = sorted((end, units) for end, units in ends if end > 0)
        used = sum(units for _, units in live)
        last = max((end for end, _ in live), default=0)
        if used + cost > self.limit:
            return Answer(
                False, max(self.limit - used, 0), self._wait(live, used + cost - self.limit, cost), last / 1000
            )
        if cost:
            self.spent.append((now // self.width, cost))
            last = (now // self.width + BUCKETS + 1) * self.width - now
        return Answer(True, self.limit - used - cost, 0.0, last / 1000)

    def _wait(self, live: list[tuple[int, int]], excess: int, cost: int) -> float:
        if cost > self.limit:
            return math.inf
        freed = 0
        for end, units in live:
            freed += units
            if freed >= excess:
                return end / 1000
        raise AssertionError("everything is free and it still does not fit")
