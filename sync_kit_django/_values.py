"""Placeholders that a request fills in: `"report:<id>:<query.lang>:<header.x-tenant>:<user>"`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.utils.functional import SimpleLazyObject, empty

from sync_kit import ConfigurationError
from sync_kit.mutex import KeyTemplate
from sync_kit.options import shown
from sync_kit.ratelimit import hashed
from sync_kit.ratelimit.addresses import SECRET_HEADERS
from sync_kit_django._steps import Do, ask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sync_kit_django._steps import Steps

    UserOf = Callable[[Any], str | int | Awaitable[str | int | None] | None]

SOURCES = ("query", "header")
USER = "user"
AUTHENTICATION = "django.contrib.auth.middleware"


class MissingValue(Exception):
    """A request lacks the value of a placeholder."""

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder)
        self.placeholder = placeholder


class RequestTemplate:
    """A name whose placeholders are filled from each request.

    `<id>` is a value of the URL, `<query.name>` and `<header.name>` are what they say, and `<user>` is who is signed
    in: what `user=` returns, else the primary key of `request.user`.

    Attributes:
        keys: the text and its placeholders.
        path_names: the placeholders that the URL has to fill.
        other_names: the others.

    Raises:
        ConfigurationError: the text is empty, or a placeholder is none.
    """

    def __init__(self, text: str, user: UserOf | None = None) -> None:
        if user is not None and not callable(user):
            raise ConfigurationError(f"user must be a function of the request, not {shown(user)}")
        self.keys = KeyTemplate(text, sources=SOURCES)
        self.path_names = tuple(name for name in self.keys.names if "." not in name and name != USER)
        self.other_names = tuple(name for name in self.keys.names if name not in self.path_names)
        self._user = user

    def fill(self, request: Any, values: Mapping[str, Any]) -> Steps[str]:
        """The name for this request, whose URL has these `values`.

        Raises:
            MissingValue: the request has no such query parameter or header, its value of the URL is empty, or nobody
                is signed in.
            ConfigurationError: the URL has no such value, or one that is called `user` too.
        """
        self.keys.require((*self.other_names, *values))
        found: dict[str, Any] = {}
        for name in self.keys.names:
            value = (yield from self._signed_in(request, values)) if name == USER else _value(name, request, values)
            found[name] = value
            if value is None or value == "":
                raise MissingValue(name if "." in name or name == USER else f"path.{name}")
        return self.keys.fill(found)

    def _signed_in(self, request: Any, values: Mapping[str, Any]) -> Steps[Any]:
        if USER in values:
            raise ConfigurationError(
                f"<user> in {self.keys.text!r} is who is signed in, and this URL has a value of that name too: rename "
                "that one"
            )
        return (yield ask(self._user, request) if self._user else signed_in(request))


def _value(name: str, request: Any, values: Mapping[str, Any]) -> Any:
    source, _, rest = name.partition(".")
    if not rest:
        return values[name]
    if source == "query":
        return request.GET.get(rest)
    value = request.headers.get(rest)
    return hashed(value) if value and rest.lower() in SECRET_HEADERS else value


def signed_in(request: Any) -> Do:
    """The primary key of who is signed in; None for an anonymous request. The database is asked once at most.

    Raises:
        ConfigurationError: AuthenticationMiddleware has not seen the request.
    """
    return Do(lambda: _key_of(_user(request)), lambda: _key_of_later(request))


async def _key_of_later(request: Any) -> Any:
    user = _user(request)
    if not isinstance(user, SimpleLazyObject) or user._wrapped is not empty:
        return _key_of(user)
    if user.__dict__["_setupfunc"].__module__ != AUTHENTICATION:  # another middleware, unknown to auser
        return await sync_to_async(_key_of)(user)
    return _key_of(user if hasattr(request, "_cached_user") else await request.auser())


def _user(request: Any) -> Any:
    if not hasattr(request, "user"):
        raise ConfigurationError(
            "who is signed in is not known here: put AuthenticationMiddleware into MIDDLEWARE, before whoever asks; "
            'or take key="ip"; or pass user=, a function of the request'
        )
    return request.user


def _key_of(user: Any) -> Any:
    return user.pk if user is not None and user.is_authenticated else None
