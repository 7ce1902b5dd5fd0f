"""What a test left behind: keys that never expire, threads that never end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tests.support.structural import structural

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis


def leaked_keys(client: redis.Redis) -> list[str]:
    """Keys of the server without TTL that are not on the structural list."""
    keys = [bytes(key) for key in client.scan_iter(count=1000)]
    with client.pipeline(transaction=False) as asked:
        for key in keys:
            asked.pttl(key)
        times = asked.execute()
    names = (key.decode(errors="backslashreplace") for key, ttl in zip(keys, times, strict=True) if ttl == -1)
    return sorted(name for name in names if not structural(name))


def leaked_threads(before: Iterable[threading.Thread], patience: float = 2.0) -> list[str]:
    """Names of the non-daemon threads that are new since `before` and do not end within `patience`."""
    known, deadline = set(before), time.monotonic() + patience
    while True:
        new = [thread for thread in threading.enumerate() if thread not in known and not thread.daemon]
        if not new or time.monotonic() > deadline:
            return sorted(thread.name for thread in new)
        time.sleep(0.01)
