"""When Redis cannot be asked: who decides instead, and who is told."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sync_kit.errors import Unavailable
from sync_kit.ratelimit.decision import uncounted
from sync_kit.ratelimit.events import Event, tell

if TYPE_CHECKING:
    from sync_kit.ratelimit.decision import Decision
    from sync_kit.ratelimit.settings import Settings
    from sync_kit.ratelimit.shared import Shared
    from sync_kit.ratelimit.take import Take

log = logging.getLogger("sync_kit")

_CALM = 1.0
"""Seconds without a failure after which the log says that Redis answers again."""


class Outage:
    """What one limiter knows of the state of Redis. Its breaker is shared with the limiters of the same deadline."""

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self.settings = settings
        self.breaker = shared.breaker(settings.deadline)
        self._shared = shared
        self._failing = False
        self._failed_at = 0.0
        if settings.observers is not None:
            shared.watched.add(self)

    def answered(self, reply: object) -> None:
        """Redis has answered, be it with an error.

        If some calls still fail, as with one dead node of a cluster, that is no recovery yet.
        """
        now = time.monotonic()
        if self.breaker.answered(now):
            self._tell("closed")
        if self._failing and now - self._failed_at > _CALM and not isinstance(reply, Exception):
            self._failing = False
            log.warning("limiter %r: Redis answers again", self.settings.name)

    def failed(self, ask: Take, error: Unavailable) -> Decision:
        """The decision on a call that got no answer; raises `error` if that is the policy."""
        settings = self.settings
        if settings.observers is not None:
            labels = {"limiter": settings.name, "error": type(error).__name__, "on_error": settings.on_error}
            tell(settings.observers, Event("error", labels, error=error))
        if self.breaker.failed(ask.asked, error):
            self._tell("open", error)
        return self.instead(ask, error)

    def given_up(self, ask: Take) -> None:
        """The caller's own time limit was shorter: silence for half of the deadline is a failure too."""
        if time.monotonic() - ask.asked > self.settings.deadline / 2:
            error = Unavailable(f"Redis did not answer limiter {self.settings.name!r} before the call was cancelled")
            if self.breaker.failed(ask.asked, error):
                self._tell("open", error)

    def instead(self, ask: Take, error: Unavailable) -> Decision:
        """What `on_error` decides."""
        settings = self.settings
        if settings.on_error == "raise":
            raise error
        self._failed_at = time.monotonic()
        if not self._failing:
            self._failing = True
            log.warning(
                "limiter %r: Redis cannot be asked, on_error=%r decides: %s", settings.name, settings.on_error, error
            )
        if settings.local is not None:
            reply = settings.local.take(ask.counter, ask.rules, ask.cost, ask.spend, ask.asked)
            return settings.decide(reply, ask.rules, ask.key, ask.cost, "local")
        reply = uncounted(ask.rules, allowed=settings.on_error == "allow")
        return settings.decide(reply, ask.rules, ask.key, ask.cost, "on_error")

    def still_away(self) -> Unavailable:
        """The error while the breaker is open. It names no key: the one that failed may be another user's."""
        known = self.breaker.error
        reason = str(known).partition(" (")[0]
        error = Unavailable(f"Redis was not asked, because a moment ago it failed: {reason}")
        error.__cause__ = known.__cause__ if known else None
        return error

    def _tell(self, state: str, error: Exception | None = None) -> None:
        """Tell the observers of every limiter that shares the breaker."""
        for outage in list(self._shared.watched):
            settings = outage.settings
            if settings.observers is not None and outage.breaker is self.breaker:
                tell(settings.observers, Event("breaker", {"limiter": settings.name, "state": state}, error=error))
