"""A rule as a value: so many units in so long a window, counted by one of three algorithms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_kit.errors import ConfigurationError
from sync_kit.options import Seconds, choice, label, seconds, shown, whole
from sync_kit.ratelimit.grammar import UNITS, parse

if TYPE_CHECKING:
    from typing import Literal

    Algorithm = Literal["sliding-window", "token-bucket", "fixed-window"]

ALGORITHMS = ("sliding-window", "token-bucket", "fixed-window")
PRECISION = 20
"""Buckets of a sliding window unless told otherwise."""
YEAR = 366 * 86400
_EXACT = 2**52
"""Whole numbers up to here are exact in Lua, with room for one sum."""


@dataclass(frozen=True, init=False, repr=False)
class Rule:
    """At most `limit` units in a window.

    Attributes:
        limit: units.
        window: seconds.
        algorithm: `"sliding-window"` (no window-long span ever admits more), `"token-bucket"` (GCRA: `burst`
            at once, then a steady `limit` in each window) or `"fixed-window"` (windows aligned to the clock).
        burst: what a full token bucket holds; `limit` for the other algorithms.
        precision: buckets of a sliding window, 3 to 200; a refused call waits at most one bucket too long.
        name: what the rule is called in decisions, events and HTTP fields; its text if not given.
        capacity: the most units that can be spent at once: the burst of a token bucket, else the limit.

    Raises:
        ConfigurationError: a value is out of its bounds, or an option does not belong to the algorithm.
    """

    limit: int
    window: float
    algorithm: str
    burst: int
    precision: int
    name: str
    capacity: int

    def __init__(
        self,
        limit: int,
        window: Seconds,
        *,
        algorithm: Algorithm | None = None,
        burst: int | None = None,
        precision: int | None = None,
        name: str | None = None,
    ) -> None:
        kind = choice("algorithm", algorithm or ("token-bucket" if burst is not None else ALGORITHMS[0]), ALGORITHMS)
        _belongs("burst", burst, kind, "token-bucket")
        _belongs("precision", precision, kind, "sliding-window")
        limit = whole("limit", limit, least=1)
        values = {
            "limit": limit,
            "window": seconds("window", window, least=0.1, most=YEAR),
            "algorithm": kind,
            "burst": whole("burst", limit if burst is None else burst, least=1),
            "precision": whole("precision", PRECISION if precision is None else precision, least=3, most=200),
        }
        self.__dict__.update(values)
        self.__dict__["name"] = str(self) if name is None else label("the name of a rule", name)
        self.__dict__["capacity"] = self.burst if kind == "token-bucket" else limit
        self._check()

    def __repr__(self) -> str:
        return f"<Rule {self}>" if self.name == str(self) else f"<Rule {self.name!r} {self}>"

    def __str__(self) -> str:
        unit = next((name for name, length in UNITS.items() if length == self.window), None)
        text = (
            f"{self.limit}/{unit}" if unit else f"{self.limit}/{f'{self.window:.6f}'.rstrip('0').rstrip('.')} seconds"
        )
        if self.algorithm == "token-bucket":
            return f"{text}/burst={self.burst}"
        if self.algorithm == "fixed-window":
            return f"{text}/algorithm=fixed-window"
        return text if self.precision == PRECISION else f"{text}/precision={self.precision}"

    @classmethod
    def parse(cls, text: object) -> Rule:
        """Read a rule such as `"100/minute"`, `"5 per 10 seconds"` or `"1000/hour/burst=50"`.

        Raises:
            ConfigurationError: the text is not a rule; the message points at the character.
        """
        options = parse(text)
        try:
            return cls(**options)
        except ConfigurationError as error:
            raise ConfigurationError(f"{text!r} is not a rate limit: {error}") from None

    @property
    def shape(self) -> str:
        """What of the rule is part of its counters' keys: limits may change on live data, windows may not."""
        width, buckets = self.width_ms, self.buckets
        if self.algorithm != "sliding-window":
            return f"{self.algorithm[0]}{width}"
        return f"w{width}" if buckets == PRECISION else f"w{width}x{buckets}"

    @property
    def width_ms(self) -> int:
        """Milliseconds of a bucket, rounded up: the window that is kept is never shorter than the one asked for."""
        return -(-math.ceil(round(self.window * 1000, 3)) // max(self.buckets, 1))

    @property
    def buckets(self) -> int:
        """Whole buckets that count beside the one that runs."""
        return self.precision if self.algorithm == "sliding-window" else 0

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """The rule as scripts take it: capacity, width_ms, buckets, rate."""
        return self.capacity, self.width_ms, self.buckets, self.limit if self.algorithm == "token-bucket" else 0

    def _check(self) -> None:
        if self.algorithm == "sliding-window" and self.window * 1000 < 5 * self.precision:
            raise ConfigurationError(
                f"precision must leave 5 ms to a bucket: at most {int(self.window * 200)} in {self.window:g} s, "
                f"not {self.precision}"
            )
        if self.algorithm == "token-bucket" and max(self.burst, self.limit) * self.width_ms > _EXACT:
            most = _EXACT // self.width_ms
            raise ConfigurationError(
                f"a token bucket of {self.window:g} s can hold at most {most} units: use a shorter window"
            )


def _belongs(option: str, value: object, algorithm: str, to: str) -> None:
    if value is not None and algorithm != to:
        raise ConfigurationError(f"{option}={shown(value)} belongs to {to!r}, not to {algorithm!r}: leave it out")
