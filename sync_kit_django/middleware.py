"""One budget for each client over the whole project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.urls import Resolver404, get_resolver, resolve

from sync_kit import ConfigurationError, RateLimiter, Unavailable
from sync_kit.options import shown
from sync_kit.ratelimit import Rule
from sync_kit_django import conf
from sync_kit_django._answers import refuse
from sync_kit_django._charges import charges_of
from sync_kit_django._limit import OPTIONS, Limit
from sync_kit_django._steps import Do, run, run_async
from sync_kit_django._views import class_of
from sync_kit_django.ratelimit import AWAY, EXEMPT, exemptions, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from django.http import HttpRequest

    from sync_kit_django._steps import Steps

BELOW = "/*"


class RateLimitMiddleware:
    """One budget for each client over the whole project. Sync and async, without a thread in between.

    `MIDDLEWARE = ["sync_kit_django.RateLimitMiddleware", ...]`; limit, window and the rest are those of
    `SYNC_KIT["RATE_LIMIT"]`. It runs before routing, so what does not exist is counted too. For other limits make a
    subclass, which says in its class attributes what `@rate_limited` takes as options:

        class ByUser(RateLimitMiddleware):  # stands after AuthenticationMiddleware
            rules = ("1000/hour", "20/second")
            name = "by-user"
            key = "user"

    Attributes:
        rules: texts such as `"100/minute"` or `Rule` values, decided together; limit and window of `SYNC_KIT` if empty.
        name: the name of the limiter. Two of one name charge a request once.
        exempt: paths that are not counted (`"/live"`, or with all below it `"/static/*"`), beside those of `SYNC_KIT`.

    Raises:
        ConfigurationError: a setting or an attribute is wrong, when the project starts.
    """

    sync_capable = True
    async_capable = True

    rules: ClassVar[Sequence[str | Rule | RateLimiter]] = ()
    name: ClassVar[str | None] = "http"
    exempt: ClassVar[Iterable[str]] = ()

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        settings = conf.current().rate_limit
        options = {word: getattr(self, word) for word in OPTIONS if getattr(self, word, None) is not None}
        rules = tuple(self.rules)
        if any(isinstance(rule, RateLimiter) for rule in rules):
            options.pop("name", None)  # it has one
        if not rules and "limit" not in options:
            rules = (Rule(settings.limit, settings.window),)
        self._limit = Limit(type(self).__name__, rules, options, name="http", routed=False)
        self._paths = _Paths([*settings.exempt, *self.exempt])
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    @property
    def limiter(self) -> RateLimiter:
        """The limiter that counts."""
        return self._limit.limiter

    def __call__(self, request: HttpRequest) -> Any:
        """Answer a request: a response, or in async mode what is to be awaited for one."""
        steps = self._visit(request)
        return run_async(steps) if self._is_async else run(steps)

    def _visit(self, request: HttpRequest) -> Steps[Any]:
        onward = Do(lambda: self._get_response(request), lambda: self._get_response(request))
        if not self._limit.counts(request) or self._paths.know(request.path_info) or _is_for_exempt(request):
            return (yield onward)
        charges = charges_of(request)
        outermost, charges.announced = not charges.announced, True
        try:
            charge = yield from self._limit.charge(request, {}, charges)
        except Unavailable as error:
            return (yield from refuse(request, error, AWAY))
        if charge.decision.limited:
            response = yield from refusal(request, charge, charges)
        else:
            response = yield onward
        if outermost:
            charges.add_to(response)
        return response


def _is_for_exempt(request: HttpRequest) -> bool:
    """Whether a request is for a view with `@rate_limit_exempt`. Routes, if there is such a view."""
    urlconf = getattr(request, "urlconf", None)
    get_resolver(urlconf).url_patterns  # noqa: B018 - imports the views, which have been decorated then
    if not exemptions["are there"]:
        return False
    try:
        view: Any = resolve(request.path_info, urlconf).func
    except Resolver404:
        return False
    return any(getattr(one, EXEMPT, False) for one in (view, class_of(view)))


class _Paths:
    """Paths that are not counted, as routes see them: without the script's name."""

    def __init__(self, given: Iterable[str]) -> None:
        paths = [_path(one) for one in given]
        self._below = tuple(path[:-1] for path in paths if path.endswith(BELOW))
        self._exact = frozenset(path.removesuffix(BELOW) for path in paths)

    def know(self, path: str) -> bool:
        """Whether a path is one of them."""
        return path in self._exact or path.startswith(self._below)


def _path(given: object) -> str:
    if not isinstance(given, str) or not given.startswith("/") or "*" in given.removesuffix(BELOW):
        raise ConfigurationError(f'exempt takes paths ("/live", or "/static/*" for all below), not {shown(given)}')
    return given
