"""The keys that may live without a TTL: they are the data, and bounded. Everything else must expire."""

from __future__ import annotations

from fnmatch import fnmatchcase

PATTERNS = (
    "*:mx:{*}:fence",
    "*:sm:{*}:fence",
    "*:q:{*}:ready",
    "*:q:{*}:delayed",
    "*:q:{*}:leases",
    "*:q:{*}:body",
    "*:q:{*}:state",
    "*:q:{*}:error",
    "*:q:{*}:done",
    "*:q:{*}:failed",
    "*:q:{*}:wake",
    "*:q:{*}:paused",
)


def structural(key: str) -> bool:
    """Whether `key` is on the list."""
    return any(fnmatchcase(key, pattern) for pattern in PATTERNS)
