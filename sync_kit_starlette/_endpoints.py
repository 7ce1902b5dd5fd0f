"""How a decorator stands around a handler: its signature stays, and the request is found wherever it is."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio.to_thread
from starlette.datastructures import MutableHeaders
from starlette.endpoints import HTTPEndpoint
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from sync_kit import ConfigurationError
from sync_kit._io.aio import to_the_end
from sync_kit_starlette._answers import connection_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from starlette.requests import Request
    from starlette.types import Message, Send

    Call = Callable[[], Awaitable[Any]]
    Step = Callable[["Visit"], Awaitable[Any]]

Handler = TypeVar("Handler", bound="Callable[..., Any]")
"""A decorated handler looks as it did; a plain `def` has become one to await."""

CONNECTION, RESPONSE = "sync_kit_connection", "sync_kit_response"
"""Parameters that FastAPI is asked to fill in where the handler itself has none of their kind."""

METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "query")
"""The handlers that an `HTTPEndpoint` may have."""


class Visit:
    """One call of a decorated handler.

    Attributes:
        connection: the request, or the WebSocket.
        call: runs the handler, with the arguments that it was called with.
        headers: what is put here is added to the response that is made of what the handler returns; None where the
            handler makes it itself.
        values: what the handler is called with by name: by FastAPI, which has converted it.
        began: whether a `dispatch` has begun to respond: it sends its response itself.
    """

    __slots__ = ("began", "call", "connection", "headers", "values")

    def __init__(
        self,
        connection: Request | WebSocket,
        call: Call,
        headers: MutableHeaders | None = None,
        values: Mapping[str, Any] = types.MappingProxyType({}),
    ) -> None:
        self.connection = connection
        self.call = call
        self.headers = headers
        self.values = values
        self.began = False

    def noting(self, send: Send) -> Send:
        """A `send` that notes when the response begins."""

        async def noting(message: Message) -> None:
            self.began = self.began or message["type"] == "http.response.start"
            await send(message)

        return noting


def around(handler: Any, step: Step, decorator: str) -> Any:
    """An endpoint that runs `step(visit)`, where `await visit.call()` runs the handler.

    The handler may be `async def` or `def` (then it runs on a thread), a function, a method or any callable, with or
    without a parameter for the request; or a class with a `dispatch`, such as Starlette's `HTTPEndpoint`.

    Raises:
        ConfigurationError: it is a generator, or a class of another kind; `decorator` is who says so.
    """
    if inspect.isclass(handler):
        return _around_class(handler, step, decorator)
    if not callable(handler):
        raise ConfigurationError(f"{decorator} decorates handlers, not {handler!r}")
    _refuse_generators(handler, decorator)
    signature, is_async = signature_of(handler), _is_async(handler)
    asked, fits = tuple(_missing(signature)), _fitting(signature)

    @functools.wraps(handler)
    async def endpoint(*args: Any, **kwargs: Any) -> Any:
        connection = next((value for value in (*args, *kwargs.values()) if isinstance(value, HTTPConnection)), None)
        if connection is None:
            raise ConfigurationError(f"{name_of(handler)} is decorated for requests and was called without one")
        merged = next((value for value in kwargs.values() if isinstance(value, Response)), None)
        for parameter in asked:
            kwargs.pop(parameter.name, None)
        if not fits(len(args), tuple(kwargs)):
            args = tuple(value for value in args if value is not connection)
        call: Any = functools.partial(handler, *args, **kwargs)
        headers = None if merged is None else merged.headers
        return await step(Visit(cast("Any", connection), call if is_async else _on_thread(call), headers, kwargs))

    endpoint.__signature__ = _with(signature, asked)  # type: ignore[attr-defined]
    return endpoint


def _around_class(kind: type, step: Step, decorator: str) -> type:
    """A subclass whose every visit goes through `step`: Starlette's endpoint classes."""
    if not callable(getattr(kind, "dispatch", None)):
        raise ConfigurationError(f"{decorator} decorates endpoint classes of Starlette, and {kind.__name__} is none")

    class Endpoint(kind):  # type: ignore[misc]
        async def dispatch(self) -> None:
            it: Any = self
            send = it.send
            connection, headers = connection_of(it.scope, it.receive, send), MutableHeaders()
            visit = Visit(connection, super().dispatch, headers)
            if isinstance(connection, WebSocket):  # it knows from then on how far the endpoint's own has come
                it.receive, it.send = connection.receive, connection.send
            else:
                it.send = visit.noting(_adding(headers, send))
            response = await step(visit)
            if isinstance(response, Response):
                await response(it.scope, it.receive, send)

    return cast("type", functools.update_wrapper(Endpoint, kind, updated=()))


def _adding(more: MutableHeaders, send: Send) -> Send:
    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start" and more:
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in more.items():
                headers.setdefault(name, value)  # what a handler says knows of more than was known before it ran
            message = {**message, "headers": headers.raw}
        await send(message)

    return adding


def around_methods(kind: type[HTTPEndpoint], step: Step, decorator: str) -> type[HTTPEndpoint]:
    """A subclass whose handlers go through `step`, each like a function: what they return is seen before it is sent."""
    found = {name: handler for name in METHODS if callable(handler := getattr(kind, name, None))}
    own = {name: around(handler, step, decorator) for name, handler in found.items()}
    return cast("type[HTTPEndpoint]", functools.update_wrapper(type(kind.__name__, (kind,), own), kind, updated=()))


def has_methods(handler: Any) -> bool:
    """Whether `around_methods` can be used: an `HTTPEndpoint` that leaves it to Starlette to find the handler."""
    return inspect.isclass(handler) and getattr(handler, "dispatch", None) is HTTPEndpoint.dispatch


def _on_thread(call: Callable[[], Any]) -> Call:
    """Runs a plain `def` on a thread, and waits until it has ended: also when asyncio's own `Task.cancel` comes.

    If it only made something to await, as a plain wrapper of an `async def` does, that is awaited here.
    """

    async def run() -> Any:
        # in a tuple, because trio refuses what can be awaited as the result of a thread
        (result,), cancelled = await to_the_end(lambda: anyio.to_thread.run_sync(lambda: (call(),)))
        if cancelled is not None:
            raise cancelled
        return await result if inspect.isawaitable(result) else result

    return run


def _is_async(handler: Any) -> bool:
    return any(map(inspect.iscoroutinefunction, _functions_of(handler)))


def _refuse_generators(handler: Any, decorator: str) -> None:
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in _functions_of(handler)):
        raise ConfigurationError(
            f"{decorator} cannot refuse for {name_of(handler)}, a generator: its response has begun before it runs. "
            "Take the dependency of the same meaning from sync_kit_starlette.fastapi, or return a StreamingResponse"
        )


def _functions_of(handler: Any) -> Iterator[Any]:
    """What may be a function beneath partials and objects that can be called."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    yield handler
    yield type(handler).__call__


def name_of(handler: Any) -> str:
    """Module and name of a handler: the same in every process."""
    function = next(_functions_of(handler))
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def signature_of(handler: Callable[..., Any]) -> inspect.Signature:
    """The handler's signature with string annotations resolved where they can be: FastAPI reads them from here."""
    signature = inspect.signature(handler)
    function = inspect.unwrap(handler)
    function = getattr(function, "__func__", function)
    names = dict(getattr(function, "__globals__", {}))
    if (code := getattr(function, "__code__", None)) is not None and function.__closure__:
        names.update(_closure(code.co_freevars, function.__closure__))
    parameters = [p.replace(annotation=_read(p.annotation, names)) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=_read(signature.return_annotation, names))


def _read(annotation: Any, names: dict[str, Any]) -> Any:
    """One annotation alone: what another one cannot say must not keep it from being read."""
    if not isinstance(annotation, str):
        return annotation
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, names, names, include_extras=True)["it"]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return annotation


def _closure(names: tuple[str, ...], cells: Any) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(names, cells, strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def _missing(signature: inspect.Signature) -> Iterator[inspect.Parameter]:
    """What FastAPI is asked for because the handler itself does not take it."""
    kinds = [parameter.annotation for parameter in signature.parameters.values()]
    for name, wanted in ((CONNECTION, HTTPConnection), (RESPONSE, Response)):
        if not any(inspect.isclass(kind) and issubclass(kind, wanted) for kind in kinds):
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=wanted)


def _with(signature: inspect.Signature, asked: tuple[inspect.Parameter, ...]) -> inspect.Signature:
    parameters = list(signature.parameters.values())
    place = next((i for i, p in enumerate(parameters) if p.kind is p.VAR_KEYWORD), len(parameters))
    return signature.replace(parameters=[*parameters[:place], *asked, *parameters[place:]])


def _fitting(signature: inspect.Signature) -> Callable[[int, tuple[str, ...]], bool]:
    """Whether a call with so many arguments and these keywords fits, remembered: binding costs as much as routing."""

    @functools.lru_cache(maxsize=8)
    def fits(positional: int, names: tuple[str, ...]) -> bool:
        try:
            signature.bind(*range(positional), **dict.fromkeys(names))
        except TypeError:
            return False
        return True

    return fits
