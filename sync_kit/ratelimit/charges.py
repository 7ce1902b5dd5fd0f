"""What one request has been charged, for adapters of web frameworks. Knows no framework, and asks nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sync_kit.ratelimit.headers import joined_fields

if TYPE_CHECKING:
    from sync_kit.ratelimit.decision import Decision
    from sync_kit.ratelimit.limiter import RateLimiter

RETRY_AFTER = "Retry-After"


class Charge(NamedTuple):
    """One decision on a request, who made it, and whether it is given back if another limit refuses the request."""

    limiter: RateLimiter
    decision: Decision
    returned: bool


class Ledger:
    """The decisions on one request, in their order. A limiter charges a key once, whoever asks and how often.

    Limiters of one name and the same windows share a counter: it is charged once too, and each decides on that.

    Attributes:
        made: what was charged.
        legacy: whether the fields come with `X-RateLimit-*`.
        silent: whether there are none but `Retry-After`.
    """

    __slots__ = ("legacy", "made", "silent")

    def __init__(self) -> None:
        self.made: list[Charge] = []
        self.legacy = False
        self.silent = False

    def add(self, limiter: RateLimiter, decision: Decision, *, returned: bool) -> Charge:
        """Note what was decided."""
        charge = Charge(limiter, decision, returned)
        self.made.append(charge)
        return charge

    def so_far(self, limiter: RateLimiter, key: str) -> tuple[Charge | None, int]:
        """The charge that stands for one of `limiter`, and what was spent on its counter."""
        shared = [charge for charge in self.made if _share(charge, limiter, key)]
        counted = [charge for charge in shared if not charge.decision.shadow]
        same = (charge for charge in counted if _same_rules(charge.limiter, limiter, charge.decision.key))
        return next(same, None), sum(charge.decision.cost for charge in counted)

    def take_back(self) -> list[Charge]:
        """Forget what is to be given back, now that a limit refuses the request, and return it."""
        back = [charge for charge in self.made if charge.returned]
        self.made = [charge for charge in self.made if not charge.returned]
        return back

    def fields(self) -> dict[str, str]:
        """The header fields that tell of all decisions."""
        if self.silent:
            refused = [charge.decision for charge in self.made if charge.decision.limited]
            return {name: value for name, value in joined_fields(refused).items() if name == RETRY_AFTER}
        return joined_fields([charge.decision for charge in self.made], legacy=self.legacy)


def _share(charge: Charge, limiter: RateLimiter, key: str) -> bool:
    """Whether `limiter` counts `key` where `charge` was made."""
    one = charge.limiter
    if charge.decision.key != key or one.name != limiter.name or one.kit is not limiter.kit:
        return False
    return one is limiter or one.checks().counter_of(key) == limiter.checks().counter_of(key)


def _same_rules(one: RateLimiter, other: RateLimiter, key: str) -> bool:
    return one is other or one.checks().settings.rules_for(key) == other.checks().settings.rules_for(key)
