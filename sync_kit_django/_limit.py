"""A limit in front of requests: who is counted, and what a request costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from uuid import UUID

from sync_kit import ConfigurationError, RateLimiter, SyncKit
from sync_kit.options import Seconds, refuse_unknown, shown, whole
from sync_kit.ratelimit import TrustedProxies
from sync_kit_django import conf
from sync_kit_django._addresses import ClientAddress
from sync_kit_django._steps import ask
from sync_kit_django._values import MissingValue, RequestTemplate

if TYPE_CHECKING:
    from sync_kit.ratelimit import Rule
    from sync_kit.ratelimit.charges import Charge
    from sync_kit_django._charges import Charges
    from sync_kit_django._steps import Steps
    from sync_kit_django._values import UserOf

KeyOf = Callable[[Any], "str | int | UUID | Awaitable[str | int | UUID | None] | None"]
CostOf = Callable[[Any], "int | Awaitable[int]"]

LIMITER_OPTIONS = ("limit", "window", "name", "on_error", "replicas", "shadow", "kit")
OPTIONS = (*LIMITER_OPTIONS, "key", "cost", "methods", "user", "trusted_proxies")
WORDS = {"ip": None, "user": "<user>"}
"""Keys with a name of their own, and the template that they stand for."""


class LimitOptions(TypedDict, total=False):
    """What every limit on requests takes.

    Attributes:
        limit, window: requests (or units of `cost`), and seconds (60 if not given).
        key: who is counted: `"ip"`, the client's address, if not given; `"user"`: who is signed in, else the address;
            a template such as `"<id>:<user>"` or `"<header.x-api-key>"` (see `RequestTemplate`; where a request lacks a
            value, its address is counted); or a function of the request, sync or async, whose None is the address.
        cost: units that a request costs: a number, or a function of the request, sync or async. 1 if not given.
        methods: the methods that are counted, all if not given. GET stands for HEAD too.
        user: what `<user>` is: a function of the request, sync or async; `request.user` if not given.
        trusted_proxies: whose word on the client's address is believed: addresses and networks
            (`X-Forwarded-For`), or a `TrustedProxies`. Those of `SYNC_KIT` if not given.
        name: the name of the limiter.
        on_error: what to do when Redis cannot be asked: `"allow"` (logged), `"deny"`, `"raise"` (503), or `"local"`:
            count in this process, every limit divided by `replicas`. That of `SYNC_KIT` if not given: `"allow"`.
        replicas: see `on_error`.
        shadow: only watch: refuse nothing.
        kit: where to count; the default kit if not given.
    """

    limit: int
    window: Seconds
    key: str | KeyOf
    cost: int | CostOf
    methods: Iterable[str]
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
        routed: whether it limits a view, so that the values of the URL are known when it charges, and what it takes is
            given back if another limit refuses; else it counts requests, whatever comes of them.

    Attributes:
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
        self._limiters = _Limiters(rules, options, name)
        self._routed = routed
        self._client = ClientAddress(_proxies(options.get("trusted_proxies")))
        self._methods = _methods(options.get("methods"))
        key: Any = options.get("key", "ip")
        cost: Any = options.get("cost", 1)
        self._key: Any = key if callable(key) else None
        self.template = None if self._key else self._read_template(key, options.get("user"))
        if options.get("user") is not None and not (self.template and "user" in self.template.keys.names):
            raise ConfigurationError('user= says what <user> is: give key="user" too, or leave it out')
        self._cost = cost if callable(cost) else whole("cost", cost, least=0)

    @property
    def limiter(self) -> RateLimiter:
        """Where it is counted."""
        return self._limiters.now()

    def counts(self, request: Any) -> bool:
        """Whether the method of a request is one that is counted."""
        return self._methods is None or request.method in self._methods

    def charge(self, request: Any, values: Mapping[str, Any], charges: Charges) -> Steps[Charge]:
        """Charge a request, whose URL has these `values`, once. Raises `Unavailable` if `on_error` is `"raise"`."""
        limiter = self.limiter
        key = yield from self._key_of(request, values, limiter)
        cost = (yield ask(self._cost, request)) if callable(self._cost) else self._cost
        return (yield from charges.charge(limiter, key, cost, returned=self._routed))

    def _key_of(self, request: Any, values: Mapping[str, Any], limiter: RateLimiter) -> Steps[str | int]:
        key: str | int | None = None
        if self._key is not None:
            key = read_key((yield ask(self._key, request)), limiter)
        elif self.template is None:
            return self._client.of(request, limiter)
        else:
            with suppress(MissingValue):
                key = yield from self.template.fill(request, values)
        # `~` is encoded in values: nobody can call himself so
        return f"~{self._client.of(request, limiter)}" if key in (None, "") else key

    def _read_template(self, key: object, user: UserOf | None) -> RequestTemplate | None:
        text = WORDS.get(key, key) if isinstance(key, str) else key
        if text is None:
            return None
        if not isinstance(text, str) or "<" not in text:
            raise ConfigurationError(
                f'key must be "ip", "user", a template such as "<id>:<user>", or a function, not {shown(key)}'
            )
        template = RequestTemplate(text, user)
        if template.path_names and not self._routed:
            raise ConfigurationError(
                f"<{template.path_names[0]}> in key={key!r}: a middleware runs before routing and knows no values of "
                "the URL: take @rate_limited"
            )
        return template


def read_key(key: Any, limiter: RateLimiter) -> str | int | None:
    """What a function of the project says who is counted. Raises `ConfigurationError` for what is no key."""
    if key is None or isinstance(key, (str, int)):
        return key
    if isinstance(key, UUID):
        return str(key)
    raise ConfigurationError(
        f"limiter {limiter.name!r}: a key must be a text, a number or None, not {type(key).__name__}"
    )


class _Limiters:
    """One limiter, which is made when it is first needed: what `SYNC_KIT` says on errors is not known before."""

    def __init__(self, rules: tuple[Any, ...], options: Mapping[str, Any], name: str) -> None:
        self._rules = rules
        self._options = {word: options[word] for word in LIMITER_OPTIONS if word in options}
        self._name = self._options.pop("name", None) or name
        self._given = self._read_given()
        self._made: dict[str, RateLimiter] = {}
        if self._given is None:
            self._made["allow"] = self._make("allow")  # what is wrong is refused where it is written

    def now(self) -> RateLimiter:
        """The limiter under the present settings."""
        if self._given is not None:
            return self._given
        policy = conf.current().rate_limit.on_error
        if policy not in self._made:
            self._made[policy] = self._make(policy)
        return self._made[policy]

    def _make(self, on_error: str) -> RateLimiter:
        options: dict[str, Any] = {"on_error": on_error, **self._options}
        if options.get("limit") is not None and not self._rules:
            options.setdefault("window", 60.0)
        return RateLimiter(self._name, *self._rules, **options)

    def _read_given(self) -> RateLimiter | None:
        kit = self._options.get("kit")
        if kit is not None and not isinstance(kit, SyncKit):
            raise ConfigurationError(f"kit must be a SyncKit, not {shown(kit)}")
        given: RateLimiter | None = next((rule for rule in self._rules if isinstance(rule, RateLimiter)), None)
        if given is not None and (len(self._rules) > 1 or self._options):
            more = ", ".join(f"{word}=" for word in self._options) or "a second one"
            raise ConfigurationError(f"a RateLimiter is told everything when it is made: leave out {more}")
        return given


def _proxies(given: Any) -> TrustedProxies | None:
    return given if given is None or isinstance(given, TrustedProxies) else TrustedProxies(given)


def _methods(given: Any) -> frozenset[str] | None:
    if given is None:
        return None
    methods = [given] if isinstance(given, str) else list(given)
    for method in methods:
        if not isinstance(method, str) or not method.isalpha():
            raise ConfigurationError(f'methods takes names such as "POST", not {shown(method)}')
    if not methods:
        raise ConfigurationError("methods is empty, so nothing would be counted: leave it out to count all")
    counted = frozenset(method.upper() for method in methods)
    return counted | {"HEAD"} if "GET" in counted else counted
