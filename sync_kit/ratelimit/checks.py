"""The flows of a limiter: what is decided here, what is asked of Redis, and who decides when it cannot be asked."""

from __future__ import annotations

import logging
import os
import time
import weakref
from typing import TYPE_CHECKING, Any

from sync_kit._io.flow import Batch, Eval
from sync_kit._io.keys import KeyPattern
from sync_kit._io.scripts import Script
from sync_kit.errors import ConfigurationError, SyncKitError, Unavailable
from sync_kit.options import whole
from sync_kit.ratelimit.breaker import Breaker
from sync_kit.ratelimit.decision import Decision, decide
from sync_kit.ratelimit.denials import Denials
from sync_kit.ratelimit.events import Event, of_decision, tell
from sync_kit.ratelimit.line import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sync_kit._io.flow import Flow
    from sync_kit.kit import SyncKit
    from sync_kit.ratelimit.decision import DecidedBy
    from sync_kit.ratelimit.rules import Rules
    from sync_kit.ratelimit.settings import Settings

log = logging.getLogger("sync_kit")

TAKE = Script.load(__name__, "take")
REFUND = Script.load(__name__, "refund")
FORGET = Script.load(__name__, "forget")

_DENIED_FOR = 1000
"""Milliseconds of the pause that `on_error="deny"` asks for."""
_CALM = 1.0
"""Seconds without a failure after which the log says that Redis answers again."""
_SHAPES = 100
"""Sets of windows for which the keys of a limiter are kept at hand."""


class Shared:
    """What all limiters of a kit share in this process."""

    def __init__(self) -> None:
        self.breakers: dict[float, Breaker] = {}
        self.denials = Denials()
        self.line = Line()
        self.watched: weakref.WeakSet[Checks] = weakref.WeakSet()

    def breaker(self, deadline: float) -> Breaker:
        """The breaker of a deadline: what is too slow for one limiter need not be for another."""
        return self.breakers.setdefault(deadline, Breaker())

    def begin_anew(self) -> None:
        """In a forked child: locks and lines are the parent's, and so is what its threads were about to do."""
        self.breakers.clear()
        self.denials.__init__()  # type: ignore[misc]
        self.line.__init__()  # type: ignore[misc]


_shared: weakref.WeakKeyDictionary[SyncKit, Shared] = weakref.WeakKeyDictionary()


def _after_fork() -> None:
    for shared in list(_shared.values()):
        shared.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Take(Eval):
    """The call of `take.lua`, and what is needed to read its answer."""

    __slots__ = ("age", "asked", "cost", "counter", "key", "rules", "spend")

    def __init__(
        self, counter: str, key: str, rules: Rules, cost: int, spend: bool, deadline: float, asked: float, age: int
    ) -> None:
        self.script, self.keys, self.args = TAKE, (counter,), rules.call(cost, spend)
        self.deadline, self.repeat = deadline, False
        self.counter = counter
        self.key = key
        self.rules = rules
        self.cost = cost
        self.spend = spend
        self.asked = asked
        self.age = age


class Checks:
    """The flows of one limiter on one kit."""

    def __init__(self, settings: Settings, kit: SyncKit) -> None:
        self.kit = kit
        self.settings = settings
        self.shared = _shared.setdefault(kit, Shared())
        if settings.observers is not None:
            self.shared.watched.add(self)
        self._denials = self.shared.denials if settings.deny_cache else None
        self._patterns: dict[str, KeyPattern] = {}
        self._failing = False
        self._failed_at = 0.0

    def take(self, key: str | int, cost: int, spend: bool) -> Flow[Decision]:
        """Check (`spend`) or peek."""
        asked = self._ask(key, cost, spend)
        if isinstance(asked, Take):
            if not self._breaker.lets_pass(asked.asked):
                asked = self._instead(asked, self._still_away())
            else:
                try:
                    reply = yield asked
                except GeneratorExit:  # cancelled
                    self._given_up(asked)
                    raise
                except SyncKitError as error:
                    reply = error
                asked = self._settled(asked, reply)
        return asked if self.settings.observers is None else self._observed(asked)

    def take_many(self, keys: Sequence[tuple[str | int, int]]) -> Flow[list[Decision]]:
        """Check many keys, each on its own, in one round trip."""
        asked: list[Take | Decision] = [self._ask(key, cost, True) for key, cost in keys]
        sent = [ask for ask in asked if isinstance(ask, Take)]
        if sent and self._breaker.lets_pass(sent[0].asked):
            settled = self._each((yield Batch(sent)), sent, self._settled)
        else:
            settled = self._each([self._still_away() for _ in sent], sent, self._instead)
        outcomes = [settled[id(ask)] if isinstance(ask, Take) else self._observed(ask) for ask in asked]
        for error in (outcome for outcome in outcomes if isinstance(outcome, SyncKitError)):
            error.decisions = [one if isinstance(one, Decision) else None for one in outcomes]
            raise error
        return [outcome for outcome in outcomes if isinstance(outcome, Decision)]

    def _each(
        self, replies: Sequence[Any], sent: Sequence[Take], settle: Callable[[Take, Any], Decision]
    ) -> dict[int, Decision | SyncKitError]:
        """What each call of a batch ended with. Answers come first: with them, a failure is no outage."""
        outcomes: dict[int, Decision | SyncKitError] = {}
        pairs = sorted(zip(sent, replies, strict=True), key=lambda pair: isinstance(pair[1], Exception))
        for ask, reply in pairs:
            try:
                outcomes[id(ask)] = self._observed(settle(ask, reply))
            except SyncKitError as error:
                outcomes[id(ask)] = error
        return outcomes

    def refund(self, decision: Decision) -> Flow[bool]:
        """Give back what a decision has spent."""
        if decision.limiter != self.settings.name:
            raise ConfigurationError(
                f"the decision is one of limiter {decision.limiter!r}: give it to that one, "
                f"not to {self.settings.name!r}"
            )
        receipt = decision.receipt
        if receipt is None:
            return False
        counter = self._counter(decision.key, receipt.rules)
        marker = f"{counter}:r{receipt.id}"
        numbers = receipt.rules.at_the_higher_rate(self.settings.rules_for(decision.key))
        args = (receipt.era, receipt.spent_at, receipt.cost, *numbers)
        try:
            reply = yield Eval(REFUND, (counter, marker), args, repeat=True)
        finally:
            self.shared.denials.forget(counter)
        return bool(reply[0] == b"ok")

    def reset(self, key: str | int) -> Flow[None]:
        """Give a key its whole limit back."""
        counter = self.counter_of(key)
        try:
            yield Eval(FORGET, (counter,), (), repeat=True)
        finally:
            self.shared.denials.forget(counter)

    def counter_of(self, key: str | int) -> str:
        """The Redis key of what `key` has spent."""
        return self._counter(key, self.settings.rules_for(key))

    def never(self, key: str | int, cost: int) -> bool:
        """Whether `cost` is above what a rule ever admits. Raises `ConfigurationError` for a bad cost."""
        return whole("cost", cost) > min(rule.capacity for rule in self.settings.rules_for(key).all)

    @property
    def _breaker(self) -> Breaker:
        return self.shared.breaker(self.settings.deadline)

    def _counter(self, key: str | int, rules: Rules) -> str:
        pattern = self._patterns.get(rules.shape)
        if pattern is None:
            if len(self._patterns) >= _SHAPES:
                self._patterns.clear()
            pattern = self._patterns[rules.shape] = KeyPattern(
                self.kit.namespace, "rl", self.settings.name, rules.shape
            )
        return pattern.key(key)

    def _ask(self, key: str | int, cost: int, spend: bool) -> Take | Decision:
        """What to ask Redis, or the decision that needs no call."""
        settings = self.settings
        rules = settings.fixed or settings.rules_for(key)
        if type(cost) is not int or not 0 <= cost < 2**31:
            whole("cost", cost)
        counter, now = self._counter(key, rules), time.monotonic()
        if settings.exempt is not None and settings.exempt(str(key)):
            return self._decide(_made(rules, allowed=True), rules, str(key), cost, "exempt")
        if self._denials is not None and spend:
            known = self._denials.known(counter, rules, cost, settings.shadow, now)
            if known is not None:
                return known
        return Take(counter, str(key), rules, cost, spend, settings.deadline, now, self.shared.denials.age)

    def _settled(self, ask: Take, reply: Any) -> Decision:
        """The decision on a call that was sent."""
        if isinstance(reply, Unavailable):
            return self._failed(ask, reply)
        if self._breaker.answered(time.monotonic()):
            self._breaker_is("closed")
        if isinstance(reply, Exception):
            raise reply
        if self._failing:
            self._recovered()
        decision = self._decide(reply, ask.rules, ask.key, ask.cost, "redis", spent=ask.spend)
        if self._denials is not None:
            if reply[0] == b"ok":
                self._denials.admitted(ask.counter, ask.cost)
            elif ask.spend:
                self._denials.learn(ask.counter, ask.rules, decision, reply, (ask.asked, ask.age))
        return decision

    def _decide(
        self, reply: list[Any], rules: Rules, key: str, cost: int, by: DecidedBy, *, spent: bool = False
    ) -> Decision:
        settings = self.settings
        return decide(reply, rules, settings.name, key, cost, spent=spent, by=by, shadow=settings.shadow)

    def _failed(self, ask: Take, error: Unavailable) -> Decision:
        settings = self.settings
        if settings.observers is not None:
            labels = {"limiter": settings.name, "error": type(error).__name__, "on_error": settings.on_error}
            tell(settings.observers, Event("error", labels, error=error))
        if self._breaker.failed(ask.asked, error):
            self._breaker_is("open", error)
        return self._instead(ask, error)

    def _given_up(self, ask: Take) -> None:
        """The caller's own time limit was shorter: silence for half of the deadline is a failure too."""
        if time.monotonic() - ask.asked > self.settings.deadline / 2:
            error = Unavailable(f"Redis did not answer limiter {self.settings.name!r} before the call was cancelled")
            if self._breaker.failed(ask.asked, error):
                self._breaker_is("open", error)

    def _instead(self, ask: Take, error: Unavailable) -> Decision:
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
            return self._decide(reply, ask.rules, ask.key, ask.cost, "local")
        reply = _made(ask.rules, allowed=settings.on_error == "allow")
        return self._decide(reply, ask.rules, ask.key, ask.cost, "on_error")

    def _still_away(self) -> Unavailable:
        """The error while the breaker is open. It names no key: the one that failed may be another user's."""
        known = self._breaker.error
        reason = str(known).partition(" (")[0]
        error = Unavailable(f"Redis was not asked, because a moment ago it failed: {reason}")
        error.__cause__ = known.__cause__ if known else None
        return error

    def _recovered(self) -> None:
        """Redis answers. If some calls still fail, as with one dead node of a cluster, that is no recovery yet."""
        if time.monotonic() - self._failed_at > _CALM:
            self._failing = False
            log.warning("limiter %r: Redis answers again", self.settings.name)

    def _breaker_is(self, state: str, error: Exception | None = None) -> None:
        """Tell the observers of every limiter that shares the breaker."""
        for checks in list(self.shared.watched):
            observers = checks.settings.observers
            if observers is not None and checks.settings.deadline == self.settings.deadline:
                tell(observers, Event("breaker", {"limiter": checks.settings.name, "state": state}, error=error))

    def _observed(self, decision: Decision) -> Decision:
        if self.settings.observers is not None:
            tell(self.settings.observers, of_decision(decision))
        return decision


def _made(rules: Rules, *, allowed: bool) -> list[Any]:
    """A reply in the form of `take.lua` for a call that nobody counted."""
    reply: list[Any] = [b"ok" if allowed else b"limited", 0, 0]
    for rule in rules.all:
        pause = 0 if allowed else min(_DENIED_FOR, int(rule.window * 1000))
        reply += [rule.capacity if allowed else 0, pause, pause]
    return reply
