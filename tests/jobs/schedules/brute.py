"""When a cron expression is due, found by looking at every single minute or second. Knows nothing of sync_kit."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

EPOCH = datetime(1970, 1, 1)
RANGES = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
QUARTER = 900


def seconds(year: int, month: int = 1, day: int = 1, hour: int = 0, minute: int = 0) -> int:
    """Epoch seconds of a moment in UTC."""
    return int(datetime(year, month, day, hour, minute, tzinfo=timezone.utc).timestamp())


def numbers(field: str, least: int, most: int) -> set[int]:
    """What a field stands for: stars, steps, spans and lists of numbers."""
    found: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        low, high = (least, most) if span == "*" else (int(first), int(last or first))
        found |= set(range(low, high + 1, int(step or 1)))
    return found


@lru_cache(maxsize=8)
def offset(zone: str, quarter: int) -> int:
    """Seconds to add to UTC in a quarter of an hour; the clocks of our zones change between two of them."""
    moment = datetime.fromtimestamp(quarter * QUARTER, timezone.utc)
    found = moment.astimezone(ZoneInfo(zone)).utcoffset()
    assert found is not None
    return int(found.total_seconds())


def changes(zone: str, first_year: int, last_year: int) -> list[int]:
    """The epoch seconds at which the clocks are changed."""
    quarters = range(seconds(first_year) // QUARTER, seconds(last_year + 1) // QUARTER)
    return [q * QUARTER for q in quarters if offset(zone, q) != offset(zone, q - 1)]


class Expression:
    """An expression, and whether a wall clock (seconds since 1970 on it) fits it."""

    def __init__(self, text: str) -> None:
        fields = text.split()
        self.fields = ["0", *fields] if len(fields) == 5 else fields
        read = [numbers(field, *bounds) for field, bounds in zip(self.fields, RANGES, strict=True)]
        self._seconds, self._minutes, self._hours, self._days, self._months, weekdays = read
        self._weekdays = {day % 7 for day in weekdays}
        self._both = self.fields[3].startswith("*") or self.fields[5].startswith("*")
        self.of_the_day = not any(field.startswith("*") for field in self.fields[:3])
        self._dates: dict[int, bool] = {}

    def fits(self, wall: int) -> bool:
        """Whether the wall clock fits."""
        if wall // 60 % 60 not in self._minutes or wall // 3600 % 24 not in self._hours:
            return False
        return wall % 60 in self._seconds and self._fits_date(wall // 86400)

    def _fits_date(self, number: int) -> bool:
        if number not in self._dates:
            day: date = (EPOCH + timedelta(days=number)).date()
            of_month, of_week = day.day in self._days, day.isoweekday() % 7 in self._weekdays
            fits = of_month and of_week if self._both else of_month or of_week
            self._dates[number] = fits and day.month in self._months
        return self._dates[number]


def due(text: str, zone: str, since: int, until: int, step: int = 60) -> Iterator[int]:
    """Every moment in [since, until) at which an expression is due.

    One that names times of the day runs at each of them once: when the clocks show it for the first time, or if they
    skip it at the end of the gap. Any other runs whenever the clocks fit it.
    """
    expression = Expression(text)
    latest = since - QUARTER * 8 + offset(zone, since // QUARTER - 8)
    for moment, wall in walls(zone, since - QUARTER * 8, until, step):
        if not expression.of_the_day or wall == latest + step:
            fits = expression.fits(wall)
        else:
            fits = any(map(expression.fits, range(latest + step, wall + step, step)))
        if wall > latest:
            latest = wall
        if fits and moment >= since:
            yield moment


def walls(zone: str, since: int, until: int, step: int) -> Iterator[tuple[int, int]]:
    """Moments, and what the clocks show then."""
    for start in range(since, until, QUARTER):
        ahead = offset(zone, start // QUARTER)
        for moment in range(start, min(start + QUARTER, until), step):
            yield moment, moment + ahead
