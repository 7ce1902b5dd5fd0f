"""Responses that hold a lease until their last byte."""

from __future__ import annotations

import functools
import inspect
import weakref
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from sync_kit.mutex.guard import BlockingGuard
from sync_kit_django._steps import in_loop
from sync_kit_django._transactions import is_open as transaction_is_open

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from sync_kit import LockLostError
    from sync_kit.mutex.guard import Guard

    Lost = Callable[[LockLostError], Any]


def hold(request: Any, response: Any, guard: Guard | BlockingGuard, lost: Lost) -> Any:
    """Let what is left to do for a response hold the lease: its stream, the rendering of its template, or the commit.

    Of the commit of a transaction around nobody hears in time; when the server closes the request, it has been.
    Call it inside of the guarded block. `lost` makes the answer for a lease that is lost while a template is rendered.
    """
    if getattr(response, "streaming", False):
        parts = (LaterParts if response.is_async else Parts)(response._iterator, guard)
        response.streaming_content = parts
        guard.keep(parts)
    elif not getattr(response, "is_rendered", True):
        _render_inside(response, guard, lost)
        guard.keep(response)
    elif isinstance(guard, BlockingGuard) and transaction_is_open():
        _until_closed(request, guard)
    return response


def _end_here(guard: Guard | BlockingGuard) -> LockLostError | None:
    """End what was kept, in sync code; that a test calls inside of an event loop, it does not wait."""
    if isinstance(guard, BlockingGuard) or not in_loop():
        return guard.end_here()
    guard.end_soon()
    return None


def _until_closed(request: Any, guard: BlockingGuard) -> None:
    """Let a request hold the lease until the server closes it, with whatever has become of its response.

    Who calls a view by hand closes nothing: then it is held as long as the request is there.
    """
    before, known = vars(request).get("close"), weakref.ref(request)

    def close() -> None:
        guard.end_here()
        if before is not None:
            before()
        elif (ours := known()) is not None:
            type(ours).close(ours)

    request.close = close
    guard.keep(request)


class Parts:
    """The parts of a stream, which has the lease until it has ended or the server closes it."""

    def __init__(self, parts: Iterator[Any], guard: Guard | BlockingGuard) -> None:
        self._parts = parts
        self._guard = guard

    def __iter__(self) -> Parts:
        return self

    def __next__(self) -> Any:
        """The next part. Raises `LockLostError`, which cuts the connection, if the lease is known to be lost."""
        self._guard.require()
        try:
            return next(self._parts)
        except StopIteration:  # before the client is told that this was all
            if (loss := _end_here(self._guard)) is not None:
                raise loss from None
            raise

    def close(self) -> None:
        """End the lease. Django calls this with the response's own `close`, after that of the stream itself."""
        _end_here(self._guard)


class LaterParts:
    """The same of an async stream: it is cancelled when the lease is lost."""

    def __init__(self, parts: AsyncIterator[Any], guard: Guard | BlockingGuard) -> None:
        self._parts = parts
        self._guard = guard

    def __aiter__(self) -> LaterParts:
        return self

    async def __anext__(self) -> Any:
        """The next part. Raises `LockLostError`, which cuts the connection, if the lease is lost."""
        try:
            return await self._during(lambda: anext(self._parts))
        except StopAsyncIteration:
            if (loss := await self._end()) is not None:
                raise loss from None
            raise

    def close(self) -> None:
        """End stream and lease: of a client that went away nobody reads on. Any thread may call it."""
        if isinstance(self._guard, BlockingGuard):
            self._guard.end_here()
        else:
            self._guard.end_soon(self._end_stream)

    async def _during(self, part: Callable[[], Awaitable[Any]]) -> Any:
        if not isinstance(self._guard, BlockingGuard):
            return await self._guard.during(part)
        self._guard.require()
        return await part()

    async def _end(self) -> LockLostError | None:
        if not isinstance(self._guard, BlockingGuard):
            return await self._guard.end()
        return await anyio.to_thread.run_sync(self._guard.end_here)

    async def _end_stream(self) -> None:
        if inspect.isasyncgen(self._parts) and not self._parts.ag_running:
            await self._parts.aclose()


def _render_inside(response: Any, guard: Guard | BlockingGuard, lost: Lost) -> None:
    """Have a response render its template before the lease ends, which it does when that fails too."""
    render = response.render

    @functools.wraps(render)
    def rendering() -> Any:
        loss = None
        del response.render  # a cache that waits for the rendering pickles what is there
        try:
            rendered = render()
        finally:
            loss = _end_here(guard)
        return rendered if loss is None else lost(loss)

    response.render = rendering
