"""The keys that may live without a TTL: they are the data, and bounded. Everything else must expire."""

from __future__ import annotations

from fnmatch import fnmatchcase

QUEUE = (
    *("ready", "suspects", "delayed", "leases", "parked", "kinds", "body", "state", "error"),
    *("done", "failed", "cancelled", "wake", "paused", "workers", "records", "held", "unique"),
    *("results", "expiries", "waiters", "progress", "log"),
    *("schedules", "payloads", "turns", "timetable"),
)
PATTERNS = (
    "*:mx:{*}:fence",
    "*:sm:{*}:fence",
    *(f"*:{space}:{{*}}:{key}" for space in ("q", "mq") for key in QUEUE),
)


def structural(key: str) -> bool:
    """Whether `key` is on the list."""
    return any(fnmatchcase(key, pattern) for pattern in PATTERNS)
