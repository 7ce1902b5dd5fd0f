"""Time as this process had it: an upper bound on how long something took must not fail when the machine stood still."""

from __future__ import annotations

import threading
import time

PERIOD = 0.01


class Ticks:
    """`elapsed()` grows like the clock, but by at most two periods at once."""

    def __init__(self) -> None:
        self._seen = 0.0
        threading.Thread(target=self._count, name="ticks", daemon=True).start()

    def elapsed(self) -> float:
        """Seconds since the start, without those in which this process did not run."""
        return self._seen

    def _count(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(PERIOD)
            last, before = time.monotonic(), last
            self._seen += min(last - before, 2 * PERIOD)


elapsed = Ticks().elapsed
