"""Responses that hold a lease until their last byte."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
from starlette.concurrency import iterate_in_threadpool

from sync_kit import LockLostError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

    from sync_kit.mutex.guard import Guard

    Lost = Callable[[LockLostError], Awaitable[Response | None]]

POLL = 0.01
SLOT = "_sync_kit_delivery"
CUT = "sync_kit.cut"
LAST: dict[str, Callable[[Message], bool]] = {
    "http.response.body": lambda message: not message.get("more_body", False),
    "http.response.zerocopysend": lambda message: not message.get("more_body", False),
    "http.response.pathsend": lambda _: True,
}
"""Whether a message of this type is the last one of a response."""
LAST_OF_TRAILERS: dict[str, Callable[[Message], bool]] = {
    "http.response.trailers": lambda message: not message.get("more_trailers", False),
}


def held(response: Response, guard: Guard, lost: Lost) -> Response:
    """The same response, sent inside `guard`, which ends with the last byte: before tasks in the background run.

    It is an object of its own, because a handler may return one response to many requests, but shares all that the
    original has, in both directions. `lost` makes the answer for a lease that is lost before the response begins.
    A copy takes the lease along; what is pickled, or kept and sent again, is sent without it.
    """
    kind: Any = _held(cast("Any", type(response)))
    twin = object.__new__(kind)
    twin.__dict__ = response.__dict__
    twin._sync_kit_delivery = Delivery(response, guard, lost)
    return cast("Response", twin)


@functools.lru_cache(maxsize=256)
def _held(kind: type) -> Any:
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        await self._sync_kit_delivery(scope, receive, send)

    def missing(self: Any, name: str) -> Any:  # a slot of the original
        if name == SLOT:
            raise AttributeError(name)
        return getattr(self._sync_kit_delivery.response, name)

    own = {
        "__slots__": (SLOT,),
        "__module__": kind.__module__,
        "__call__": call,
        "__getattr__": missing,
        "__copy__": lambda self: self._sync_kit_delivery.copied(),
        "__reduce_ex__": lambda self, _: (_itself, (self._sync_kit_delivery.response,)),
    }
    return type(kind.__name__, (kind,), own)


def _itself(response: Response) -> Response:
    """What a pickled twin is read as."""
    return response


class Delivery:
    """How one response is sent."""

    def __init__(self, response: Response, guard: Guard, lost: Lost) -> None:
        self.response = response
        self._guard = guard
        self._lost = lost
        self._began = False
        self._streams = False
        self._whole = False
        self._last = LAST

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call of the response."""
        if self._guard.used:
            await self.response(scope, receive, send)
            return
        try:
            async with self._guard:
                await self._deliver(scope, receive, send)
        except LockLostError as loss:
            if loss is not self._guard.loss:
                raise
            if self._began:
                await self._cut(send, loss)
                raise
            refusal = await self._lost(loss)
            if refusal is not None:
                await refusal(scope, receive, send)

    def copied(self) -> Response:
        """A copy of the response, sent inside the same guard."""
        return held(copy.copy(self.response), self._guard, self._lost)

    async def _deliver(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = getattr(self.response, "body_iterator", None)
        if body is None:
            await self.response(scope, receive, functools.partial(self._send, send))
            return
        source = _on_threads(body)

        async def sending(message: Message) -> None:
            try:
                await self._send(send, message)
            except BaseException:
                await _close(body)  # in the task that iterates it: cancel scopes around a `yield` belong there
                raise

        try:
            await self.response(scope, receive, sending)
        finally:
            with anyio.CancelScope(shield=True):
                await _close(body)
                await _close_on_thread(source)

    async def _send(self, send: Send, message: Message) -> None:
        self._guard.require()
        kind = message["type"]
        if kind == "http.response.start":
            self._began = True
            self._last = LAST_OF_TRAILERS if message.get("trailers") else LAST
        is_last = kind in self._last and self._last[kind](message)
        if is_last and self._is_sent_but_for(message):
            await self._guard.end()
            self._guard.require()
        await send(message)
        self._streams = self._streams or kind in LAST
        if is_last:
            self._whole = True
            await self._guard.end()

    def _is_sent_but_for(self, message: Message) -> bool:
        """Whether nothing is left that could still be read or made: the end of a stream, or all of a short body.

        Then the lease ends before the client hears of it: its next request must not be refused because of this one.
        """
        return message["type"] == "http.response.body" and not (self._streams and message.get("body"))

    async def _cut(self, send: Send, loss: LockLostError) -> None:
        """Keep what was sent from being taken for a whole body.

        The error that goes up to the server does so, but for Starlette's BaseHTTPMiddleware: that ends the body of an
        app that has failed as if it were whole. A message that it does not know makes it fail too (without assertions,
        `python -O`, it asks whether more follows); servers refuse it.
        """
        if not self._whole:
            with contextlib.suppress(Exception):
                await send({"type": CUT, "detail": str(loss), "more_body": _Loss(loss)})


class _Loss:
    """Raises when it is asked whether more follows."""

    def __init__(self, loss: LockLostError) -> None:
        self._loss = loss

    def __bool__(self) -> bool:
        raise self._loss


def _on_threads(body: Any) -> Generator[Any, Any, Any] | None:
    """The plain generator that Starlette runs on threads, which it does not close."""
    frame = getattr(body, "ag_frame", None)
    if frame is None or frame.f_code is not iterate_in_threadpool.__code__:
        return None
    source = frame.f_locals.get("iterator")
    return source if inspect.isgenerator(source) else None


async def _close(body: Any) -> None:
    """End a body that is not iterated any more: a generator has run its clean-up then."""
    if isinstance(body, AsyncGenerator) and not getattr(body, "ag_running", False):
        await body.aclose()


async def _close_on_thread(source: Generator[Any, Any, Any] | None) -> None:
    if source is None:
        return
    # after a Task.cancel of asyncio it may still run, and it tells nobody when it stops
    while (state := inspect.getgeneratorstate(source)) == inspect.GEN_RUNNING:  # noqa: ASYNC110
        await anyio.sleep(POLL)
    if state != inspect.GEN_CLOSED:
        await anyio.to_thread.run_sync(source.close)
