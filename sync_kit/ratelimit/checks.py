"""The flows of a limiter: what is decided here, what is asked of Redis, and what is made of the answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sync_kit._io.flow import Batch, Eval
from sync_kit._io.keys import KeyPattern
from sync_kit._io.scripts import Script
from sync_kit.errors import ConfigurationError, SyncKitError, Unavailable
from sync_kit.options import whole
from sync_kit.ratelimit.decision import Decision, uncounted
from sync_kit.ratelimit.events import of_decision, tell
from sync_kit.ratelimit.outage import Outage
from sync_kit.ratelimit.shared import shared_of
from sync_kit.ratelimit.take import Take

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sync_kit._io.flow import Flow
    from sync_kit.kit import SyncKit
    from sync_kit.ratelimit.rules import Rules
    from sync_kit.ratelimit.settings import Settings

REFUND = Script.load(__name__, "refund")
FORGET = Script.load(__name__, "forget")

_SHAPES = 100
"""Sets of windows for which the keys of a limiter are kept at hand."""


class Checks:
    """The flows of one limiter on one kit."""

    def __init__(self, settings: Settings, kit: SyncKit) -> None:
        self.kit = kit
        self.settings = settings
        self.shared = shared_of(kit)
        self._outage = Outage(settings, self.shared)
        self._denials = self.shared.denials if settings.deny_cache else None
        self._patterns: dict[str, KeyPattern] = {}

    def take(self, key: str | int, cost: int, spend: bool) -> Flow[Decision]:
        """Check (`spend`) or peek."""
        asked = self._ask(key, cost, spend)
        if isinstance(asked, Take):
            if not self._outage.breaker.lets_pass(asked.asked):
                asked = self._outage.instead(asked, self._outage.still_away())
            else:
                try:
                    reply = yield asked
                except GeneratorExit:  # cancelled
                    self._outage.given_up(asked)
                    raise
                except SyncKitError as error:
                    reply = error
                asked = self._settled(asked, reply)
        return asked if self.settings.observers is None else self._observed(asked)

    def take_many(self, keys: Sequence[tuple[str | int, int]]) -> Flow[list[Decision]]:
        """Check many keys, each on its own, in one round trip."""
        asked: list[Take | Decision] = [self._ask(key, cost, True) for key, cost in keys]
        sent = [ask for ask in asked if isinstance(ask, Take)]
        if sent and self._outage.breaker.lets_pass(sent[0].asked):
            settled = self._each((yield Batch(sent)), sent, self._settled)
        else:
            settled = self._each([self._outage.still_away() for _ in sent], sent, self._outage.instead)
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
            return settings.decide(uncounted(rules, allowed=True), rules, str(key), cost, "exempt")
        if self._denials is not None and spend:
            known = self._denials.known(counter, rules, cost, settings.shadow, now)
            if known is not None:
                return known
        return Take(counter, str(key), rules, cost, spend, settings.deadline, now, self.shared.denials.age)

    def _settled(self, ask: Take, reply: Any) -> Decision:
        """The decision on a call that was sent."""
        if isinstance(reply, Unavailable):
            return self._outage.failed(ask, reply)
        self._outage.answered(reply)
        if isinstance(reply, Exception):
            raise reply
        decision = self.settings.decide(reply, ask.rules, ask.key, ask.cost, "redis", spent=ask.spend)
        if self._denials is not None:
            if reply[0] == b"ok":
                self._denials.admitted(ask.counter, ask.cost)
            elif ask.spend:
                self._denials.learn(ask.counter, ask.rules, decision, reply, (ask.asked, ask.age))
        return decision

    def _observed(self, decision: Decision) -> Decision:
        if self.settings.observers is not None:
            tell(self.settings.observers, of_decision(decision))
        return decision
