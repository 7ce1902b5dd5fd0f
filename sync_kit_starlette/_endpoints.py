"""How a decorator stands around a handler: its signature stays, and the request is found wherever it is."""

from __future__ import annotations

import functools
import inspect
import typing
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.requests import HTTPConnection, Request

from sync_kit import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Call = Callable[[], Awaitable[Any]]
    Step = Callable[[Request, Call], Awaitable[Any]]

INJECTED = "request"


def around(handler: Callable[..., Any], step: Step) -> Callable[..., Awaitable[Any]]:
    """An endpoint that runs `step(request, call)`, where `await call()` runs the handler.

    The handler may be `async def` or `def` (then it runs on a thread), a function or a method, with or
    without a parameter for the request.
    """
    signature = _resolved(handler)
    takes_request = any(_is_request(parameter) for parameter in signature.parameters.values())

    @functools.wraps(handler)
    async def endpoint(*args: Any, **kwargs: Any) -> Any:
        request = next((value for value in (*args, *kwargs.values()) if isinstance(value, HTTPConnection)), None)
        if request is None:
            raise ConfigurationError(f"{handler.__qualname__} is decorated for requests and was called without one")
        if not takes_request and kwargs.get(INJECTED) is request:
            del kwargs[INJECTED]
        if not _fits(signature, args, kwargs):
            args = tuple(value for value in args if value is not request)
        return await step(typing.cast("Request", request), functools.partial(_call, handler, args, kwargs))

    endpoint.__signature__ = signature if takes_request else _with_request(signature)  # type: ignore[attr-defined]
    return endpoint


async def _call(handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(handler):
        return await handler(*args, **kwargs)
    return await anyio.to_thread.run_sync(functools.partial(handler, *args, **kwargs))


def _resolved(handler: Callable[..., Any]) -> inspect.Signature:
    """The handler's signature with string annotations resolved where they can be: FastAPI reads them from here."""
    signature = inspect.signature(handler)
    try:
        hints = typing.get_type_hints(handler, include_extras=True)
    except (NameError, TypeError):
        return signature
    parameters = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=hints.get("return", signature.return_annotation))


def _is_request(parameter: inspect.Parameter) -> bool:
    kind = parameter.annotation
    return parameter.name == INJECTED or (inspect.isclass(kind) and issubclass(kind, HTTPConnection))


def _with_request(signature: inspect.Signature) -> inspect.Signature:
    """Ask FastAPI for the request, which the handler itself does not want."""
    extra = inspect.Parameter(INJECTED, inspect.Parameter.KEYWORD_ONLY, annotation=Request)
    parameters = list(signature.parameters.values())
    place = next((i for i, p in enumerate(parameters) if p.kind is p.VAR_KEYWORD), len(parameters))
    return signature.replace(parameters=[*parameters[:place], extra, *parameters[place:]])


def _fits(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
