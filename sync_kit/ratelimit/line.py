"""Who waits for a counter, in order of arrival, across the threads and event loops of a process."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Line:
    """The waiting lines of all counters. Whoever is first in one may ask Redis; the others wait for their turn."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Callable[[], object]]] = {}
        self._lock = threading.Lock()

    def join(self, counter: str, wake: Callable[[], object]) -> bool:
        """Stand in line; says whether it is one's turn at once. Else `wake` is called, from any thread, when it is."""
        with self._lock:
            line = self._lines.setdefault(counter, deque())
            line.append(wake)
            return len(line) == 1

    def leave(self, counter: str, wake: Callable[[], object]) -> None:
        """Leave the line, from wherever in it; the next one is called if it was one's turn."""
        with self._lock:
            line = self._lines[counter]
            was_first = line[0] == wake
            line.remove(wake)
            following = line[0] if line and was_first else None
            if not line:
                del self._lines[counter]
        if following is not None:
            following()
