"""What all limiters of a kit share in this process."""

from __future__ import annotations

import logging
import os
import weakref
from typing import TYPE_CHECKING

from sync_kit.ratelimit.breaker import Breaker
from sync_kit.ratelimit.denials import Denials
from sync_kit.ratelimit.line import Line

if TYPE_CHECKING:
    from sync_kit.kit import SyncKit
    from sync_kit.ratelimit.outage import Outage

log = logging.getLogger("sync_kit")

MANY = 100
"""So often a limiter of one name may be made before this is said to be a mistake."""
MANY_NAMES = 1000


class Shared:
    """What all limiters of a kit share in this process."""

    def __init__(self) -> None:
        self._made: dict[str, int] = {}
        self.breakers: dict[float, Breaker] = {}
        self.denials = Denials()
        self.line = Line()
        self.told_of_proxies = False
        self.watched: weakref.WeakSet[Outage] = weakref.WeakSet()

    def breaker(self, deadline: float) -> Breaker:
        """The breaker of a deadline: what is too slow for one limiter need not be for another."""
        return self.breakers.setdefault(deadline, Breaker())

    def made(self, name: str) -> None:
        """Note that a limiter was made and used. One for each request works, slowly; it is warned of, once a name."""
        times = self._made[name] = self._made.get(name, 0) + 1
        if times == MANY:
            log.warning("limiter %r was made %d times: make it once, where modules are loaded", name, MANY)
        if len(self._made) > MANY_NAMES:
            self._made.clear()
            said = "more than %d limiters were made, last %r: make one for all users, and give the user as the key"
            log.warning(said, MANY_NAMES, name)

    def begin_anew(self) -> None:
        """In a forked child: locks and lines are the parent's, and so is what its threads were about to do."""
        for breaker in self.breakers.values():
            breaker.__init__()  # type: ignore[misc]
        self.denials.__init__()  # type: ignore[misc]
        self.line.__init__()  # type: ignore[misc]


_shared: weakref.WeakKeyDictionary[SyncKit, Shared] = weakref.WeakKeyDictionary()


def shared_of(kit: SyncKit) -> Shared:
    """What the limiters of `kit` share."""
    return _shared.setdefault(kit, Shared())


def _after_fork() -> None:
    for shared in list(_shared.values()):
        shared.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
