"""What one request has been charged, and what its response says of it."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from sync_kit import SyncKitError
from sync_kit.ratelimit.charges import Charge, Ledger
from sync_kit.ratelimit.headers import problem_body
from sync_kit_django import conf
from sync_kit_django._steps import Do
from sync_kit_django._views import base_of

if TYPE_CHECKING:
    from sync_kit import RateLimiter
    from sync_kit_django._steps import Steps

log = logging.getLogger("sync_kit")

PLACE = "_sync_kit_charges"


class Charges(Ledger):
    """The decisions on one request.

    Attributes:
        announced: whether a middleware around will add their header fields to the response.
    """

    __slots__ = ("announced",)

    def __init__(self) -> None:
        super().__init__()
        self.announced = False
        self.silent = not conf.current().rate_limit.headers

    def charge(self, limiter: RateLimiter, key: str | int, cost: int, *, returned: bool) -> Steps[Charge]:
        """Spend `cost` units of `key`, unless this limiter did for this request before.

        If that is refused, what was spent before is given back, so far as it is `returned`.
        """
        made, spent = self.so_far(limiter, str(key)) if self.made else (None, 0)
        if made is not None:
            return made
        left = max(0, cost - spent) if spent else cost
        decision = yield Do(
            lambda: limiter.blocking.check(key, cost=left),
            lambda: limiter.check(key, cost=left),
        )
        if decision.limited:
            yield from self._give_back()
        return self.add(limiter, decision, returned=returned)

    def _give_back(self) -> Steps[None]:
        """Undo what was charged for a request that another limit refuses. What cannot be undone is logged."""
        for charge in self.take_back():
            limiter, decision = charge.limiter, charge.decision
            try:
                yield Do(
                    functools.partial(limiter.blocking.refund, decision), functools.partial(limiter.refund, decision)
                )
            except SyncKitError as error:
                log.warning("limiter %r: a refused request stays charged: %s", limiter.name, error)

    def write(self, response: Any) -> None:
        """Put the fields into a response, unless a middleware around does."""
        if not self.announced and hasattr(response, "headers"):
            for name, value in self.fields().items():
                response.headers[name] = value

    def add_to(self, response: Any) -> None:
        """Put the fields into a response, but for those that are there already."""
        for name, value in self.fields().items():
            response.headers.setdefault(name, value)

    def problem(self, refused: Charge) -> dict[str, Any]:
        """The problem that a refused request is answered with."""
        before = [charge.decision for charge in self.made if charge is not refused]
        return problem_body(refused.decision, before=before)


def charges_of(request: Any) -> Charges:
    """The charges of a request."""
    base = base_of(request)
    charges: Charges | None = getattr(base, PLACE, None)
    if charges is None:
        charges = Charges()
        setattr(base, PLACE, charges)
    return charges
