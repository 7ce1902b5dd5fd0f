"""What a refused request is answered with: what the app's own handler says, else a JSON problem (RFC 9457)."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketState

from sync_kit.ratelimit.headers import PROBLEM_TYPE, retry_after_field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import HTTPConnection

    from sync_kit import SyncKitError

DENIAL = "websocket.http.response"
"""The extension of ASGI with which a handshake is answered by a response."""

POLICY_VIOLATION = 1008
"""The code (RFC 6455, section 7.4.1) that a handshake is closed with where the server lacks that extension."""


def problem(status: int, title: str, detail: str, retry_after: float | None = None) -> JSONResponse:
    """A problem response; `retry_after` seconds become a `Retry-After` of whole seconds, rounded up, at least 1."""
    after = None if retry_after is None else retry_after_field(retry_after)
    headers = {} if after is None else {"Retry-After": after}
    return respond({"title": title, "status": status, "detail": detail}, headers)


def respond(body: Mapping[str, Any], headers: Mapping[str, str]) -> JSONResponse:
    """The response that says `body`."""
    return JSONResponse(body, body["status"], headers, media_type=PROBLEM_TYPE)


async def answer(connection: HTTPConnection, error: SyncKitError | HTTPException, default: Response) -> Response:
    """What the app's own exception handler for `error` says, or the `default`."""
    handler: Any = handler_of(connection, error)
    if handler is None:
        return default
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(handler.__call__):
        return cast("Response", await handler(connection, error))
    return cast("Response", await run_in_threadpool(handler, connection, error))


async def refuse(connection: HTTPConnection, error: SyncKitError | HTTPException, default: Response) -> Response | None:
    """The `answer` to a request; a WebSocket is answered here, or closed, and None returned.

    It is closed if it was accepted before, if the server cannot answer handshakes, or if the app's handler has not
    done anything with it.
    """
    if not isinstance(connection, WebSocket):
        return await answer(connection, error, default)
    if connection.client_state is WebSocketState.CONNECTING:
        await connection.receive()
    said = None
    if connection.application_state is WebSocketState.CONNECTING and DENIAL in connection.scope.get("extensions", {}):
        said = await answer(connection, error, default)
    if said is not None:
        await connection.send_denial_response(said)
    elif connection.application_state in (WebSocketState.CONNECTING, WebSocketState.CONNECTED):
        await connection.close(POLICY_VIOLATION, default.headers.get("retry-after"))
    return None


def handler_of(connection: HTTPConnection, error: SyncKitError | HTTPException) -> Callable[..., Any] | None:
    """The handler that the innermost app around has for `error`; None if it has none of its own for it.

    A middleware stands outside of what Starlette handles exceptions in, so it asks the app itself. Handlers for
    every `Exception` are not meant: they answer for bugs. An `HTTPException` is a status that the app may have a
    handler for.
    """
    if isinstance(error, HTTPException):
        statuses: Mapping[int, Any] = connection.scope.get("starlette.exception_handlers", ({}, {}))[1]
        return statuses.get(error.status_code)
    tables, app = connection.scope.get("starlette.exception_handlers"), connection.scope.get("app")
    handlers: Mapping[Any, Any] = tables[0] if tables else getattr(app, "exception_handlers", None) or {}
    kinds = (kind for kind in type(error).__mro__ if kind is not Exception)
    return next((handlers[kind] for kind in kinds if kind in handlers), None)


def connection_of(scope: Any, receive: Any, send: Any) -> Request | WebSocket:
    """The request or WebSocket of an ASGI call."""
    return Request(scope, receive, send) if scope["type"] == "http" else WebSocket(scope, receive, send)
