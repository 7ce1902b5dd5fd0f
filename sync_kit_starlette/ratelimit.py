"""Rate limits for Starlette and FastAPI: a middleware for the whole app, a decorator for one handler."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import Response

from sync_kit import ConfigurationError, Unavailable
from sync_kit_starlette._answers import connection_of, handler_of, problem, refuse
from sync_kit_starlette._charges import PLACE, charges_of
from sync_kit_starlette._endpoints import Handler, Visit, around, name_of
from sync_kit_starlette._exemptions import Exemptions
from sync_kit_starlette._limit import Limit, LimitOptions, client_address, lasting
from sync_kit_starlette._start import apps_inside, check_routes, is_made_late, refuse_to_start, remember
from sync_kit_starlette.jobs import warn_if_never_started

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from typing_extensions import Unpack

    from sync_kit import RateLimiter
    from sync_kit.ratelimit import Rule
    from sync_kit.ratelimit.charges import Charge
    from sync_kit_starlette._exemptions import Exempt

__all__ = ["RateLimitMiddleware", "client_address", "rate_limited"]

NAME = "http"
"""The name of the middleware's limiter."""


class RateLimitMiddleware:
    """One budget for each client over the whole app. Pure ASGI; it runs before routing.

    Use `app.add_middleware(RateLimitMiddleware, limit=100)`. Requests and WebSocket handshakes are counted. A
    refused request is answered with 429 and `Retry-After`, by the app's handler for `RateLimitError` if it has one;
    a refused handshake too where the server can, else it is closed with 1008. When the app shuts down, the clients
    of its kit are closed.

    Args:
        rules (positional): texts such as `"100/minute"` or `Rule` values, decided together, or one `RateLimiter`;
        options: see `LimitOptions`; or `limit=`, and `window=`, which is 60 seconds unless given. The name is `"http"`
            unless given.
        exempt: what is never counted: paths (`"/live"`, or with all below it `"/static/*"`), functions of the
            request, sync or async, or a list of these.
        methods: the methods that are counted; all if not given. A handshake is a GET, and GET stands for HEAD too,
            which the same handlers answer.
        headers: whether responses carry `RateLimit-Policy` and `RateLimit`: once, for all limits that they met. If
            not, those of `@rate_limited` and `RateLimit` do not either; `Retry-After` stays.
        legacy_headers: whether they also carry `X-RateLimit-Limit`, `-Remaining` and `-Reset`.

    Raises:
        ConfigurationError: an argument is wrong, or the app has such a middleware with a limiter of this name already
            (when the app starts: it makes its middleware then).
    """

    def __init__(
        self,
        app: ASGIApp,
        /,
        *rules: str | Rule | RateLimiter,
        exempt: Exempt | Iterable[Exempt] = (),
        methods: Iterable[str] | None = None,
        headers: bool = True,
        legacy_headers: bool = False,
        **options: Unpack[LimitOptions],
    ) -> None:
        self.app = app
        self._error: ConfigurationError | None = None
        self._headers = headers
        self._legacy = legacy_headers
        try:
            self._limit = Limit("RateLimitMiddleware", rules, options, name=NAME, routed=False)
            self._exemptions = Exemptions(exempt, methods)
            _refuse_twice(app, self.limiter.name)
        except ConfigurationError as error:
            if not is_made_late(app):
                raise
            self._error = error

    @property
    def limiter(self) -> RateLimiter:
        """The limiter that counts."""
        return self._limit.limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        kind = scope["type"]
        if self._error is not None:
            await refuse_to_start(self._error, scope, receive, send)
        elif kind == "lifespan":
            await self._live(scope, receive, send)
        elif kind not in ("http", "websocket") or self._exemptions.know(scope):
            await self.app(scope, receive, send)
        else:
            await self._visit(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_routes(scope.get("app"))
        except ConfigurationError as error:
            await refuse_to_start(error, scope, receive, send)
        await self.app(scope, receive, self._closing(send))

    async def _visit(self, scope: Scope, receive: Receive, send: Send) -> None:
        warn_if_never_started()
        if self._exemptions.functions and await self._exemptions.ask(connection_of(scope, receive, send)):
            await self.app(scope, receive, send)
            return
        try:
            charge = await self._charge(scope, receive, send)
        except Unavailable as error:
            await self._answer(error, scope, receive, send)
            return
        charges = charges_of(scope)
        charges.legacy = charges.legacy or self._legacy
        if not charges.announced:
            charges.announced, charges.silent = True, not self._headers
            send = charges.announcing(send)
        if charge.decision.allowed:
            await self.app(scope, receive, send)
        elif response := await refuse(connection_of(scope, receive, send), *charges.refusal(charge)):
            await response(scope, receive, send)

    def _charge(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Charge]:
        """Charge a request, to be awaited. As little as can be is alive meanwhile: the garbage collector counts it."""
        if self._limit.asks_nothing and PLACE not in scope:
            return self._limit.charge_first(scope)
        return self._limit.charge(connection_of(scope, receive, send), charges_of(scope))

    async def _answer(self, error: Unavailable, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with what the app's own handler says of an outage. Raises `error` if it has none."""
        connection = connection_of(scope, receive, send)
        if handler_of(connection, error) is None:
            raise error
        default = problem(503, "Service Unavailable", "Limits cannot be counted at the moment.")
        if response := await refuse(connection, error, default):
            await response(scope, receive, send)

    def _closing(self, send: Send) -> Send:
        async def closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await self.limiter.kit.aclose()
            await send(message)

        return closing


def _refuse_twice(app: Any, name: str) -> None:
    """A second middleware on the counters of the first is a mistake: added twice, or without a name of its own."""
    others = (inner for inner in apps_inside(app) if isinstance(inner, RateLimitMiddleware) and inner._error is None)
    if any(other.limiter.name == name for other in others):
        raise ConfigurationError(
            f"RateLimitMiddleware is added twice with a limiter named {name!r}: remove one, or give it a name= of "
            "its own if both are meant"
        )


def rate_limited(*rules: str | Rule | RateLimiter, **options: Unpack[LimitOptions]) -> Callable[[Handler], Handler]:
    """Limit one handler: one budget for each key, whatever the path values. Refusals are answered with 429.

    The handler may be async or not, a function, a method or an endpoint class, for requests or WebSockets, with or
    without a parameter for them; its signature stays. Several on one handler are all asked, the uppermost
    first; a request that one of them refuses costs nothing of the others.

    Args:
        rules (positional): texts such as `"5/minute"` or `Rule` values, decided together, or one `RateLimiter`;
        options: see `LimitOptions`. The name is module and name of the handler unless given: the same handler on
            two routes has one budget.

    Raises:
        ConfigurationError: when it is applied, if an argument is wrong.
    """
    options = lasting(options)
    Limit("rate_limited", rules, options, name="not known yet")  # wrong options are refused where they are written

    def decorate(handler: Handler) -> Handler:
        limit = Limit("rate_limited", rules, options, name=name_of(handler))
        endpoint = around(handler, functools.partial(_visit, limit), "@rate_limited")
        if limit.template is not None:
            remember(endpoint, limit.template)
        return cast("Handler", endpoint)

    return decorate


async def _visit(limit: Limit, visit: Visit) -> Any:
    charges = charges_of(visit.connection.scope)
    charge = await limit.charge(visit.connection, charges, visit.values)
    if charge.decision.limited:
        return await refuse(visit.connection, *charges.refusal(charge))
    if visit.headers is not None:
        charges.write(visit.headers)
    response = await visit.call()
    if isinstance(response, Response):
        charges.write(response.headers)
    return response
