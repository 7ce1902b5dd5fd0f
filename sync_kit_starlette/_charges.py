"""What one request has been charged, and what its response says of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sync_kit import RateLimitError, SyncKitError
from sync_kit.ratelimit.charges import Charge, Ledger
from sync_kit.ratelimit.headers import FIELDS, problem_body
from sync_kit_starlette._answers import respond

if TYPE_CHECKING:
    from collections.abc import Awaitable, MutableMapping

    from starlette.datastructures import MutableHeaders
    from starlette.responses import Response
    from starlette.types import Message, Send

    from sync_kit import RateLimiter

log = logging.getLogger("sync_kit")

PLACE = "sync_kit.charges"
STARTS = ("http.response.start", "websocket.http.response.start")
_NAMES = {name: name.lower().encode() for name in FIELDS}


class Charges(Ledger):
    """The decisions on one request.

    Attributes:
        announced: whether somebody around will add their header fields when the response starts.
    """

    __slots__ = ("announced",)

    def __init__(self) -> None:
        super().__init__()
        self.announced = False

    async def charge(self, limiter: RateLimiter, key: str | int, cost: int, *, returned: bool) -> Charge:
        """Spend `cost` units of `key`, unless this limiter did for this request before.

        If that is refused, what was spent before is given back, so far as it is `returned`.
        """
        made, spent = self.so_far(limiter, str(key)) if self.made else (None, 0)
        if made is not None:
            return made
        decision = await limiter.check(key, cost=max(0, cost - spent) if spent else cost)
        if decision.limited:
            await self._give_back()
        return self.add(limiter, decision, returned=returned)

    async def _give_back(self) -> None:
        """Undo what was charged for a request that another limit refuses. What cannot be undone is logged."""
        for charge in self.take_back():
            try:
                await charge.limiter.refund(charge.decision)
            except SyncKitError as error:
                log.warning("limiter %r: a refused request stays charged: %s", charge.limiter.name, error)

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
