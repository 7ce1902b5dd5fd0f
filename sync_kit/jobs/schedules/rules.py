"""The two kinds of timetables: every so often, and by a cron expression. All times are epoch milliseconds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from sync_kit.errors import ConfigurationError
from sync_kit.jobs.schedules.cron import Cron
from sync_kit.options import Seconds, seconds, shown

SHORTEST = 0.05
"""Seconds of the shortest interval."""
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MS = timedelta(milliseconds=1)


class Rule(ABC):
    """When a schedule is due: slots, on and on."""

    @abstractmethod
    def following(self, after: int, anchor: int) -> int:
        """The first slot after `after`. `anchor`: when the schedule was made, where it depends on that."""

    @abstractmethod
    def newest(self, slot: int, now: int, anchor: int) -> int:
        """The last slot that is due, if `slot` is."""

    @abstractmethod
    def write(self) -> dict[str, Any]:
        """As plain values."""


@dataclass(frozen=True, slots=True)
class Interval(Rule):
    """A slot every so many milliseconds, counted from the anchor."""

    every: int

    def following(self, after: int, anchor: int) -> int:
        """See `Rule.following`."""
        return anchor + ((after - anchor) // self.every + 1) * self.every

    def newest(self, slot: int, now: int, anchor: int) -> int:
        """See `Rule.newest`."""
        return max(slot, self.following(now, anchor) - self.every)

    def write(self) -> dict[str, Any]:
        """See `Rule.write`."""
        return {"every": self.every}


@dataclass(frozen=True, slots=True)
class Calendar(Rule):
    """The slots of a cron expression in a time zone."""

    cron: str
    tz: str

    def following(self, after: int, anchor: int) -> int:  # noqa: ARG002 (a calendar has no anchor)
        """See `Rule.following`."""
        moment = EPOCH + after // 1000 * timedelta(seconds=1)
        return (_cron(self.cron, self.tz).following(moment) - EPOCH) // MS

    def newest(self, slot: int, now: int, anchor: int) -> int:
        """See `Rule.newest`. Halves the time between: after a long outage there may be millions of slots in it."""
        low, high = slot, now + 1
        if self.following(low, anchor) > now:
            return slot
        while high - low > 1000:
            middle = (low + high) // 2
            low, high = (middle, high) if self.following(middle, anchor) <= now else (low, middle)
        return self.following(low, anchor)

    def write(self) -> dict[str, Any]:
        """See `Rule.write`."""
        return {"cron": self.cron, "tz": self.tz}


def read_rule(written: dict[str, Any]) -> Rule:
    """The rule that was written as plain values."""
    return Interval(written["every"]) if "every" in written else Calendar(written["cron"], written["tz"])


def make_interval(interval: Seconds) -> Interval:
    """Check an interval. Raises `ConfigurationError`."""
    return Interval(round(seconds("interval", interval, least=SHORTEST) * 1000))


def make_calendar(cron: object, tz: object) -> Calendar:
    """Check a cron expression and a time zone. Raises `ConfigurationError`."""
    if not isinstance(cron, str):
        raise ConfigurationError(f"cron must be an expression, as in cron='0 3 * * *', not {shown(cron)}")
    name = "UTC" if tz is None else getattr(tz, "key", None) or (str(tz) if tz is timezone.utc else tz)
    if not isinstance(name, str):
        raise ConfigurationError(f"tz must be an IANA name or a ZoneInfo, not {shown(tz)}")
    _cron(cron, name)
    return Calendar(cron, name)


@lru_cache(maxsize=256)
def _cron(expression: str, tz: str) -> Cron:
    return Cron(expression, tz)
