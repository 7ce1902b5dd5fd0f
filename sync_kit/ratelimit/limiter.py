"""The facade of rate limiting."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio

from sync_kit._io.aio import to_the_end
from sync_kit.errors import ConfigurationError, RateLimitError, SyncKitError
from sync_kit.kit import SyncKit, default_kit
from sync_kit.options import Seconds, refuse_unknown, seconds
from sync_kit.ratelimit.checks import Checks
from sync_kit.ratelimit.decision import refuse
from sync_kit.ratelimit.rules import read_options
from sync_kit.ratelimit.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal

    from typing_extensions import Never

    from sync_kit.ratelimit.blocking import BlockingRateLimiter
    from sync_kit.ratelimit.decision import Decision
    from sync_kit.ratelimit.events import Event
    from sync_kit.ratelimit.rule import Algorithm, Rule
    from sync_kit.ratelimit.settings import Exempt, RulesOf

log = logging.getLogger("sync_kit")

DEADLINE = 0.25
_LOOK_AGAIN = 1.0
OPTIONS = (
    *("limit", "window", "algorithm", "burst", "precision", "rules", "on_error", "replicas", "deadline"),
    *("deny_cache", "shadow", "exempt", "observers", "kit"),
)


class RateLimiter:
    """At most `limit` units in any window-long span, for each key, on all processes together.

    Several rules are one decision: all of them are charged, or none. A refused call costs nothing.
    See `sync_kit/ratelimit/README.md`.

    Args:
        name: counters belong to it; two limiters of one name and the same windows share them.
        rules (positional): texts such as `"100/minute"` or `Rule` values; or
        limit, window: units, and seconds (or a timedelta), with
        algorithm, burst, precision: see `Rule`; or
        rules: texts, `Rule` values, or a function of the key that returns them (plan tiers). It is called for
            every check, so it must be quick.
        on_error: what to do when Redis cannot be asked: `"raise"` `Unavailable`, `"allow"`, `"deny"`, or
            `"local"`: count in this process, every limit divided by `replicas`. All but the first are logged.
        deadline: seconds to wait for the answer once connected.
        deny_cache: answer for a key that is known to be refused without asking Redis again.
        shadow: only watch: refuse nothing, but say in `Decision.shadow` what would have been refused.
        exempt: keys that are never limited: a collection, or a function of the key.
        observers: functions that are called with every `Event`, in the checking thread or task.
        kit: where to count; the default kit if not given.

    Raises:
        ConfigurationError: an argument is wrong; the message says how to fix it.
    """

    def __init__(
        self,
        name: str,
        *texts: str | Rule,
        limit: int | None = None,
        window: Seconds | None = None,
        algorithm: Algorithm | None = None,
        burst: int | None = None,
        precision: int | None = None,
        rules: RulesOf | None = None,
        on_error: Literal["raise", "allow", "deny", "local"] = "raise",
        replicas: int = 1,
        deadline: Seconds = DEADLINE,
        deny_cache: bool = True,
        shadow: bool = False,
        exempt: Exempt | None = None,
        observers: Iterable[Callable[[Event], object]] = (),
        kit: SyncKit | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("RateLimiter", unknown, OPTIONS)
        options = (limit, window, algorithm, burst, precision)
        if rules is not None and (texts or any(option is not None for option in options)):
            raise ConfigurationError("rules= says it all: give no other rate limit beside it")
        self._settings = Settings(
            name,
            rules or read_options(texts, *options),
            on_error=on_error,
            replicas=replicas,
            deadline=deadline,
            deny_cache=deny_cache,
            shadow=shadow,
            exempt=exempt,
            observers=observers,
        )
        self._kit = kit
        self._bound: Checks | None = None

    def __repr__(self) -> str:
        return f"<RateLimiter {self.name!r} {self._settings}>"

    @property
    def name(self) -> str:
        """The name of the limiter."""
        return self._settings.name

    @property
    def rules(self) -> tuple[Rule, ...] | None:
        """Its rules, shortest window first; None when they are a function of the key."""
        return self._settings.fixed.all if self._settings.fixed else None

    @property
    def kit(self) -> SyncKit:
        """The kit this limiter counts on."""
        return self._kit or default_kit()

    @property
    def blocking(self) -> BlockingRateLimiter:
        """The same limiter for code without an event loop."""
        from sync_kit.ratelimit.blocking import BlockingRateLimiter

        return BlockingRateLimiter(self)

    async def check(self, key: str | int, *, cost: int = 1) -> Decision:
        """Spend `cost` units of `key` if every rule allows it. Never raises for being limited.

        Raises:
            Unavailable: Redis cannot be asked, and `on_error` is `"raise"`.
        """
        checks = self.checks()
        return await checks.kit.driver.run(checks.take(key, cost, True))

    async def check_or_raise(self, key: str | int, *, cost: int = 1) -> Decision:
        """Like `check`, but raises `RateLimitError` when refused."""
        return self.or_raise(await self.check(key, cost=cost))

    async def check_many(self, keys: Iterable[str | int] | Mapping[str | int, int], *, cost: int = 1) -> list[Decision]:
        """Check many keys in one round trip, each on its own; a mapping names the cost of each. In their order.

        Raises:
            Unavailable, ServerError: some could not be decided. What was decided for the others stands, and is
                in `error.decisions`: in order, with None for those that failed.
        """
        checks = self.checks()
        return await checks.kit.driver.run(checks.take_many(costs(keys, cost)))

    async def peek(self, key: str | int, *, cost: int = 1) -> Decision:
        """What a `check` of `cost` would answer now, without spending."""
        checks = self.checks()
        return await checks.kit.driver.run(checks.take(key, cost, False))

    async def wait(self, key: str | int, *, cost: int = 1, timeout: Seconds | None = None) -> Decision:
        """Sleep until `cost` units of `key` are admitted, in order of arrival within this process; spends them.

        When it is cancelled, nothing stays spent.

        Args:
            timeout: seconds to wait at most; None for as long as it takes.

        Raises:
            RateLimitError: it will not be admitted within `timeout`, or never. Raised as soon as that is known.
            Unavailable: Redis cannot be asked, and `on_error` is `"raise"`.
        """
        ends = deadline_of(timeout)
        checks = self.checks()
        if checks.never(key, cost):
            self.or_raise(await self.peek(key, cost=cost))
        counter, line = checks.counter_of(key), checks.shared.line
        turn, loop = anyio.Event(), checks.kit.home().loop

        def wake() -> None:
            loop.call_soon(turn.set)

        first = line.join(counter, wake)
        try:
            if not first:
                await self._stand_in_line(turn, key, cost, ends)
            while True:
                decision = await self._check_or_give_back(key, cost)
                if decision.allowed:
                    return decision
                await anyio.sleep(self.pause(decision, ends))
        finally:
            line.leave(counter, wake)

    async def reset(self, key: str | int) -> None:
        """Give `key` its whole limit back.

        Raises:
            Unavailable: Redis cannot be reached, whatever `on_error` says.
        """
        checks = self.checks()
        await checks.kit.driver.run(checks.reset(key))

    async def refund(self, decision: Decision) -> bool:
        """Give back what `decision` has spent, where it was spent. Repeating it gives back nothing more.

        Returns:
            Whether this call gave something back: not when it was done before, nothing was spent, or the
            counter has begun anew since (a reset, a server clock that was set back).

        Raises:
            ConfigurationError: the decision is another limiter's.
            Unavailable: Redis cannot be reached, whatever `on_error` says; repeating the call is safe.
        """
        checks = self.checks()
        return await checks.kit.driver.run(checks.refund(decision))

    def checks(self) -> Checks:
        """The flows on the present kit. For the rooms of sync_kit itself."""
        kit, bound = self._kit or default_kit(), self._bound
        if bound is None or bound.kit is not kit:
            bound = self._bound = Checks(self._settings, kit)
            bound.shared.made(self.name)
        return bound

    def or_raise(self, decision: Decision) -> Decision:
        """The decision if it allows; raises `RateLimitError` otherwise."""
        if decision.limited:
            raise RateLimitError(self.name, decision)
        return decision

    def pause(self, decision: Decision, ends: float | None) -> float:
        """Seconds to sleep after a refusal; raises `RateLimitError` when there is not so much time.

        No more than a second: somebody may give units back meanwhile.
        """
        late = ends is not None and time.monotonic() + decision.retry_after > ends
        if late or math.isinf(decision.retry_after):
            raise RateLimitError(self.name, decision)
        return min(decision.retry_after, _LOOK_AGAIN)

    async def _stand_in_line(self, turn: anyio.Event, key: str | int, cost: int, ends: float | None) -> None:
        """Wait until others of this process have had their turn; raises `RateLimitError` when that takes too long."""
        seen = await self.peek(key, cost=cost)
        if seen.limited:
            self.pause(seen, ends)
        with anyio.move_on_after(None if ends is None else ends - time.monotonic()):
            await turn.wait()
        if not turn.is_set():
            raise RateLimitError(self.name, refuse(seen))

    async def _check_or_give_back(self, key: str | int, cost: int) -> Decision:
        """A check that is not interrupted half-way: cancelled meanwhile, it gives back what it spent."""
        decision, cancelled = await to_the_end(lambda: self.check(key, cost=cost))
        if cancelled is None:
            return decision
        try:
            await to_the_end(lambda: self.refund(decision))
        except SyncKitError as error:
            log.warning("limiter %r: a cancelled wait could not give back what it spent: %s", self.name, error)
        raise cancelled


def costs(keys: Iterable[str | int] | Mapping[str | int, int], cost: int) -> list[tuple[str | int, int]]:
    """Keys and what each of them costs. Raises `ConfigurationError` for a single text."""
    if isinstance(keys, (str, bytes)):
        raise ConfigurationError(
            "check_many takes a collection of keys, or a mapping of keys to costs: use check for one"
        )
    return list(keys.items()) if isinstance(keys, Mapping) else [(key, cost) for key in keys]


def deadline_of(timeout: Seconds | None) -> float | None:
    """When `timeout` seconds from now are over (monotonic); None for no limit."""
    return None if timeout is None else time.monotonic() + seconds("timeout", timeout)
