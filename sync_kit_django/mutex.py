"""Exclusive views, commands and functions."""

from __future__ import annotations

import inspect
import logging
import time
from typing import TYPE_CHECKING, Any, Literal, cast

from django.http import HttpResponse

from sync_kit import ConfigurationError, LockError, LockLostError, Mutex, Unavailable
from sync_kit.options import choice, refuse_unknown
from sync_kit_django import conf
from sync_kit_django._answers import problem, refuse
from sync_kit_django._functions import function_of
from sync_kit_django._steps import Do, run
from sync_kit_django._streams import hold
from sync_kit_django._transactions import LEASE, inside_of_lock
from sync_kit_django._values import MissingValue, RequestTemplate
from sync_kit_django._views import View, around, base_of, check_parameters, remember

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Never

    from sync_kit import SyncKit
    from sync_kit.mutex import BlockingLease, Lease
    from sync_kit.mutex.guard import BlockingGuard, Guard
    from sync_kit.options import Seconds
    from sync_kit_django._steps import Steps
    from sync_kit_django._values import UserOf
    from sync_kit_django._views import Visit

    Conflict = Literal["refuse", "wait", "skip"]
    Own = MissingValue | LockError | LockLostError | Unavailable

log = logging.getLogger("sync_kit")

OPTIONS = ("on_conflict", "ttl", "wait", "user", "name", "kit")
WAIT = 10.0
OUTAGE = 10.0
"""Seconds between two refusals for want of Redis that are taken for one outage, and logged once."""
CHALLENGE = "Bearer"
"""A 401 must name a scheme (RFC 9110, section 15.5.2); browsers ask for no password because of this one."""

_HELD = "Somebody else is doing this right now."
BUSY = {"refuse": problem(409, "Conflict", _HELD), "wait": problem(503, "Service Unavailable", _HELD), "skip": None}
"""What a busy resource is answered with."""
AWAY = problem(503, "Service Unavailable", "Whether somebody else is doing this cannot be found out right now.")
LOST = problem(503, "Service Unavailable", "The lock was lost while this was being done.")


def exclusive(
    resource: str,
    *,
    on_conflict: Conflict = "refuse",
    ttl: Seconds | None = None,
    wait: Seconds | None = None,
    user: UserOf | None = None,
    name: str = "exclusive",
    kit: SyncKit | None = None,
    **unknown: Never,
) -> Callable[[View], View]:
    """Run a view for one request at a time, on all processes together: `@exclusive("report:<id>")`.

    The lease lasts until the last byte of the response, and until a transaction of `ATOMIC_REQUESTS` has ended. When
    it is lost, an async view is cancelled, and what a sync one returns is replaced: the answer is 503, or the
    connection is cut if the response has begun.

    What is called without a request is a function, or the `handle` of a command: `<id>` is its parameter or option.
    Busy, it raises `LockError`, a command `CommandError`; with `on_conflict="skip"` it does nothing and returns None.

    Args:
        resource: what only one may hold; `<id>` is a value of the URL, `<query.page>` and `<header.x-tenant>` are what
            they say, `<user>` is who is signed in.
        on_conflict: what a busy resource is answered with: `"refuse"`: 409 with `Retry-After`; `"wait"`: waits first,
            then 503 with `Retry-After`; `"skip"`: 204, as if it were done.
        ttl: seconds that the lease lives without renewal (it renews itself); `SYNC_KIT["MUTEX"]["TTL"]` (10) if not
            given.
        wait: seconds to wait for a busy resource; 10 for `"wait"` and 0 for the others if not given.
        user: a function of the request that returns who is signed in, or None; may be async. `request.user` if not
            given.
        name: the name of the mutex that the resource belongs to.
        kit: where the lease lives; the default kit if not given.

    Raises:
        ConfigurationError: when it is applied, if an argument is wrong, or if the view or function names its parameters
            and a placeholder is not among them; else at the first request.
    """
    refuse_unknown("exclusive", unknown, OPTIONS)
    section = Section(resource, on_conflict=on_conflict, ttl=ttl, wait=wait, user=user, name=name, kit=kit)

    def decorate(view: View) -> View:
        check_parameters(view, section.template)
        function = None if isinstance(view, type) else function_of(view, section)
        decorated = around(view, section.step, "@exclusive", otherwise=function, inside=inside_of_lock)
        remember(decorated, view, section.template)
        return cast("View", decorated)

    return decorate


def lease_of(request: Any) -> Lease | BlockingLease:
    """The lease of the innermost `@exclusive` that `request` is in: for its `fence`.

    Raises:
        ConfigurationError: it is in none.
    """
    lease = getattr(base_of(request), LEASE, None)
    if lease is None:
        raise ConfigurationError(f"{request.path} has no lease: put @exclusive(...) on its view")
    return cast("Lease | BlockingLease", lease)


class Section:
    """What only one at a time may do; takes what `exclusive` takes.

    Attributes:
        template: makes the resource of a request.
        skips: whether a busy resource is no error.
    """

    def __init__(
        self,
        resource: str,
        *,
        on_conflict: Conflict,
        ttl: Seconds | None,
        wait: Seconds | None,
        user: UserOf | None,
        name: str,
        kit: SyncKit | None,
    ) -> None:
        self._busy = BUSY[choice("on_conflict", on_conflict, tuple(BUSY))]
        self.skips = on_conflict == "skip"
        patience: Seconds = WAIT if on_conflict == "wait" else 0.0
        given: dict[str, Any] = {} if ttl is None else {"ttl": ttl}
        self.template = RequestTemplate(resource, user)
        self._ttl = ttl
        self._mutex = Mutex(name, wait=patience if wait is None else wait, kit=kit, **given)
        self._refused_at = float("-inf")

    def lock(self, resource: str) -> BlockingGuard:
        """A `with` block that holds `resource`."""
        return self._mutex.blocking.lock(resource, ttl=self._life())

    def lock_async(self, resource: str) -> Guard:
        """An `async with` block that holds `resource`."""
        return self._mutex.lock(resource, ttl=self._life())

    def _life(self) -> Seconds:
        return conf.current().mutex.ttl if self._ttl is None else self._ttl

    def step(self, visit: Visit) -> Steps[Any]:
        """Run a view inside the section, or refuse."""
        guard: Any = None
        try:
            resource = yield from self.template.fill(visit.request, visit.values)
            guard = yield Do(lambda: self.lock(resource), lambda: self.lock_async(resource))
            response = yield Do(lambda: self._inside(guard, visit), lambda: self._inside_async(guard, visit))
        except (MissingValue, LockError, LockLostError, Unavailable) as error:
            if not (is_own(error, guard) or _is_held_around(error, guard, visit.request)):
                raise
            return (yield from self.refusal(visit.request, error))
        self._refused_at = float("-inf")
        return response

    def _inside(self, guard: BlockingGuard, visit: Visit) -> Any:
        request = base_of(visit.request)
        with guard as lease:
            setattr(request, LEASE, lease)
            response = visit.call.plain()
            return hold(request, response, guard, lambda loss: run(self.refusal(visit.request, loss)))

    async def _inside_async(self, guard: Guard, visit: Visit) -> Any:
        request = base_of(visit.request)
        async with guard as lease:
            setattr(request, LEASE, lease)
            response = visit.call.later()
            response = await response if inspect.isawaitable(response) else response
            return hold(request, response, guard, lambda loss: run(self.refusal(visit.request, loss)))

    def refusal(self, request: Any, error: Own) -> Steps[Any]:
        """The answer to what kept a view from being run."""
        if isinstance(error, MissingValue):
            return (yield from _refuse_missing(request, error))
        if isinstance(error, LockLostError):
            log.warning("a request was answered with 503: %s", error)
            return (yield from refuse(request, error, LOST))
        if isinstance(error, LockError):
            if self._busy is None:
                return HttpResponse(status=204)
            return (yield from refuse(request, error, self._busy, error.expires_in))
        last, self._refused_at = self._refused_at, time.monotonic()
        if self._refused_at - last > OUTAGE:
            log.warning("requests that need %r are answered with 503: %s", self.template.keys.text, error)
        return (yield from refuse(request, error, AWAY))


def is_own(error: Exception, guard: Any) -> bool:
    """Whether an error is the section's, and not the view's own; without a `guard` it came before there was one."""
    if guard is None:
        return isinstance(error, MissingValue)
    return any(error is own for own in (guard.busy, guard.away, guard.loss))


def _is_held_around(error: Exception, guard: Any, request: Any) -> bool:
    """Whether who called the view has the lock itself, as a test may that uses Django's client in its own thread.

    A request that has it already would be refused each time: that is a mistake, which is raised.
    """
    return guard is not None and error is guard.nested and not hasattr(base_of(request), LEASE)


def _refuse_missing(request: Any, error: MissingValue) -> Steps[Any]:
    source, _, name = error.placeholder.partition(".")
    if not name:
        body = problem(401, "Unauthorized", "Nobody is signed in.")
        return (yield from refuse(request, error, body, WWW_Authenticate=CHALLENGE))
    what = {"header": "header", "query": "query parameter", "path": "value of the URL"}[source]
    return (yield from refuse(request, error, problem(400, "Bad Request", f"The {what} {name!r} is missing.")))
