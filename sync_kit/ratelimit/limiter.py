"""The facade of rate limiting, and its flows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sync_kit._io.flow import Eval
from sync_kit._io.keys import KeyPattern
from sync_kit._io.scripts import Script
from sync_kit.errors import RateLimitError, Unavailable
from sync_kit.kit import SyncKit, default_kit
from sync_kit.options import Seconds, choice, label, refuse_unknown, seconds, whole
from sync_kit.ratelimit.decision import Decision, decide, undecided
from sync_kit.ratelimit.rule import BUCKETS, read_rule

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Never

    from sync_kit._io.flow import Flow

log = logging.getLogger("sync_kit")

TAKE = Script.load(__name__, "take")
FORGET = Script.load(__name__, "forget")
DEADLINE = 0.25


class RateLimiter:
    """At most `limit` units in any window-long span, for each key, on all processes together.

    The window slides in strict buckets: no span as long as the window ever admits more than `limit`.
    A refused call costs nothing. See `sync_kit/ratelimit/README.md`.

    Args:
        name: counters belong to it; two limiters of one name and window share them.
        rule: a text such as `"100/minute"`; or
        limit, window: units, and seconds (or a timedelta).
        on_error: what to do when Redis cannot be asked: `"raise"` `Unavailable`, `"allow"` or `"deny"`
            (both logged).
        deadline: seconds to wait for the answer once connected.
        kit: where to count; the default kit if not given.

    Raises:
        ConfigurationError: an argument is wrong; the message says how to fix it.
    """

    def __init__(
        self,
        name: str,
        rule: str | None = None,
        *,
        limit: int | None = None,
        window: Seconds | None = None,
        on_error: Literal["raise", "allow", "deny"] = "raise",
        deadline: Seconds = DEADLINE,
        kit: SyncKit | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("RateLimiter", unknown, ("limit", "window", "on_error", "deadline", "kit"))
        self.name = label("the name of a limiter", name)
        self.rule = read_rule(rule, limit, window)
        self.on_error = choice("on_error", on_error, ("raise", "allow", "deny"))
        self._deadline = seconds("deadline", deadline, above=0, most=60)
        self._kit = kit
        self._keys: tuple[str, KeyPattern] | None = None
        # encoded once: these are the same in every call
        self._fixed = tuple(str(number).encode() for number in (self.rule.limit, self.rule.bucket_ms, BUCKETS))
        self._failing = False

    def __repr__(self) -> str:
        return f"<RateLimiter {self.name!r} {self.rule.limit} in {self.rule.window:g} s>"

    @property
    def kit(self) -> SyncKit:
        """The kit this limiter counts on."""
        return self._kit or default_kit()

    @property
    def blocking(self) -> BlockingRateLimiter:
        """The same limiter for code without an event loop."""
        return BlockingRateLimiter(self)

    async def check(self, key: str | int, *, cost: int = 1) -> Decision:
        """Spend `cost` units of `key` if the limit allows it. Never raises for being limited.

        Raises:
            Unavailable: Redis cannot be asked, and `on_error` is `"raise"`.
        """
        kit = self.kit
        return await kit.driver.run(self.take_flow(kit, key, cost, 1))

    async def check_or_raise(self, key: str | int, *, cost: int = 1) -> Decision:
        """Like `check`, but raises `RateLimitError` when refused."""
        return self._raise_if_limited(await self.check(key, cost=cost))

    async def peek(self, key: str | int) -> Decision:
        """What a `check` of cost 1 would answer now, without spending."""
        kit = self.kit
        return await kit.driver.run(self.take_flow(kit, key, 1, 0))

    async def reset(self, key: str | int) -> None:
        """Give `key` its whole limit back.

        Raises:
            Unavailable: Redis cannot be reached, whatever `on_error` says.
        """
        kit = self.kit
        await kit.driver.run(self.reset_flow(kit, key))

    def take_flow(self, kit: SyncKit, key: str | int, cost: int, spend: int) -> Flow[Decision]:
        """The flow of `check` (`spend` 1) and `peek` (`spend` 0)."""
        rule = self.rule
        args: tuple[bytes | int, ...] = (*self._fixed, whole("cost", cost), spend)
        try:
            reply = yield Eval(TAKE, (self._counter(kit, key),), args, deadline=self._deadline)
        except Unavailable as error:
            return self._undecided(str(key), error)
        if self._failing:
            self._failing = False
            log.warning("limiter %r: Redis answers again", self.name)
        return decide(reply, rule.limit, str(key))

    def reset_flow(self, kit: SyncKit, key: str | int) -> Flow[None]:
        """The flow of `reset`."""
        yield Eval(FORGET, (self._counter(kit, key),), (), repeat=True)

    def _counter(self, kit: SyncKit, key: str | int) -> str:
        keys = self._keys
        if keys is None or keys[0] != kit.namespace:
            pattern = KeyPattern(kit.namespace, "rl", self.name, f"w{self.rule.bucket_ms}")
            keys = self._keys = (kit.namespace, pattern)
        return keys[1].key(key)

    def _undecided(self, key: str, error: Unavailable) -> Decision:
        if self.on_error == "raise":
            raise error
        if not self._failing:
            self._failing = True
            log.warning("limiter %r: Redis cannot be asked, on_error=%r decides: %s", self.name, self.on_error, error)
        return undecided(self.on_error == "allow", self.rule.limit, self.rule.window, key)

    def _raise_if_limited(self, decision: Decision) -> Decision:
        if decision.limited:
            raise RateLimitError(self.name, decision)
        return decision


class BlockingRateLimiter:
    """The blocking twin of a `RateLimiter`: the same verbs, without await."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    def check(self, key: str | int, *, cost: int = 1) -> Decision:
        """See `RateLimiter.check`."""
        kit = self._limiter.kit
        return kit.run_blocking(self._limiter.take_flow(kit, key, cost, 1), "limiter.check(...)")

    def check_or_raise(self, key: str | int, *, cost: int = 1) -> Decision:
        """See `RateLimiter.check_or_raise`."""
        return self._limiter._raise_if_limited(self.check(key, cost=cost))

    def peek(self, key: str | int) -> Decision:
        """See `RateLimiter.peek`."""
        kit = self._limiter.kit
        return kit.run_blocking(self._limiter.take_flow(kit, key, 1, 0), "limiter.peek(...)")

    def reset(self, key: str | int) -> None:
        """See `RateLimiter.reset`."""
        kit = self._limiter.kit
        kit.run_blocking(self._limiter.reset_flow(kit, key), "limiter.reset(...)")
