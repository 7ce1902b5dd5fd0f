"""Exclusive handlers for Starlette and FastAPI."""

from __future__ import annotations

import inspect
import logging
import time
from typing import TYPE_CHECKING, Any, Literal, cast

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from sync_kit import ConfigurationError, LockError, LockLostError, Mutex, Unavailable
from sync_kit.options import choice, refuse_unknown
from sync_kit_starlette._answers import handler_of, problem, refuse
from sync_kit_starlette._bodies import held
from sync_kit_starlette._endpoints import Handler, Visit, around, around_methods, has_methods, signature_of
from sync_kit_starlette._start import remember
from sync_kit_starlette._values import MissingValue, RequestTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Never

    from sync_kit import SyncKit
    from sync_kit.mutex import Lease
    from sync_kit.mutex.guard import Guard
    from sync_kit.options import Seconds
    from sync_kit_starlette._values import UserOf

    Conflict = Literal["refuse", "wait", "skip"]

log = logging.getLogger("sync_kit")

OPTIONS = ("on_conflict", "ttl", "wait", "user", "name", "kit")
LEASE = "sync_kit.lease"
"""Where the lease stands in the scope of a request."""
WAIT = 10.0
OUTAGE = 10.0
"""Seconds between two refusals for want of Redis that are taken for one outage, and logged once."""
DEPENDENCIES = ("Depends", "Security")
INTERNAL_ERROR = 1011
"""The code (RFC 6455, section 7.4.1) that an accepted WebSocket is closed with when its lease is lost."""
CHALLENGE = {"WWW-Authenticate": "Bearer"}
"""A 401 must name a scheme (RFC 9110, section 15.5.2); browsers ask for no password because of this one."""


def _busy(status: int, title: str) -> Callable[[float], Response]:
    return lambda seconds: problem(status, title, "Somebody else is doing this right now.", seconds)


BUSY: dict[str, Callable[[float], Response]] = {
    "refuse": _busy(409, "Conflict"),
    "wait": _busy(503, "Service Unavailable"),
    "skip": lambda _: Response(status_code=204),
}
"""What a busy resource is answered with, given the seconds after which its lease ends."""
AWAY = (503, "Service Unavailable", "Whether somebody else is doing this cannot be found out right now.")
LOST = (503, "Service Unavailable", "The lock was lost while this was being done.")


def exclusive(
    resource: str,
    *,
    on_conflict: Conflict = "refuse",
    ttl: Seconds = 10.0,
    wait: Seconds | None = None,
    user: UserOf | None = None,
    name: str = "exclusive",
    kit: SyncKit | None = None,
    **unknown: Never,
) -> Callable[[Handler], Handler]:
    """Run a handler for one request at a time, on all processes together: `@exclusive("report:<id>")`.

    The lease lasts until the last byte of the response has been sent, or until handler and body have ended. When it
    is lost they are cancelled: the answer is 503, or the connection is cut if the response has begun.

    Args:
        resource: what only one may hold; `<id>` is a path parameter, `<query.page>` and `<header.x-tenant>` are what
            they say, `<user>` is who is signed in.
        on_conflict: what a busy resource is answered with: `"refuse"`: 409 with `Retry-After`; `"wait"`: waits first,
            then 503 with `Retry-After`; `"skip"`: 204, as if it were done.
        ttl: seconds that the lease lives without renewal (it renews itself).
        wait: seconds to wait for a busy resource; 10 for `"wait"` and 0 for the others if not given.
        user: a function of the request that returns who is signed in, or None; may be async. If not given,
            `request.user` of Starlette's AuthenticationMiddleware is asked.
        name: the name of the mutex that the resource belongs to.
        kit: where the lease lives; the default kit if not given.

    Raises:
        ConfigurationError: when it is applied, if an argument is wrong, or if the handler names its path
            parameters (FastAPI) and a placeholder is not among them; else when an app starts that has a
            `RateLimitMiddleware` or a `job_worker`, which look at its routes; else at the first request.
    """
    refuse_unknown("exclusive", unknown, OPTIONS)
    section = Section(resource, on_conflict=on_conflict, ttl=ttl, wait=wait, user=user, name=name, kit=kit)

    def decorate(handler: Handler) -> Handler:
        _refuse_unknown_placeholders(section.template, handler)
        stand = around_methods if has_methods(handler) else around
        endpoint = stand(cast("Any", handler), section.step, "@exclusive")
        remember(endpoint, section.template)
        return cast("Handler", endpoint)

    return decorate


def lease_of(request: HTTPConnection) -> Lease:
    """The lease of the innermost `@exclusive` that `request`, or a WebSocket, is in: for its `fence`.

    Raises:
        ConfigurationError: it is in none.
    """
    lease = request.scope.get(LEASE)
    if lease is None:
        raise ConfigurationError(f"{request.url.path} has no lease: put @exclusive(...) on its handler")
    return cast("Lease", lease)


class Section:
    """What only one request at a time may do; takes what `exclusive` takes.

    Attributes:
        template: makes the resource of a request.
        mutex: has the leases.
    """

    def __init__(
        self,
        resource: str,
        *,
        on_conflict: Conflict = "refuse",
        ttl: Seconds = 10.0,
        wait: Seconds | None = None,
        user: UserOf | None = None,
        name: str = "exclusive",
        kit: SyncKit | None = None,
    ) -> None:
        if user is not None and not callable(user):
            raise ConfigurationError(f"user must be a function of the request, not {user!r}")
        self._busy = BUSY[choice("on_conflict", on_conflict, tuple(BUSY))]
        patience: Seconds = WAIT if on_conflict == "wait" else 0.0
        self.template = RequestTemplate(resource, user)
        self.mutex = Mutex(name, ttl=ttl, wait=patience if wait is None else wait, kit=kit)
        self._refused_at = float("-inf")

    async def guard(self, connection: HTTPConnection, values: Mapping[str, Any] | None = None) -> Guard:
        """The lock of what `connection` asks for, to be entered with `async with`. Raises what the template does."""
        return self.mutex.lock(await self.template.fill(connection, values))

    async def step(self, visit: Visit) -> Any:
        """Run a handler inside the section, or refuse."""
        guard: Guard | None = None
        try:
            guard = await self.guard(visit.connection, visit.values)
            async with guard as lease:
                self._refused_at = float("-inf")
                visit.connection.scope[LEASE] = lease
                response = await visit.call()
                if isinstance(response, Response):
                    response = held(response, guard.hand_over(), lambda loss: self.refusal(visit.connection, loss))
        except (MissingValue, LockError, LockLostError, Unavailable) as error:
            if not is_own(error, guard) or visit.began:
                raise
            return await self.refusal(visit.connection, error)
        return response

    async def refusal(
        self, connection: HTTPConnection, error: MissingValue | LockError | LockLostError | Unavailable
    ) -> Response | None:
        """The answer to what `guard` raised, made by the app's own handler if it has one for that.

        A WebSocket is answered or closed here, and None returned.
        """
        if isinstance(error, MissingValue):
            return await refuse(connection, *_missing(error))
        if isinstance(connection, WebSocket) and connection.application_state is not WebSocketState.CONNECTING:
            await _close(connection, error)
            return None
        return await refuse(connection, error, self._default(error))

    def _default(self, error: LockError | LockLostError | Unavailable) -> Response:
        if isinstance(error, LockError):
            return self._busy(error.expires_in)
        if isinstance(error, LockLostError):
            log.warning("a request was cancelled: %s", error)
            return problem(*LOST)
        last, self._refused_at = self._refused_at, time.monotonic()
        if self._refused_at - last > OUTAGE:
            log.warning("requests that need %r are answered with 503: %s", self.template.keys.text, error)
        return problem(*AWAY)


def is_own(error: Exception, guard: Guard | None) -> bool:
    """Whether an error is the section's, and not the handler's own; without a `guard` it came before there was one."""
    if guard is None:
        return isinstance(error, MissingValue)
    return any(error is own for own in (guard.busy, guard.away, guard.loss))


def _missing(error: MissingValue) -> tuple[HTTPException, Response]:
    """The error that an app may have a handler for, and the answer if it has none."""
    source, _, name = error.placeholder.partition(".")
    if not name:
        said = problem(401, "Unauthorized", "Nobody is signed in.")
        said.headers.update(CHALLENGE)
        return HTTPException(401, "Nobody is signed in.", CHALLENGE), said
    detail = f"The {source if source == 'header' else f'{source} parameter'} {name!r} is missing."
    return HTTPException(400, detail), problem(400, "Bad Request", detail)


async def _close(websocket: WebSocket, error: Exception) -> None:
    """End an accepted WebSocket whose lease is lost, unless the app has a handler of its own for that."""
    if handler_of(websocket, cast("Any", error)) is not None:
        raise error
    log.warning("a WebSocket was closed: %s", error)
    if WebSocketState.CONNECTED is websocket.application_state is websocket.client_state:
        await websocket.close(INTERNAL_ERROR)


def _refuse_unknown_placeholders(template: RequestTemplate, handler: Callable[..., Any]) -> None:
    """Handlers that only take the request may have any path; those that name values must name these."""
    if inspect.isclass(handler) or not callable(handler):
        return
    parameters = [p for p in signature_of(handler).parameters.values() if not _is_request(p)]
    alone = len(parameters) == 1 and parameters[0].annotation is inspect.Parameter.empty
    if parameters and not alone and not any(map(_may_name_others, parameters)):
        others = (name for name in template.keys.names if name not in template.path_names)
        template.keys.require([*others, *(parameter.name for parameter in parameters)])


def _is_request(parameter: inspect.Parameter) -> bool:
    kind = parameter.annotation
    of_request = inspect.isclass(kind) and issubclass(kind, (HTTPConnection, Response))
    return of_request or parameter.name in ("self", "request", "req")


def _may_name_others(parameter: inspect.Parameter) -> bool:
    """A dependency of FastAPI takes path parameters of its own; so may what cannot be read (yet)."""
    if parameter.kind is parameter.VAR_KEYWORD or isinstance(parameter.annotation, str):
        return True
    marks = (parameter.default, *getattr(parameter.annotation, "__metadata__", ()))
    return any(type(mark).__name__ in DEPENDENCIES for mark in marks)
