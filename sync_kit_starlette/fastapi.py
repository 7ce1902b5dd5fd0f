"""sync_kit as FastAPI dependencies: limits, leases and tasks that a handler, a router or an app depends on.

Annotations are not postponed here: FastAPI reads those of objects that are called.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Response
from starlette.requests import HTTPConnection
from typing_extensions import Unpack

from sync_kit import (
    ConfigurationError,
    Decision,
    LockError,
    LockLostError,
    RateLimiter,
    SyncKit,
    Task,
    Unavailable,
)
from sync_kit.jobs import Sender
from sync_kit.kit import default_kit
from sync_kit.mutex import Lease
from sync_kit.options import refuse_unknown
from sync_kit.ratelimit import Rule
from sync_kit.ratelimit.headers import PROBLEM_TYPE
from sync_kit_starlette._answers import refuse
from sync_kit_starlette._charges import charges_of
from sync_kit_starlette._endpoints import name_of
from sync_kit_starlette._limit import Limit, LimitOptions, lasting
from sync_kit_starlette._values import MissingValue
from sync_kit_starlette.mutex import OPTIONS, Section, is_own

__all__ = ["Exclusive", "KitDep", "RateLimit", "Sends", "problems"]

KitDep = Annotated[SyncKit, Depends(default_kit)]
"""The default kit, as a parameter: `async def handler(kit: KitDep)`. Tests override `default_kit`."""


class RateLimit:
    """A limit as a dependency: `Depends(RateLimit("10/minute"))` on a handler, a router or an app.

    Without a name, each handler that depends on it has a budget of its own, the one that `@rate_limited` gives it: a
    router of three handlers with `RateLimit("10/minute")` admits ten of each. With `name=` they share one.
    The same limit met twice by a request, here and in a decorator or middleware, charges it once. A refused request is
    answered like one of `@rate_limited`, and no handler runs; what other dependencies took is given back.

    Responses that FastAPI makes carry `RateLimit-Policy` and `RateLimit`; one that the handler returns itself does
    where the middleware is around.

    Args:
        rules (positional): texts such as `"5/minute"` or `Rule` values, decided together, or one `RateLimiter`;
        options: see `LimitOptions`.

    Returns:
        The `Decision`, for handlers that take it: `Annotated[Decision, Depends(RateLimit("10/minute"))]`.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(self, *rules: str | Rule | RateLimiter, **options: Unpack[LimitOptions]) -> None:
        self._rules = rules
        self._options = lasting(options)
        self._limits: dict[str, Limit] = {}
        self._limit("not known yet")  # wrong options are refused where they are written
        self._limits.clear()

    async def __call__(self, connection: HTTPConnection, response: Response) -> Decision:
        """Charge a request. FastAPI calls it."""
        charges = charges_of(connection.scope)
        charge = await self._limit(name_of(_endpoint(connection))).charge(connection, charges)
        if charge.decision.limited:
            raise end(connection, await refuse(connection, *charges.refusal(charge)))
        charges.write(response.headers)
        return charge.decision

    def _limit(self, name: str) -> Limit:
        limit = self._limits.get(name)
        if limit is None:
            limit = self._limits[name] = Limit("RateLimit", self._rules, self._options, name=name)
        return limit


class Exclusive:
    """A lease as a dependency: `Annotated[Lease, Depends(Exclusive("report:<id>"))]`; takes what `exclusive` takes.

    It is held from before the handler runs until the response has been sent, streamed bodies and background tasks
    included (FastAPI before 0.118: until the handler has returned). A busy resource is answered as by `@exclusive`,
    and no handler runs; when the lease is lost the handler is cancelled and answered with 503, or the connection is cut
    if the response has begun. Streams are better off below `@exclusive`, which sees them end.

    Returns:
        The `Lease`, for its `fence`.

    Raises:
        ConfigurationError: an argument is wrong; at the first request, when the route has no such path parameter.
    """

    def __init__(self, resource: str, **options: Any) -> None:
        refuse_unknown("Exclusive", {name: options[name] for name in options if name not in OPTIONS}, OPTIONS)
        self._section = Section(resource, **options)

    async def __call__(self, connection: HTTPConnection) -> AsyncIterator[Lease]:
        """Hold the lease. FastAPI calls it."""
        guard = None
        try:
            guard = await self._section.guard(connection)
            async with guard as lease:
                yield lease
        except (MissingValue, LockError, LockLostError, Unavailable) as error:
            if not is_own(error, guard):
                raise
            raise end(connection, await self._section.refusal(connection, error)) from error


class Sends:
    """A task as a dependency, so that tests can put another one in its place.

    `Mailer = Annotated[Sender[..., Email], Depends(Sends(send_email, retries=3))]`, then in a handler that takes
    `mailer: Mailer`: `await mailer.send(to=...)`. Options are those of `task.using(...)`.

    Raises:
        ConfigurationError: an option is wrong.
    """

    def __init__(self, task: Task[..., Any], **using: Any) -> None:
        self._sender: Sender[..., Any] = task.using(**using) if using else task

    async def __call__(self) -> Sender[..., Any]:
        """The task, with its options. FastAPI calls it."""
        return self._sender


class _Answered(int):
    """A status that no table of handlers knows, though it equals any other: the app would answer a second time."""

    def __hash__(self) -> int:
        return hash((_Answered, int(self)))

    __eq__ = int.__eq__


class Ended(HTTPException):
    """Ends a request whose dependency has decided on the response.

    Dependencies with `yield` see it pass like any `HTTPException`, which is no fault of the handler.
    """

    def __init__(self, response: Response | None) -> None:
        super().__init__(_Answered(response.status_code if response else 403), "answered by sync_kit")
        self.response = response


def end(connection: HTTPConnection, response: Response | None) -> Ended:
    """What a dependency raises so that `response` is sent; None if the handshake of a WebSocket has been answered.

    A dependency cannot return a response, hence the exception; who answers it is put into the table of handlers that
    Starlette keeps for the app.
    """
    handlers, _ = connection.scope["starlette.exception_handlers"]
    handlers.setdefault(Ended, _response_of)
    return Ended(response)


async def _response_of(_: HTTPConnection, ended: Ended) -> Response | None:
    return ended.response


def _endpoint(connection: HTTPConnection) -> Any:
    endpoint = connection.scope.get("endpoint")
    if endpoint is None:
        raise ConfigurationError(
            "RateLimit is a dependency of FastAPI's handlers, routers and apps: no handler is known"
        )
    return endpoint


_TITLES = {
    400: "A value that names what is locked is missing",
    401: "Nobody is signed in",
    409: "Somebody else is doing this right now",
    429: "A rate limit is reached",
    503: "A lock was waited for in vain or lost, or Redis cannot be reached",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}}
_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["title", "status", "detail"],
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route: what sync_kit may answer, so that it is seen in OpenAPI.

    Args:
        statuses: some of 400, 401, 409, 429 and 503; 429 if none are given.

    Raises:
        ConfigurationError: another one.
    """
    made: dict[int | str, dict[str, Any]] = {}
    for status in statuses or (429,):
        if status not in _TITLES:
            raise ConfigurationError(f"problems takes {', '.join(map(str, _TITLES))}, not {status!r}")
        headers = _RETRY_AFTER if status in (409, 429, 503) else {}
        made[status] = {
            "description": _TITLES[status],
            "content": {PROBLEM_TYPE: {"schema": _PROBLEM}},
            "headers": headers,
        }
    return made
