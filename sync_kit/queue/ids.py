"""Ids of jobs: UUID version 7 (RFC 9562), so they sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime, timezone
from uuid import UUID

_lock = threading.Lock()
_last = 0


def make_id() -> str:
    """A new id. Ids made by one process grow strictly: 12 bits behind the millisecond count within it."""
    global _last
    with _lock:
        _last = max(_last + 1, (time.time_ns() // 1_000_000) << 12)
        stamp = _last
    random = int.from_bytes(os.urandom(8), "big") & (2**62 - 1)
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | random
    return str(UUID(int=value))


def made_at(job_id: str) -> datetime:
    """When an id was made, by the clock of its maker (UTC)."""
    return datetime.fromtimestamp(int(job_id[:8] + job_id[9:13], 16) / 1000, timezone.utc)
