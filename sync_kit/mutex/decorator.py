"""`@mutex.exclusive("report:<id>")` for functions."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from sync_kit.errors import ConfigurationError, LockError
from sync_kit.mutex.lease import LEAST_TTL
from sync_kit.mutex.template import KeyTemplate
from sync_kit.options import choice, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sync_kit.mutex.verbs import Verbs
    from sync_kit.options import Seconds

    NameOf = Callable[[tuple[Any, ...], dict[str, Any]], str]

F = TypeVar("F", bound="Callable[..., Any]")
P = ParamSpec("P")
R = TypeVar("R")
Conflict = Literal["raise", "skip", "wait"]
CONFLICTS = ("raise", "skip", "wait")


class Same(Protocol):
    """A decorator that keeps the type of the function."""

    def __call__(self, function: F, /) -> F: ...


class Skipping(Protocol):
    """A decorator of a function that may be skipped, and then returns None."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[Any, Any, R | None]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, R | None]: ...


def decorator(
    verbs: Verbs, resource: str, on_conflict: Conflict, ttl: Seconds | None, wait: Seconds | None
) -> Callable[[Any], Any]:
    """See `Verbs.exclusive`."""
    template = KeyTemplate(resource)
    skips = choice("on_conflict", on_conflict, CONFLICTS) == "skip"
    waiting = (verbs.wait if on_conflict == "wait" else 0.0) if wait is None else seconds("wait", wait)
    life = None if ttl is None else seconds("ttl", ttl, least=LEAST_TTL)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if isinstance(function, classmethod):
            raise ConfigurationError("write @exclusive(...) below @classmethod: it decorates the function")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(f"{_name(function)} is a generator: hold the lock inside it, with `lock(...)`")
        name_of = filled(template, function)
        around = _async if _is_async(function) else _blocking
        return around(verbs, function, lambda *call: {"resource": name_of(*call), "ttl": life, "wait": waiting}, skips)

    return decorate


def filled(template: KeyTemplate, function: Callable[..., Any]) -> NameOf:
    """What makes the resource of a call from its arguments, defaults included."""
    signature = inspect.signature(function)
    rest = next((name for name, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD), None)
    if rest is None:
        template.require(signature.parameters)

    def name_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return template.fill({**bound.arguments.get(rest or "", {}), **bound.arguments})

    return name_of


def _async(verbs: Verbs, function: Callable[..., Any], options: Callable[..., Any], skips: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    async def exclusive(*args: Any, **kwargs: Any) -> Any:
        guard = verbs.lock(**options(args, kwargs))
        try:
            async with guard:
                return await function(*args, **kwargs)
        except LockError as error:
            if error is not guard.busy or not skips:
                raise
            return None

    return exclusive


def _blocking(
    verbs: Verbs, function: Callable[..., Any], options: Callable[..., Any], skips: bool
) -> Callable[..., Any]:
    @functools.wraps(function)
    def exclusive(*args: Any, **kwargs: Any) -> Any:
        guard = verbs.blocking.lock(**options(args, kwargs))
        try:
            with guard:
                return done(function, function(*args, **kwargs))
        except LockError as error:
            if error is not guard.busy or not skips:
                raise
            return None

    return exclusive


def _is_async(function: Callable[..., Any]) -> bool:
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))  # or an object whose calls are


def done(function: Callable[..., Any], result: Any) -> Any:
    """What a plain function returned, unless its work is still to be awaited: nothing would be held then."""
    if not inspect.isawaitable(result):
        return result
    if inspect.iscoroutine(result):
        result.close()
    raise ConfigurationError(
        f"{_name(function)} is not async and returned something to await, which would run without the lock: "
        "decorate the async function itself"
    )


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", function))
