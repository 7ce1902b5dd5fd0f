"""A rule as a value: so many units in so long a window."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sync_kit.errors import ConfigurationError
from sync_kit.options import Seconds, seconds, whole

BUCKETS = 20
"""Parts of a window. A refused call waits at most one part longer than a window."""

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RULE = re.compile(r"\s*(?P<limit>\d{1,10})\s*/\s*(?P<unit>[a-z]+)\s*", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """At most `limit` units in any span of `window` seconds.

    Raises:
        ConfigurationError: `limit` is not a whole number of at least 1, or `window` not from 0.1 s to a year.
    """

    limit: int
    window: float

    def __init__(self, limit: int, window: Seconds) -> None:
        object.__setattr__(self, "limit", whole("limit", limit, least=1))
        object.__setattr__(self, "window", seconds("window", window, least=0.1, most=366 * 86400))

    @classmethod
    def parse(cls, text: object) -> Rule:
        """Read a rule such as `"100/minute"`; units are second, minute, hour and day.

        Raises:
            ConfigurationError: the text is not a rule.
        """
        match = _RULE.fullmatch(text) if isinstance(text, str) else None
        if match is None or match["unit"] not in _UNITS:
            raise ConfigurationError(
                f'{text!r} is not a rate limit: write a number, "/" and one of {", ".join(_UNITS)}, as in "100/minute"'
            )
        return cls(int(match["limit"]), _UNITS[match["unit"]])

    @property
    def bucket_ms(self) -> int:
        """Milliseconds of one bucket, rounded up: the window that is kept is never shorter than the one asked for."""
        return -(-round(self.window * 1000) // BUCKETS)


def read_rule(rule: str | None, limit: int | None, window: Seconds | None) -> Rule:
    """The rule of a limiter's arguments: a text, or limit and window. Raises `ConfigurationError`."""
    if rule is not None:
        if limit is not None or window is not None:
            raise ConfigurationError("give a rate limit as text or as limit= and window=, not both")
        return Rule.parse(rule)
    if limit is None or window is None:
        raise ConfigurationError('a rate limit needs limit= and window=, or a text such as "100/minute"')
    return Rule(limit, window)
