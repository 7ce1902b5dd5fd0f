"""Ids of jobs: UUID version 7 (RFC 9562), so they sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime, timezone

_lock = threading.Lock()
_last = 0

AHEAD = 10_000 << 12
"""How far ids may be ahead of the clock: a clock that was wrong for a moment must not date all that follows."""


def make_id() -> str:
    """A new id. Ids of one process grow strictly while its clock does: 12 bits behind the ms count within it."""
    global _last
    with _lock:
        now = (time.time_ns() // 1_000_000) << 12
        _last = stamp = now if now < _last - AHEAD else max(_last + 1, now)
    random = int.from_bytes(os.urandom(8), "big") >> 2 | 0b10 << 62
    head, tail = f"{stamp:015x}", f"{random:016x}"
    return f"{head[:8]}-{head[8:12]}-7{head[12:]}-{tail[:4]}-{tail[4:]}"


def made_at(job_id: str) -> datetime:
    """When an id was made, by the clock of its maker (UTC)."""
    return datetime.fromtimestamp(int(job_id[:8] + job_id[9:13], 16) / 1000, timezone.utc)
