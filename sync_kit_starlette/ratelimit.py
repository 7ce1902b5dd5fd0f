"""Rate limits for Starlette and FastAPI: a middleware for the whole app, a decorator for one handler."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request

from sync_kit import ConfigurationError, RateLimiter
from sync_kit.options import refuse_unknown
from sync_kit.ratelimit import TrustedProxies, group_address
from sync_kit.ratelimit import client_address as address_of
from sync_kit.ratelimit.headers import header_fields, problem_body
from sync_kit_starlette._answers import respond
from sync_kit_starlette._endpoints import Handler, Visit, around, name_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Literal

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from typing_extensions import Never

    from sync_kit import Decision, SyncKit
    from sync_kit.options import Seconds
    from sync_kit.ratelimit import Rule

    Key = str | int
    KeyOf = Callable[[Request], Key | Awaitable[Key]]
    OnError = Literal["raise", "allow", "deny", "local"]
    Proxies = TrustedProxies | Iterable[str]

OPTIONS = ("limit", "window", "key", "trusted_proxies", "name", "on_error", "replicas", "shadow", "kit")


def client_address(request: Request, trusted_proxies: TrustedProxies | None = None) -> str:
    """The address that a request is counted on: its peer's. IPv6 is grouped to /64, the network of one site.

    No forwarding header is believed, unless the peer is one of `trusted_proxies`
    (`sync_kit.ratelimit.TrustedProxies`): then the one header that they write is.
    """
    client = request.scope.get("client")
    peer = client[0] if client else None
    if trusted_proxies is None:
        return _of_peer(peer)
    return group_address(address_of(peer, trusted_proxies, request.headers.getlist))


@functools.lru_cache(maxsize=4096)
def _of_peer(peer: str | None) -> str:
    """Reading an address takes longer than the rest of the middleware, and peers come again."""
    return group_address(address_of(peer))


def _key_of(key: KeyOf | None, trusted_proxies: Proxies | None) -> KeyOf:
    if trusted_proxies is None:
        return key or client_address
    if key is not None:
        raise ConfigurationError(
            "trusted_proxies= belongs to the default key: in a key= of your own call "
            "client_address(request, TrustedProxies([...]))"
        )
    trusted = trusted_proxies if isinstance(trusted_proxies, TrustedProxies) else TrustedProxies(trusted_proxies)
    return lambda request: client_address(request, trusted)


class RateLimitMiddleware:
    """One budget for each client over the whole app. Pure ASGI; it runs before routing.

    Use `app.add_middleware(RateLimitMiddleware, limit=100)`. A refused request is answered with 429 and
    `Retry-After`. WebSockets pass unlimited. When the app shuts down, the clients of its kit are closed.

    Args:
        rules (positional): texts such as `"100/minute"`, decided together; or
        limit, window: requests, and seconds (60 if not given).
        key: who is counted: a function of the request, sync or async; `client_address` if not given.
        trusted_proxies: whose word on the client's address the default key believes: addresses and networks
            (`X-Forwarded-For`), or a `TrustedProxies`.
        name: the name of the limiter.
        on_error: what to do when Redis cannot be asked: `"allow"` (logged), `"deny"`, `"raise"`, or `"local"`:
            count in this process, every limit divided by `replicas`.
        shadow: only watch: refuse nothing.
        kit: where to count; the default kit if not given.

    Raises:
        ConfigurationError: an argument is wrong (when the app starts: it makes its middleware then).
    """

    def __init__(
        self,
        app: ASGIApp,
        /,
        *rules: str | Rule,
        limit: int | None = None,
        window: Seconds | None = None,
        key: KeyOf | None = None,
        trusted_proxies: Proxies | None = None,
        name: str = "http",
        on_error: OnError = "allow",
        replicas: int = 1,
        shadow: bool = False,
        kit: SyncKit | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("RateLimitMiddleware", unknown, OPTIONS)
        if limit is not None and window is None:
            window = 60.0
        self.app = app
        self.limiter = RateLimiter(
            name, *rules, limit=limit, window=window, on_error=on_error, replicas=replicas, shadow=shadow, kit=kit
        )
        self._key = _key_of(key, trusted_proxies)

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
    *rules: str | Rule,
    limit: int | None = None,
    window: Seconds | None = None,
    key: KeyOf | None = None,
    trusted_proxies: Proxies | None = None,
    name: str | None = None,
    on_error: OnError = "allow",
    replicas: int = 1,
    shadow: bool = False,
    kit: SyncKit | None = None,
    **unknown: Never,
) -> Callable[[Handler], Handler]:
    """Limit one handler: one budget for each key, whatever the path values. Refusals are answered with 429.

    The handler may be async or not, a function or a method, with or without a request parameter; its
    signature stays. Takes what `RateLimitMiddleware` takes, but for:

    Args:
        name: the name of the limiter; module and name of the handler if not given.

    Raises:
        ConfigurationError: when it is applied, if an argument is wrong.
    """
    refuse_unknown("rate_limited", unknown, OPTIONS)
    key_of = _key_of(key, trusted_proxies)

    def decorate(handler: Handler) -> Handler:
        title = name or name_of(handler)
        limiter = RateLimiter(
            title, *rules, limit=limit, window=window, on_error=on_error, replicas=replicas, shadow=shadow, kit=kit
        )

        async def step(visit: Visit) -> Any:
            return await ask(limiter, key_of, visit.connection) or await visit.call()

        return cast("Handler", around(handler, step, "@rate_limited"))

    return decorate


async def ask(limiter: RateLimiter, key: KeyOf, request: Any) -> Response | None:
    """Spend one unit for `request`; returns the refusal, or None when it may pass."""
    who = key(request)
    if inspect.isawaitable(who):
        who = await who
    decision = await limiter.check(who)
    return None if decision.allowed else refusal(decision)


def refusal(decision: Decision) -> Response:
    """The answer to a refused request."""
    return respond(problem_body(decision), header_fields(decision))
