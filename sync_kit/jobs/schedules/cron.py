"""When a cron expression is due in a time zone.

`cronsim` reads the expression and walks over plain wall clocks; what a change of the clocks makes of them is decided
here, by the rules of Debian's cron: an expression whose minute and hour do not start with a star means times of the
day, so a time that is skipped runs right after the gap, and one that comes twice runs the first time. Every other
expression means what passes: it runs at each moment whose wall clock fits it, in a repeated hour both times.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING

from sync_kit.errors import ConfigurationError
from sync_kit.options import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

UTC = timezone.utc
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Cron:
    """A cron expression in a time zone. Times go in and come out aware, in UTC.

    Args:
        expression: five fields, six with seconds in front, or a nickname.
        tz: an IANA name.

    Raises:
        ConfigurationError: the expression is wrong or never due, or the time zone is not known here.
    """

    def __init__(self, expression: str, tz: str) -> None:
        self._fields = NICKNAMES.get(expression.strip().lower(), expression)
        self._zone = find_zone(tz)
        self._of_the_day = not any(field.startswith("*") for field in self._fields.split()[:-3])
        _check(expression, self._fields)

    def following(self, after: datetime) -> datetime:
        """The first time that is due after `after`."""
        return self._time_of_the_day(after) if self._of_the_day else self._passing(after)

    def _time_of_the_day(self, after: datetime) -> datetime:
        for wall in walls(self._fields, self._wall(after)):
            moment = self._moment(wall)
            if moment > after:
                return moment
        raise ConfigurationError(f"{self._fields!r} is not due any more")

    def _passing(self, after: datetime) -> datetime:
        since, before, offset = after, after, self._offset(after)
        while True:
            wall = next(walls(self._fields, (before + offset).replace(tzinfo=None)))
            found = wall.replace(tzinfo=UTC) - offset
            change = self._change(since, found)
            if change is None or found < change:
                return found
            since, before, offset = change, change - SECOND, self._offset(change)

    def _moment(self, wall: datetime) -> datetime:
        """When a wall clock shows `wall` for the first time; if it never does, the end of the gap."""
        moment = wall.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
        if self._wall(moment) == wall:
            return moment
        before = wall.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        return self._change(before, moment) or moment

    def _change(self, since: datetime, until: datetime) -> datetime | None:
        """The first moment after `since`, up to `until`, at which the clocks are changed."""
        offset = self._offset(since)
        while since < until:
            then = min(since + DAY, until)
            if self._offset(then) != offset:
                return self._narrow(since, then, offset)
            since = then
        return None

    def _narrow(self, since: datetime, until: datetime, offset: timedelta) -> datetime:
        since = since.replace(microsecond=0)
        while until - since > SECOND:
            middle = since + timedelta(seconds=(until - since) // SECOND // 2)
            since, until = (middle, until) if self._offset(middle) == offset else (since, middle)
        return until

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self._zone).utcoffset() or timedelta()


def walls(fields: str, after: datetime) -> Iterator[datetime]:
    """The wall clocks that fit an expression, after a plain one."""
    from cronsim import CronSim  # only who has schedules pays for it

    return CronSim(fields, after)


@lru_cache(maxsize=64)
def find_zone(tz: str) -> tzinfo:
    """The time zone of a name. Raises `ConfigurationError`."""
    from zoneinfo import ZoneInfo

    if tz == "UTC":
        return UTC
    try:
        return ZoneInfo(tz)
    except (OSError, ValueError, KeyError):
        raise ConfigurationError(
            f"tz={shown(tz)} is no time zone that is known here: use an IANA name, as in tz='Europe/Berlin'; "
            "if it is one, install the package tzdata"
        ) from None


@lru_cache(maxsize=256)
def _check(expression: str, fields: str) -> None:
    from cronsim import CronSimError

    try:
        if next(walls(fields, datetime(2024, 1, 1)), None) is None:  # noqa: DTZ001 (a plain wall clock)
            raise CronSimError("no date fits it")
    except (CronSimError, AssertionError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"cron={shown(expression)} cannot be used ({error}): it has five fields (minute, hour, day of the month, "
            "month, day of the week), seconds perhaps in front, as in '*/5 * * * *', or is a nickname, as @daily"
        ) from None
