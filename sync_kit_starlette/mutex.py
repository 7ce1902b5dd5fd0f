"""Exclusive handlers for Starlette and FastAPI."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from sync_kit import LockError, LockLostError, Mutex
from sync_kit.mutex import KeyTemplate
from sync_kit.options import refuse_unknown
from sync_kit_starlette._answers import problem
from sync_kit_starlette._endpoints import Handler, Visit, around

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Never

    from sync_kit import SyncKit
    from sync_kit.options import Seconds

OPTIONS = ("ttl", "wait", "name", "kit")


def exclusive(
    resource: str,
    *,
    ttl: Seconds = 10.0,
    wait: Seconds = 0.0,
    name: str = "exclusive",
    kit: SyncKit | None = None,
    **unknown: Never,
) -> Callable[[Handler], Handler]:
    """Run a handler for one request at a time, on all processes together: `@exclusive("report:<id>")`.

    `<id>` is a path parameter. A busy resource is answered with 409 and `Retry-After`; a lease that is
    lost cancels the handler and is answered with 503. The lease lasts until the handler has returned its
    response; a streamed body is sent after that.

    Args:
        resource: what only one may hold; placeholders are filled from the path.
        ttl: seconds that the lease lives without renewal (it renews itself).
        wait: seconds to wait for a busy resource.
        name: the name of the mutex that the resource belongs to.
        kit: where the lease lives; the default kit if not given.

    Raises:
        ConfigurationError: when it is applied, if an argument is wrong, or if the handler names its path
            parameters (FastAPI) and a placeholder is not among them; else at the first request.
    """
    refuse_unknown("exclusive", unknown, OPTIONS)
    template = KeyTemplate(resource)
    mutex = Mutex(name, ttl=ttl, wait=wait, kit=kit)

    def decorate(handler: Handler) -> Handler:
        _refuse_unknown_placeholders(template, handler)

        async def step(visit: Visit) -> Any:
            guard = mutex.lock(template.fill(visit.connection.path_params))
            try:
                async with guard:
                    response = await visit.call()
            except (LockError, LockLostError) as error:
                if isinstance(error, LockError) and error is guard.busy:
                    return problem(409, "Conflict", "Somebody else is doing this right now.", error.expires_in)
                if error is guard.loss:
                    return problem(503, "Service Unavailable", "The lock was lost while this was being done.")
                raise  # the handler's own
            return response

        return cast("Handler", around(handler, step, "@exclusive"))

    return decorate


def _refuse_unknown_placeholders(template: KeyTemplate, handler: Callable[..., Any]) -> None:
    """Handlers that only take the request may have any path; those that name values must name these."""
    parameters = inspect.signature(handler).parameters
    named = [name for name in parameters if name not in ("self", "request", "req")]
    if named and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        template.require(named)
