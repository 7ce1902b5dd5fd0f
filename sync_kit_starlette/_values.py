"""Placeholders that a request fills in: `"report:<id>:<query.lang>:<header.x-tenant>:<user>"`."""

from __future__ import annotations

import inspect
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sync_kit import ConfigurationError
from sync_kit.mutex import KeyTemplate
from sync_kit.ratelimit import hashed
from sync_kit.ratelimit.addresses import SECRET_HEADERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import HTTPConnection

    UserOf = Callable[[Any], str | int | Awaitable[str | int | None] | None]

SOURCES = ("query", "header")
USER = "user"
MANY_SPELLINGS = (int, float, date, datetime, UUID)
"""Types whose values can be written in several ways: 7 and 007 are one."""


class MissingValue(Exception):
    """A request lacks the value of a placeholder."""

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder)
        self.placeholder = placeholder


class RequestTemplate:
    """A name whose placeholders are filled from each request.

    `<id>` is a path parameter, `<query.name>` and `<header.name>` are what they say, and `<user>` is who is signed
    in: what `user=` returns, else `request.user` of Starlette's AuthenticationMiddleware.

    Raises:
        ConfigurationError: the text is empty, or a placeholder is none.
    """

    def __init__(self, text: str, user: UserOf | None = None) -> None:
        self.keys = KeyTemplate(text, sources=SOURCES)
        self.path_names = tuple(name for name in self.keys.names if "." not in name and name != USER)
        self._user = user or signed_in

    async def fill(self, connection: HTTPConnection, values: Mapping[str, Any] | None = None) -> str:
        """The name for this request.

        Args:
            connection: the request.
            values: the path parameters as the handler gets them, of those that somebody has converted.

        Raises:
            MissingValue: the request has no such query parameter or header, its path parameter is empty (`{name:path}`
                may be), or nobody is signed in.
            ConfigurationError: the route has no such path parameter, or a parameter that is called `user` too.
        """
        self.keys.require((*self._others(), *connection.path_params))
        found = {name: await self._value(name, connection, values or {}) for name in self.keys.names}
        return self.keys.fill(found)

    def _others(self) -> tuple[str, ...]:
        return tuple(name for name in self.keys.names if name not in self.path_names)

    async def _value(self, name: str, connection: HTTPConnection, values: Mapping[str, Any]) -> Any:
        source, _, rest = name.partition(".")
        if rest:
            value = connection.query_params.get(rest) if source == "query" else _header(connection, rest.lower())
        elif name == USER:
            value = await self._signed_in(connection)
        else:
            value = values.get(name)
            value = value if type(value) in MANY_SPELLINGS else connection.path_params[name]
            name = f"path.{name}"
        if value is None or value == "":
            raise MissingValue(name)
        return value

    async def _signed_in(self, connection: HTTPConnection) -> Any:
        if USER in connection.path_params:
            raise ConfigurationError(
                f"<user> in {self.keys.text!r} is who is signed in, and this route has a path parameter of that name "
                "too: rename the parameter"
            )
        user = self._user(connection)
        return await user if inspect.isawaitable(user) else user


def _header(connection: HTTPConnection, name: str) -> str | None:
    value = connection.headers.get(name)
    return hashed(value) if value and name in SECRET_HEADERS else value


def signed_in(connection: HTTPConnection) -> str | None:
    """The identity of `request.user` (its `display_name` where it has no other); None for an anonymous request.

    Raises:
        ConfigurationError: there is no AuthenticationMiddleware around.
    """
    if USER not in connection.scope:
        raise ConfigurationError(
            "<user> needs to know who is signed in: add Starlette's AuthenticationMiddleware around whoever asks, "
            "or pass user= a function of the request"
        )
    user = connection.scope[USER]
    if not user.is_authenticated:
        return None
    try:
        return str(user.identity)
    except NotImplementedError:  # Starlette's SimpleUser
        return str(user.display_name)
