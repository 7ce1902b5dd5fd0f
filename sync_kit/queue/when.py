"""When something that is sent is to be taken: options that jobs and messages share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sync_kit.errors import ConfigurationError
from sync_kit.options import Seconds, refuse_unknown, seconds, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

LATEST = 7_258_118_400.0
"""The year 2200, in epoch seconds."""
HIGHEST = 100
"""Priorities go from minus this to this."""


@dataclass(frozen=True, slots=True)
class When:
    """`delay` in seconds, `at` in epoch seconds (0 for none), and the priority."""

    delay: float = 0.0
    at: float = 0.0
    priority: int = 0


NOW = When()


def read_when(
    verb: str, delay: Seconds | None, at: object, priority: object, unknown: Mapping[str, object] | None = None
) -> When:
    """Check the options of `verb`. Raises `ConfigurationError`."""
    refuse_unknown(verb, unknown or {}, ("delay", "at", "priority"))
    if delay is not None and at is not None:
        raise ConfigurationError(f"{verb} takes delay= or at=, not both")
    pause = 0.0 if delay is None else seconds("delay", delay)
    return When(pause, read_at(at), whole("priority", priority, least=-HIGHEST, most=HIGHEST))


def read_at(at: object) -> float:
    """Epoch seconds, 0 for none. Raises `ConfigurationError` for a naive datetime and for numbers that are no time."""
    if at is None:
        return 0.0
    if isinstance(at, datetime):
        if at.tzinfo is None or at.utcoffset() is None:
            raise ConfigurationError(
                f"at={at!r} has no time zone: use an aware datetime, as datetime.now(timezone.utc)"
            )
        return read_at(at.timestamp())
    if isinstance(at, (int, float)) and LATEST < at < math.inf:
        raise ConfigurationError(f"at={at!r} is after the year 2200: epoch seconds are meant, not milliseconds")
    if isinstance(at, (bool, timedelta)) or not isinstance(at, (int, float)) or not math.isfinite(at) or at <= 0:
        raise ConfigurationError(
            f"at must be an aware datetime or epoch seconds, not {at!r}; for a time span use delay="
        )
    return float(at)
