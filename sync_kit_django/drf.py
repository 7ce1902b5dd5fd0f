"""Limits for Django REST framework: a throttle that counts exactly. Import it only where that is installed."""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.core.exceptions import ImproperlyConfigured
from rest_framework.exceptions import APIException, Throttled
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle

from sync_kit import Unavailable
from sync_kit_django._addresses import ClientAddress
from sync_kit_django._charges import charges_of
from sync_kit_django._limit import Limit, read_key
from sync_kit_django._steps import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from rest_framework.request import Request
    from rest_framework.response import Response
    from rest_framework.views import APIView

    from sync_kit import SyncKit

__all__ = ["RateLimitThrottle"]

PERIODS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}
_ADDRESS = ClientAddress(None)
OWN_RATE = re.compile(r"(\d+)/([smhd])[a-z]*")
"""How Django REST framework writes a rate: of the period only the first letter counts."""


class RateLimitThrottle(BaseThrottle):  # type: ignore[misc]
    """A throttle that never admits more than its rate, on any number of processes; no cache is asked.

    Put it into `DEFAULT_THROTTLE_CLASSES` or `throttle_classes`; its rate is `rate`, else that of its `scope`, else
    that of the view's `throttle_scope`, in `DEFAULT_THROTTLE_RATES`; a view without any of them is not throttled.
    Several throttles that meet in a request are all charged or none.

    Attributes:
        rate: such as `"5/minute"`, or several, which are decided together. None to look at the scope.
        scope: the name of a rate in `DEFAULT_THROTTLE_RATES`.
        on_error: what to do when Redis cannot be asked; that of `SYNC_KIT` if None.
        kit: where to count; the default kit if None.

    Raises:
        ImproperlyConfigured: no rate is set for the scope.
        ConfigurationError: a rate cannot be read.
    """

    rate: ClassVar[str | Sequence[str] | None] = None
    scope: ClassVar[str | None] = None
    on_error: ClassVar[str | None] = None
    kit: ClassVar[SyncKit | None] = None

    _wait: float | None = None

    def get_key(self, request: Request, view: APIView) -> str | int | UUID | None:
        """Who is counted: who is signed in, else the address. Override it; None is not throttled."""
        user: Any = request.user
        if user is not None and user.is_authenticated:
            return f"user:{user.pk}"
        return _ADDRESS.of(request, self._limit_of_view(view).limiter)

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Charge the request, unless another throttle has refused it."""
        rates, charges = self._rates(view)[0], charges_of(request)
        if not rates or any(charge.decision.limited for charge in charges.made):
            return True
        limiter = self._limit_of_view(view).limiter
        key = read_key(self.get_key(request, view), limiter)
        if key is None:
            return True
        try:
            charge = run(charges.charge(limiter, key, 1, returned=True))
        except Unavailable as error:
            raise _Away from error
        headers = getattr(view, "headers", None)
        if headers is not None and not charges.announced:
            headers.update(charges.fields())
        self._wait = charge.decision.retry_after
        return charge.decision.allowed

    def wait(self) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Seconds after which the refused request would be admitted; None for never."""
        return self._wait if self._wait is not None and math.isfinite(self._wait) else None

    def _limit_of_view(self, view: APIView) -> Limit:
        rates, name = self._rates(view)
        return _limit_of(name, rates, self.on_error, self.kit)

    def _rates(self, view: APIView) -> tuple[tuple[str, ...], str]:
        """The rates, and what they are named after."""
        kind = type(self)
        if self.rate is not None:
            return _listed(self.rate), f"{kind.__module__}.{kind.__qualname__}"
        scope = self.scope or getattr(view, "throttle_scope", None)
        if not scope:
            return (), ""
        rates: dict[str, Any] = cast("Any", api_settings.DEFAULT_THROTTLE_RATES)
        if scope not in rates:
            raise ImproperlyConfigured(
                f"no rate is set for the scope {scope!r}: add it to REST_FRAMEWORK['DEFAULT_THROTTLE_RATES']"
            )
        return _listed(rates[scope]), f"throttle:{scope}"


def _listed(rate: str | Sequence[str] | None) -> tuple[str, ...]:
    given = (rate,) if isinstance(rate, str) else tuple(rate or ())
    return tuple(_read(one) for one in given)


def _read(rate: str) -> str:
    own = OWN_RATE.fullmatch(rate)
    return f"{own[1]}/{PERIODS[own[2]]}" if own else rate


@functools.lru_cache(maxsize=1000)
def _limit_of(name: str, rates: tuple[str, ...], on_error: str | None, kit: SyncKit | None) -> Limit:
    """Throttles are made anew for each request; their limiters are not."""
    options: dict[str, Any] = {"on_error": on_error, "kit": kit}
    given = {word: value for word, value in options.items() if value is not None}
    return Limit("RateLimitThrottle", rates, given, name=name)


class _Away(APIException):  # type: ignore[misc]
    status_code = 503
    default_detail = "Limits cannot be counted at the moment."
    default_code = "unavailable"


class _Refused(APIException):  # type: ignore[misc]
    wait: int | None = None


def refusal(request: Request, body: Mapping[str, Any], wait: float | None) -> Response:
    """The answer of the view of `request` to a refusal, by its own handling of exceptions."""
    wait = wait if wait is not None and math.isfinite(wait) else None
    error: Any
    if body["status"] == Throttled.status_code:
        error = Throttled(wait)
    else:
        error = _Refused(body["detail"])
        error.status_code = body["status"]
        error.wait = None if wait is None else math.ceil(wait)
    context: Any = request.parser_context
    response: Response = context["view"].handle_exception(error)
    return response
