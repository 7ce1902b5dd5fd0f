"""The one daemon thread of a process that renews leases.

It is a thread so that a handler that blocks its event loop keeps its lease. What it renews says
itself how often, and whether its loop still beats: a deadlock is not kept alive for ever.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Protocol

log = logging.getLogger("sync_kit")

LINGER = 5.0
"""Seconds that the thread stays without work."""


class Renewable(Protocol):
    """A batch of leases that is renewed by one call."""

    @property
    def every(self) -> float:
        """Seconds between two renewals; may change."""
        ...

    def renew(self) -> None:
        """Renew what is held. Runs on the renewal thread; must end within some seconds and not raise."""
        ...


class RenewalThread:
    """Runs `renew` of everything that was added, each at its own pace, until it is removed.

    Adding and removing is cheap: the thread is only woken when it would sleep too long, and it
    stays for a while when there is nothing to do.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Renewable, float] = {}
        self._wakes = 0.0
        self._thread: threading.Thread | None = None

    def add(self, renewable: Renewable) -> None:
        """See to it that `renew` runs within `every` seconds from now, and then again and again."""
        due = time.monotonic() + renewable.every
        with self._changed:
            self._due[renewable] = min(due, self._due.get(renewable, due))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sync-kit-renewal", daemon=True)
                self._thread.start()
            elif due < self._wakes:
                self._changed.notify()

    def remove(self, renewable: Renewable) -> None:
        """Stop to renew. A renewal that is under way may still end after this returns."""
        with self._changed:
            self._due.pop(renewable, None)

    def _run(self) -> None:
        while self._turn():
            pass  # in a function of its own, so that nothing is kept alive by a variable while the thread waits

    def _turn(self) -> bool:
        renewable = self._next()
        if renewable is None:
            return False
        try:
            renewable.renew()
        except Exception:
            log.exception("renewing %r failed; tried again in %.1f s", renewable, renewable.every)
        return True

    def _next(self) -> Renewable | None:
        """Wait for the next one that is due; None after a while without any, which ends the thread."""
        with self._changed:
            bored = time.monotonic() + LINGER
            while True:
                now = time.monotonic()
                renewable = min(self._due, key=self._due.__getitem__, default=None)
                self._wakes = bored if renewable is None else self._due[renewable]
                if self._wakes <= now:
                    break
                self._changed.wait(self._wakes - now)
            if renewable is None:
                self._thread = None
            else:
                self._due[renewable] = now + renewable.every
            return renewable


renewals = RenewalThread()
"""The thread of this process; a forked child begins with a new one."""


def _after_fork() -> None:
    renewals.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
