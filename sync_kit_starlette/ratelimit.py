"""Rate limits for Starlette and FastAPI: a middleware for the whole app, a decorator for one handler."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from sync_kit import RateLimiter
from sync_kit.options import refuse_unknown
from sync_kit.ratelimit.headers import header_fields, problem_body
from sync_kit_starlette._endpoints import around
from sync_kit_starlette._problems import respond

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Literal

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from typing_extensions import Never

    from sync_kit import Decision, SyncKit
    from sync_kit.options import Seconds

    Key = str | int
    KeyOf = Callable[[Request], Key | Awaitable[Key]]
    OnError = Literal["raise", "allow", "deny"]

OPTIONS = ("rule", "limit", "window", "key", "name", "on_error", "kit")


def client_address(request: Request) -> str:
    """The default key: the address of the peer. No forwarding header is believed."""
    return request.client.host if request.client else "unknown"


class RateLimitMiddleware:
    """One budget for each client over the whole app. Pure ASGI; it runs before routing.

    Use `app.add_middleware(RateLimitMiddleware, limit=100)`. A refused request is answered with 429 and
    `Retry-After`. WebSockets pass unlimited. When the app shuts down, the clients of its kit are closed.

    Args:
        rule: a text such as `"100/minute"`; or
        limit, window: requests, and seconds (60 if not given).
        key: who is counted: a function of the request, sync or async; the peer's address if not given.
        name: the name of the limiter.
        on_error: what to do when Redis cannot be asked: `"allow"` (logged), `"deny"` or `"raise"`.
        kit: where to count; the default kit if not given.

    Raises:
        ConfigurationError: an argument is wrong (when the app starts: it makes its middleware then).
    """

    def __init__(
        self,
        app: ASGIApp,
        /,
        rule: str | None = None,
        *,
        limit: int | None = None,
        window: Seconds | None = None,
        key: KeyOf = client_address,
        name: str = "http",
        on_error: OnError = "allow",
        kit: SyncKit | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("RateLimitMiddleware", unknown, OPTIONS)
        if limit is not None and window is None:
            window = 60.0
        self.app = app
        self.limiter = RateLimiter(name, *filter(None, (rule,)), limit=limit, window=window, on_error=on_error, kit=kit)
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._closing(send))
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            refused = await ask(self.limiter, self._key, Request(scope, receive))
            await (refused or self.app)(scope, receive, send)

    def _closing(self, send: Send) -> Send:
        async def closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await self.limiter.kit.aclose()
            await send(message)

        return closing


def rate_limited(
    rule: str | None = None,
    *,
    limit: int | None = None,
    window: Seconds | None = None,
    key: KeyOf = client_address,
    name: str | None = None,
    on_error: OnError = "allow",
    kit: SyncKit | None = None,
    **unknown: Never,
) -> Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]:
    """Limit one handler: one budget for each key, whatever the path values. Refusals are answered with 429.

    The handler may be async or not, a function or a method, with or without a request parameter; its
    signature stays. Takes what `RateLimitMiddleware` takes, but for:

    Args:
        name: the name of the limiter; module and name of the handler if not given.

    Raises:
        ConfigurationError: when it is applied, if an argument is wrong.
    """
    refuse_unknown("rate_limited", unknown, OPTIONS)

    def decorate(handler: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        title = name or f"{handler.__module__}.{handler.__qualname__}"
        limiter = RateLimiter(title, *filter(None, (rule,)), limit=limit, window=window, on_error=on_error, kit=kit)

        async def step(request: Request, call: Callable[[], Awaitable[Any]]) -> Any:
            return await ask(limiter, key, request) or await call()

        return around(handler, step)

    return decorate


async def ask(limiter: RateLimiter, key: KeyOf, request: Request) -> Response | None:
    """Spend one unit for `request`; returns the refusal, or None when it may pass."""
    who = key(request)
    if inspect.isawaitable(who):
        who = await who
    decision = await limiter.check(who)
    return None if decision.allowed else refusal(decision)


def refusal(decision: Decision) -> Response:
    """The answer to a refused request."""
    return respond(problem_body(decision), header_fields(decision))
