"""Rate limits for views: a decorator, and the protection of a login. The middleware is in `middleware.py`."""

from __future__ import annotations

import functools
import unicodedata
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sync_kit import ConfigurationError, RateLimitError, Unavailable
from sync_kit.ratelimit import hashed
from sync_kit_django._addresses import client_address
from sync_kit_django._answers import problem, refuse
from sync_kit_django._charges import charges_of
from sync_kit_django._limit import Limit, LimitOptions
from sync_kit_django._views import View, around, check_parameters, name_of, remember

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from sync_kit import RateLimiter
    from sync_kit.ratelimit import Rule
    from sync_kit.ratelimit.charges import Charge
    from sync_kit_django._charges import Charges
    from sync_kit_django._steps import Steps
    from sync_kit_django._views import Visit

__all__ = ["client_address", "protect_login", "rate_limit_exempt", "rate_limited"]

Login = TypeVar("Login")

EXEMPT = "_sync_kit_exempt"
AWAY = problem(503, "Service Unavailable", "Limits cannot be counted at the moment.")


def rate_limited(*rules: str | Rule | RateLimiter, **options: Unpack[LimitOptions]) -> Callable[[View], View]:
    """Limit one view: one budget for each key, whatever the values of its URL. Refusals are answered with 429.

    The view may be async or not, a function, a method, the `as_view()` of a class, or the class itself, of which a
    subclass is made. Several on one view are all asked, the uppermost first; a request that one of them refuses costs
    nothing of the others.

    Args:
        rules (positional): texts such as `"5/minute"` or `Rule` values, decided together, or one `RateLimiter`;
        options: see `LimitOptions`. The name is module and name of the view unless given: the same view under two
            URLs has one budget.

    Raises:
        ConfigurationError: when it is applied, if an argument is wrong, or if the view names its parameters and a
            placeholder of `key=` is not among them; else at the first request.
    """
    options = _lasting(options)
    limits = {"": Limit("rate_limited", rules, options, name="not known yet")}  # wrong options are refused right here

    def decorate(view: View) -> View:
        name = name_of(view)
        if name not in limits:  # `method_decorator` decorates anew for each request
            limits[name] = Limit("rate_limited", rules, options, name=name)
        limit = limits[name]
        decorated = around(view, functools.partial(_visit, limit), "@rate_limited")
        if limit.template is not None:
            check_parameters(view, limit.template)
            remember(decorated, view, limit.template)
        return cast("View", decorated)

    return decorate


def _lasting(options: LimitOptions) -> LimitOptions:
    """The same options, which may be read more than once."""
    lasting: Any = dict(options)
    for word in ("trusted_proxies", "methods"):
        if hasattr(lasting.get(word), "__next__"):
            lasting[word] = list(lasting[word])
    return cast("LimitOptions", lasting)


def _visit(limit: Limit, visit: Visit) -> Steps[Any]:
    if not limit.counts(visit.request):
        return (yield visit.call)
    charges = charges_of(visit.request)
    try:
        charge = yield from limit.charge(visit.request, visit.values, charges)
    except Unavailable as error:
        return (yield from refuse(visit.request, error, AWAY))
    if charge.decision.limited:
        return (yield from refusal(visit.request, charge, charges))
    response = yield visit.call
    charges.write(response)
    return response


def refusal(request: Any, charge: Charge, charges: Charges) -> Steps[Any]:
    """The answer to a request that `charge` refuses, with the fields of all limits."""
    decision = charge.decision
    error = RateLimitError(decision.limiter, decision)
    response = yield from refuse(request, error, charges.problem(charge), decision.retry_after)
    charges.write(response)
    return response


def rate_limit_exempt(view: View) -> View:
    """Keep `RateLimitMiddleware` from counting a view, a function or a class; its own `@rate_limited` still counts."""
    setattr(view, EXEMPT, True)
    exemptions["are there"] = True
    return view


exemptions = {"are there": False}
"""While there are none, the middleware need not look which view a request is for."""


def protect_login(login: Login, *rules: str | Rule, field: str = "username", **options: Unpack[LimitOptions]) -> Login:
    """Limit the tries to sign in: by address, and by the name that is tried. Only POST is counted.

        urlpatterns = [
            path("admin/", protect_login(admin.site, "5/minute").urls),
            path("login/", protect_login(LoginView.as_view(), "5/minute")),
        ]

    Args:
        login: a login view, or an `AdminSite`, whose login is protected from then on.
        rules: texts such as `"5/minute"` or `Rule` values; they hold for each address and for each name.
        field: the field of the form that has the name. It is hashed before it is counted, in lower case and NFKC.
        options: see `LimitOptions`; `key` and `methods` are set here.

    Returns:
        The protected view, or the site.

    Raises:
        ConfigurationError: an argument is wrong.
    """
    for word in ("key", "methods"):
        if word in options:
            raise ConfigurationError(f"protect_login sets {word}= itself: leave it out, or take @rate_limited")
    site: Any = login
    if hasattr(login, "login"):
        site.login = _protected(site.login, rules, field, options)
        return login
    return cast("Login", _protected(site, rules, field, options))


def _protected(view: Any, rules: tuple[Any, ...], field: str, options: Any) -> Any:
    name = options.pop("name", None) or name_of(view)
    by_name = rate_limited(
        *rules, key=lambda request: _name_tried(request, field), methods=["POST"], name=f"{name}:name", **options
    )
    return rate_limited(*rules, methods=["POST"], name=name, **options)(by_name(view))


def _name_tried(request: Any, field: str) -> str:
    """The name as the login reads it: what it takes for one name is one, in whatever letters that is written."""
    name = unicodedata.normalize("NFKC", request.POST.get(field, "")).strip().casefold()
    return hashed(name) if name else f"~{client_address(request)}"
