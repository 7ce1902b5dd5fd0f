"""What one request has been charged, and what its response says of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from sync_kit import RateLimitError, SyncKitError
from sync_kit.ratelimit.headers import FIELDS, joined_fields, problem_body
from sync_kit_starlette._answers import respond

if TYPE_CHECKING:
    from collections.abc import Awaitable, MutableMapping

    from starlette.datastructures import MutableHeaders
    from starlette.responses import Response
    from starlette.types import Message, Send

    from sync_kit import Decision, RateLimiter

log = logging.getLogger("sync_kit")

PLACE = "sync_kit.charges"
RETRY_AFTER = "Retry-After"
STARTS = ("http.response.start", "websocket.http.response.start")
_NAMES = {name: name.lower().encode() for name in FIELDS}


class Charge(NamedTuple):
    """One decision on a request, who made it, and whether it is given back if another limit refuses the request."""

    limiter: RateLimiter
    decision: Decision
    returned: bool


class Charges:
    """The decisions on one request, in their order. A limiter charges a key once, whoever asks and how often.

    Limiters of one name and the same windows share a counter: it is charged once too, and each decides on that.

    Attributes:
        announced: whether somebody around will add their header fields when the response starts.
        legacy: whether with `X-RateLimit-*`.
        silent: whether without any but `Retry-After`.
    """

    __slots__ = ("announced", "legacy", "made", "silent")

    def __init__(self) -> None:
        self.made: list[Charge] = []
        self.announced = False
        self.legacy = False
        self.silent = False

    async def charge(self, limiter: RateLimiter, key: str | int, cost: int, *, returned: bool) -> Charge:
        """Spend `cost` units of `key`, unless this limiter did for this request before.

        If that is refused, what was spent before is given back, so far as it is `returned`.
        """
        made, spent = self._so_far(limiter, str(key)) if self.made else (None, 0)
        if made is not None:
            return made
        decision = await limiter.check(key, cost=max(0, cost - spent) if spent else cost)
        if decision.limited:
            await self._give_back()
        return self.add(limiter, decision, returned=returned)

    def add(self, limiter: RateLimiter, decision: Decision, *, returned: bool) -> Charge:
        """Note what was decided."""
        charge = Charge(limiter, decision, returned)
        self.made.append(charge)
        return charge

    def _so_far(self, limiter: RateLimiter, key: str) -> tuple[Charge | None, int]:
        """The charge that stands for one of `limiter`, and what was spent on its counter."""
        shared = [charge for charge in self.made if _share(charge, limiter, key)]
        counted = [charge for charge in shared if not charge.decision.shadow]
        same = (charge for charge in counted if _same_rules(charge.limiter, limiter, charge.decision.key))
        return next(same, None), sum(charge.decision.cost for charge in counted)

    async def _give_back(self) -> None:
        """Undo what was charged for a request that another limit refuses. What cannot be undone is logged."""
        for charge in [charge for charge in self.made if charge.returned]:
            self.made.remove(charge)
            try:
                await charge.limiter.refund(charge.decision)
            except SyncKitError as error:
                log.warning("limiter %r: a refused request stays charged: %s", charge.limiter.name, error)

    def fields(self) -> dict[str, str]:
        """The header fields that tell of all decisions."""
        if self.silent:
            refused = [charge.decision for charge in self.made if charge.decision.limited]
            return {name: value for name, value in joined_fields(refused).items() if name == RETRY_AFTER}
        return joined_fields([charge.decision for charge in self.made], legacy=self.legacy)

    def write(self, headers: MutableHeaders) -> None:
        """Put the fields into the headers of a response, unless somebody around does."""
        if not self.announced:
            headers.update(self.fields())

    def announcing(self, send: Send) -> Send:
        """A `send` that adds the fields when the response starts, but for those that are there already.

        It is no coroutine of its own: it is called for each piece of a body.
        """

        def announcing(message: Message) -> Awaitable[None]:
            if message["type"] in STARTS:
                headers = list(message.get("headers", ()))
                there = [name for name, _ in headers]
                for field, value in self.fields().items():
                    name = _NAMES[field]
                    if name not in there:
                        headers.append((name, value.encode()))
                message = {**message, "headers": headers}
            return send(message)

        return announcing

    def refusal(self, refused: Charge) -> tuple[RateLimitError, Response]:
        """The error of a refused request, and the response that it is answered with if the app has no other."""
        decision = refused.decision
        before = [charge.decision for charge in self.made if charge is not refused]
        body = problem_body(decision, before=before)
        return RateLimitError(decision.limiter, decision), respond(body, self.fields())


def charges_of(scope: MutableMapping[str, Any]) -> Charges:
    """The charges of the request (or WebSocket) with this scope."""
    charges: Charges | None = scope.get(PLACE)
    if charges is None:
        charges = scope[PLACE] = Charges()
    return charges


def _share(charge: Charge, limiter: RateLimiter, key: str) -> bool:
    """Whether `limiter` counts `key` where `charge` was made."""
    one = charge.limiter
    if charge.decision.key != key or one.name != limiter.name or one.kit is not limiter.kit:
        return False
    return one is limiter or one.checks().counter_of(key) == limiter.checks().counter_of(key)


def _same_rules(one: RateLimiter, other: RateLimiter, key: str) -> bool:
    return one is other or one.checks().settings.rules_for(key) == other.checks().settings.rules_for(key)
