"""A limit in front of requests: who is counted, and what a request costs."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from starlette.requests import HTTPConnection

from sync_kit import ConfigurationError, RateLimiter, SyncKit
from sync_kit.options import Seconds, refuse_unknown, shown, whole
from sync_kit.ratelimit import TrustedProxies, group_address
from sync_kit.ratelimit import client_address as address_of
from sync_kit_starlette._charges import charges_of
from sync_kit_starlette._values import MissingValue, RequestTemplate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sync_kit.ratelimit import Rule
    from sync_kit.ratelimit.charges import Charge
    from sync_kit_starlette._charges import Charges
    from sync_kit_starlette._values import UserOf

log = logging.getLogger("sync_kit")

KeyOf = Callable[[Any], "str | int | Awaitable[str | int]"]
CostOf = Callable[[Any], "int | Awaitable[int]"]

FORWARDED = frozenset((b"x-forwarded-for", b"forwarded"))
LIMITER_OPTIONS = ("limit", "window", "name", "on_error", "replicas", "shadow", "kit")
OPTIONS = (*LIMITER_OPTIONS, "key", "cost", "user", "trusted_proxies")


class LimitOptions(TypedDict, total=False):
    """What every limit on requests takes.

    Attributes:
        limit, window: requests (or units of `cost`), and seconds (60 if not given).
        key: who is counted, the client's address if not given: a template such as `"<user>"`, `"<header.x-api-key>"` or
            `"<id>:<user>"` (see `RequestTemplate`; where a request lacks a value, its address is counted); or a
            function of the request, sync or async.
        cost: units that a request costs: a number, or a function of the request, sync or async. 1 if not given.
        user: what `<user>` is: a function of the request, sync or async; `request.user` if not given.
        trusted_proxies: whose word on the client's address is believed: addresses and networks
            (`X-Forwarded-For`), or a `TrustedProxies`.
        name: the name of the limiter.
        on_error: what to do when Redis cannot be asked: `"allow"` (logged), `"deny"`, `"raise"`, or `"local"`:
            count in this process, every limit divided by `replicas`. `"allow"` if not given.
        replicas: see `on_error`.
        shadow: only watch: refuse nothing.
        kit: where to count; the default kit if not given.
    """

    limit: int
    window: Seconds
    key: str | KeyOf
    cost: int | CostOf
    user: UserOf
    trusted_proxies: TrustedProxies | Iterable[str]
    name: str
    on_error: Literal["raise", "allow", "deny", "local"]
    replicas: int
    shadow: bool
    kit: SyncKit


class Limit:
    """Who is counted on a limiter, and what a request costs.

    Args:
        where: who is configured, for errors.
        rules: texts or `Rule` values, or one `RateLimiter`.
        options: see `LimitOptions`.
        routed: whether it limits a handler, so that path parameters are known when it charges, and what it takes is
            given back if another limit refuses; else it counts requests, whatever comes of them.

    Attributes:
        limiter: where it is counted.
        template: what makes the key, if that is a template.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        where: str,
        rules: tuple[str | Rule | RateLimiter, ...],
        options: Mapping[str, Any],
        *,
        name: str,
        routed: bool = True,
    ) -> None:
        refuse_unknown(where, {word: options[word] for word in options if word not in OPTIONS}, OPTIONS)
        self.limiter = _limiter(rules, options, name)
        self._routed = routed
        self._client = _ClientAddress(options.get("trusted_proxies"), self.limiter)
        self.template = self._read_template(options.get("key"), options.get("user"))
        self._key: KeyOf = options["key"] if callable(options.get("key")) else self._client
        if options.get("trusted_proxies") is not None and callable(options.get("key")):
            raise ConfigurationError(
                "trusted_proxies= belongs to the default key: in a key= of your own call "
                "client_address(request, TrustedProxies([...]))"
            )
        cost: Any = options.get("cost", 1)
        self._cost: Any = cost if callable(cost) else whole("cost", cost, least=0)

    @property
    def asks_nothing(self) -> bool:
        """Whether it only looks at the client's address, and asks no function of the request."""
        return self._key is self._client and self.template is None and not callable(self._cost)

    def charge(
        self, connection: HTTPConnection, charges: Charges, values: Mapping[str, Any] | None = None
    ) -> Awaitable[Charge]:
        """Charge a request, once. `values` are path parameters that somebody has converted. To be awaited."""
        key: Any = self._key(connection) if self.template is None else self._filled(self.template, connection, values)
        cost: Any = self._cost(connection) if callable(self._cost) else self._cost
        if isinstance(key, str) and isinstance(cost, int):
            return charges.charge(self.limiter, key, cost, returned=self._routed)
        return self._charge_later(key, cost, charges)

    async def charge_first(self, scope: Any) -> Charge:
        """Charge a request that nothing else has charged; only for a limit that `asks_nothing`."""
        decision = await self.limiter.check(self._client.of(scope), cost=self._cost)
        return charges_of(scope).add(self.limiter, decision, returned=self._routed)

    async def _charge_later(self, key: Any, cost: Any, charges: Charges) -> Charge:
        key = await key if inspect.isawaitable(key) else key
        cost = await cost if inspect.isawaitable(cost) else cost
        return await charges.charge(self.limiter, key, cost, returned=self._routed)

    def _read_template(self, key: str | KeyOf | None, user: UserOf | None) -> RequestTemplate | None:
        if user is not None and not (isinstance(key, str) and "<user>" in key):
            raise ConfigurationError('user= says what <user> is: give key="<user>" too, or leave it out')
        if user is not None and not callable(user):
            raise ConfigurationError(f"user must be a function of the request, not {shown(user)}")
        if key is None or callable(key):
            return None
        if not isinstance(key, str):
            raise ConfigurationError(f'key must be a template such as "<user>" or a function, not {shown(key)}')
        template = RequestTemplate(key, user)
        if not template.keys.names:
            raise ConfigurationError(
                f"key={key!r} has no placeholder, so all clients would be one: write <user>, <id>, ..."
            )
        if template.path_names and not self._routed:
            raise ConfigurationError(
                f"<{template.path_names[0]}> in key={key!r}: a middleware runs before routing and knows no path "
                "parameters: take @rate_limited, or RateLimit of sync_kit_starlette.fastapi"
            )
        return template

    async def _filled(
        self, template: RequestTemplate, connection: HTTPConnection, values: Mapping[str, Any] | None
    ) -> str:
        try:
            return await template.fill(connection, values)
        except MissingValue:  # `~` is encoded in values: nobody can call himself so
            return f"~{self._client(connection)}"


class _ClientAddress:
    """The default key. Says once when proxies seem to stand before the app, and none is trusted."""

    def __init__(self, trusted_proxies: TrustedProxies | Iterable[str] | None, limiter: RateLimiter) -> None:
        given = trusted_proxies
        self._trusted = given if given is None or isinstance(given, TrustedProxies) else TrustedProxies(given)
        self._limiter = limiter
        self._looks = self._trusted is None

    def __call__(self, connection: HTTPConnection) -> str:
        return self.of(connection.scope)

    def of(self, scope: Any) -> str:
        """The key of the request with this scope."""
        if self._trusted is not None:
            return client_address(HTTPConnection(scope), self._trusted)
        if self._looks:
            self._look(scope)
        client = scope.get("client")
        return _of_peer(client[0] if client else None)

    def _look(self, scope: Any) -> None:
        for name, value in scope["headers"]:
            if name in FORWARDED and not _stands_in(scope.get("client"), value):
                self._looks = False
                self._warn(name.decode())
                return

    def _warn(self, header: str) -> None:
        shared = self._limiter.checks().shared
        if not shared.told_of_proxies:  # of the first limiter that meets one: others have the same proxies before them
            shared.told_of_proxies = True
            log.warning(
                "limiter %r counts addresses of peers, and a request carries %s: if proxies of yours stand before "
                "the app, all of their clients share one budget. Name them in trusted_proxies=, of every such limiter",
                self._limiter.name,
                header,
            )


def _stands_in(client: Any, value: bytes) -> bool:
    """Whether the server has read the header already, as uvicorn does with --proxy-headers."""
    return bool(client and client[0]) and client[0].encode() in value


def client_address(connection: HTTPConnection, trusted_proxies: TrustedProxies | None = None) -> str:
    """The address that a request is counted on: its peer's. IPv6 is grouped to /64, the network of one site.

    No forwarding header is believed, unless the peer is one of `trusted_proxies`
    (`sync_kit.ratelimit.TrustedProxies`): then the one header that they write is.
    """
    client = connection.scope.get("client")
    peer = client[0] if client else None
    if trusted_proxies is None:
        return _of_peer(peer)
    return group_address(address_of(peer, trusted_proxies, connection.headers.getlist))


@functools.lru_cache(maxsize=4096)
def _of_peer(peer: str | None) -> str:
    """Reading an address takes longer than the rest of the middleware, and peers come again."""
    return group_address(address_of(peer))


def lasting(options: LimitOptions) -> LimitOptions:
    """The same options, which may be read more than once."""
    proxies = options.get("trusted_proxies")
    if proxies is None or isinstance(proxies, TrustedProxies):
        return options
    return {**options, "trusted_proxies": TrustedProxies(proxies)}


def _limiter(rules: tuple[Any, ...], options: Mapping[str, Any], name: str) -> RateLimiter:
    given = {word: options[word] for word in LIMITER_OPTIONS if word in options}
    if given.get("kit") is not None and not isinstance(given["kit"], SyncKit):
        raise ConfigurationError(f"kit must be a SyncKit, not {shown(given['kit'])}")
    if any(isinstance(rule, RateLimiter) for rule in rules):
        if len(rules) > 1 or given:
            more = ", ".join(f"{word}=" for word in given) or "a second one"
            raise ConfigurationError(f"a RateLimiter is told everything when it is made: leave out {more}")
        return rules[0]  # type: ignore[no-any-return]
    if given.get("limit") is not None and not rules:
        given.setdefault("window", 60.0)
    return RateLimiter(given.pop("name", None) or name, *rules, **{"on_error": "allow", **given})
