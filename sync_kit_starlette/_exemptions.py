"""Requests that a middleware does not count."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from sync_kit import ConfigurationError
from sync_kit.options import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import HTTPConnection

Exempt = str | Callable[[Any], "bool | Awaitable[bool]"]

BELOW = "/*"


class Exemptions:
    """Paths, methods and functions by which requests are exempt. Paths are what routes see: without the root path.

    Attributes:
        functions: those that have to be asked.

    Raises:
        ConfigurationError: something is neither a path nor a function.
    """

    __slots__ = ("_below", "_exact", "_methods", "functions")

    def __init__(self, exempt: Exempt | Iterable[Exempt], methods: Iterable[str] | None) -> None:
        several = isinstance(exempt, Iterable) and not isinstance(exempt, str) and not callable(exempt)
        given: list[Any] = list(exempt) if several else [exempt]  # type: ignore[arg-type]
        paths = [_path(one) for one in given if not callable(one)]
        self.functions = tuple(one for one in given if callable(one))
        self._below = tuple(path[:-1] for path in paths if path.endswith(BELOW))
        self._exact = frozenset(path.removesuffix(BELOW) for path in paths)
        self._methods = None if methods is None else frozenset(_method(one) for one in _list(methods))
        if self._methods and "GET" in self._methods:
            self._methods |= {"HEAD"}

    def know(self, scope: Mapping[str, Any]) -> bool:
        """Whether a request is exempt by its path or method."""
        if self._methods is not None and scope.get("method", "GET").upper() not in self._methods:
            return True
        if not self._exact:
            return False
        path = _path_of(scope)
        return path in self._exact or path.startswith(self._below)

    async def ask(self, connection: HTTPConnection) -> bool:
        """Whether one of the functions says so."""
        for function in self.functions:
            said = function(connection)
            if await said if inspect.isawaitable(said) else said:
                return True
        return False


def _path(given: object) -> str:
    if not isinstance(given, str) or not given.startswith("/") or "*" in given.removesuffix(BELOW):
        raise ConfigurationError(
            f'exempt takes paths ("/live", or "/static/*" for all below) and functions, not {shown(given)}'
        )
    return given


def _list(methods: Iterable[str]) -> list[str]:
    given = [methods] if isinstance(methods, str) else list(methods)
    if not given:
        raise ConfigurationError("methods is empty, so nothing would be counted: leave it out to count all")
    return given


def _method(given: object) -> str:
    if not isinstance(given, str) or not given.isalpha():
        raise ConfigurationError(f'methods takes names such as "POST", not {shown(given)}')
    return given.upper()


def _path_of(scope: Mapping[str, Any]) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
