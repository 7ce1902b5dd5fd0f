"""The verbs of a mutex and of a semaphore, for async and for blocking code."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from sync_kit.errors import LockError
from sync_kit.kit import SyncKit, default_kit
from sync_kit.mutex.decorator import Conflict, Same, Skipping, decorator
from sync_kit.mutex.grant import Grant
from sync_kit.mutex.guard import BlockingGuard, Guard
from sync_kit.mutex.holder import Holder, break_flow, look_flow
from sync_kit.mutex.lease import LEAST_TTL, BlockingLease, Lease
from sync_kit.mutex.nesting import refuse_nested
from sync_kit.mutex.site import Site
from sync_kit.mutex.taking import take, take_blocking
from sync_kit.options import Seconds, label, seconds, whole

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sync_kit._io.flow import Flow

R = TypeVar("R")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Verbs(ABC):
    """What a mutex and a semaphore have in common: everything but how many may hold a resource."""

    def __init__(self, kind: str, name: str, permits: int, ttl: Seconds, wait: Seconds, kit: SyncKit | None) -> None:
        self.name = label("the name of a mutex or semaphore", name)
        self.ttl = seconds("ttl", ttl, least=LEAST_TTL)
        self.wait = seconds("wait", wait)
        self._kind = kind
        self._permits = permits
        self._kit = kit
        self._last: Site | None = None

    @property
    @abstractmethod
    def blocking(self) -> BlockingVerbs:
        """The same verbs for code without an event loop."""

    @property
    def kit(self) -> SyncKit:
        """The kit that the leases live on."""
        return self._kit or default_kit()

    def lock(self, resource: str, *, ttl: Seconds | None = None, wait: Seconds | None = None) -> Guard:
        """An `async with` block that holds the lease on `resource`; gives the `Lease`.

        Raises:
            LockError: still busy after `wait` seconds.
            LockLostError: at the end, when the lease was lost; the block was cancelled then.
            Unavailable: Redis cannot be reached.
        """
        return Guard(self._grant(resource, ttl), self._waiting(wait))

    async def with_lock(
        self,
        resource: str,
        work: Callable[[], Awaitable[R]] | Callable[[Lease], Awaitable[R]],
        *,
        ttl: Seconds | None = None,
        wait: Seconds | None = None,
    ) -> R | None:
        """Run `work` while holding `resource`, and return its result; None when still busy after `wait` seconds.

        `work` may take the lease as its parameter. Raises what `lock` raises; a `LockError` only for a resource that
        this very task holds already. What `work` raises, it raises.
        """
        guard = self.lock(resource, ttl=ttl, wait=wait)
        try:
            async with guard as lease:
                return cast("R", await _apply(work, lease))
        except LockError as error:
            if error is not guard.busy:
                raise
            return None

    async def with_lock_or_raise(
        self,
        resource: str,
        work: Callable[[], Awaitable[R]] | Callable[[Lease], Awaitable[R]],
        *,
        ttl: Seconds | None = None,
        wait: Seconds | None = None,
    ) -> R:
        """Like `with_lock`, but raises `LockError` when busy."""
        async with self.lock(resource, ttl=ttl, wait=wait) as lease:
            return cast("R", await _apply(work, lease))

    async def acquire(
        self, resource: str, *, ttl: Seconds | None = None, wait: Seconds | None = None, renew: bool = False
    ) -> Lease | None:
        """Become a holder of `resource`; None when still busy after `wait` seconds.

        The lease ends after `ttl` seconds, so that a forgotten one ends, unless `renew` is true.

        Raises:
            LockError: this task would wait for a guarded block of its own.
            Unavailable: Redis cannot be reached.
        """
        grant, waiting = self._asked(resource, ttl, wait)
        lease = await take(grant, waiting, renew=renew)
        return None if isinstance(lease, LockError) else lease

    async def holder(self, resource: str) -> Holder | None:
        """Who holds `resource`; None when it is free. Of several holders the one that came first.

        Raises:
            Unavailable: Redis cannot be reached.
        """
        return next(iter(await self.holders(resource)), None)

    async def holders(self, resource: str) -> tuple[Holder, ...]:
        """Everybody who holds `resource`, in the order in which they came. Raises what `holder` does."""
        return await self.kit.driver.run(look_flow(self._site(), label("a resource", resource)))

    async def break_lock(self, resource: str, *, fence: int | None = None) -> bool:
        """Take `resource` from whoever holds it, or only from the lease with this `fence`; the next in line is called.

        Its holder learns of it when the lease is renewed, within a third of its ttl: until then two may believe
        that they hold it, and only a checked fence keeps them apart. Logged as a warning.

        Returns:
            Whether anybody held it.

        Raises:
            Unavailable: Redis cannot be reached.
        """
        return await self.kit.driver.run(self._breaking(resource, fence))

    @overload
    def exclusive(
        self,
        resource: str,
        *,
        on_conflict: Literal["raise", "wait"] = "raise",
        ttl: Seconds | None = None,
        wait: Seconds | None = None,
    ) -> Same: ...
    @overload
    def exclusive(
        self, resource: str, *, on_conflict: Literal["skip"], ttl: Seconds | None = None, wait: Seconds | None = None
    ) -> Skipping: ...
    def exclusive(
        self,
        resource: str,
        *,
        on_conflict: Conflict = "raise",
        ttl: Seconds | None = None,
        wait: Seconds | None = None,
    ) -> Same | Skipping:
        """Decorate a function, async or not: it runs while holding `resource`, as in `@mutex.exclusive("report:<id>")`.

        Args:
            resource: what to hold; `<id>` is the value of the function's parameter `id` in each call.
            on_conflict: when it is busy: `raise` a `LockError`, `skip` the call and return None, or `wait` for it
                (as long as the mutex waits) and then raise.
            ttl: seconds that a lease lives without renewal.
            wait: seconds to wait before any of these.

        Raises:
            ConfigurationError: when applied, if the function has no parameter of that name, or is a generator; at
                the call, if a value has no text of its own.
        """
        return decorator(self, resource, on_conflict, ttl, wait)

    def _grant(self, resource: str, ttl: Seconds | None) -> Grant:
        life = self.ttl if ttl is None else seconds("ttl", ttl, least=LEAST_TTL)
        return Grant(self._site(), label("a resource", resource), life)

    def _site(self) -> Site:
        kit, site = self.kit, self._last
        if site is None or site.kit is not kit:  # the default kit may change
            site = self._last = Site(kit, self._kind, self.name, self._permits)
        return site

    def _waiting(self, wait: Seconds | None) -> float:
        return self.wait if wait is None else seconds("wait", wait)

    def _asked(self, resource: str, ttl: Seconds | None, wait: Seconds | None) -> tuple[Grant, float]:
        grant, waiting = self._grant(resource, ttl), self._waiting(wait)
        if waiting > 0:
            refuse_nested(grant)
        return grant, waiting

    def _breaking(self, resource: str, fence: int | None) -> Flow[bool]:
        number = None if fence is None else whole("fence", fence, least=1, most=2**53)
        return break_flow(self._site(), label("a resource", resource), number)


class BlockingVerbs:
    """The same verbs without await.

    A lost lease cannot interrupt blocking code: look at `lease.lost`; the end of the block raises.
    """

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs

    def lock(self, resource: str, *, ttl: Seconds | None = None, wait: Seconds | None = None) -> BlockingGuard:
        """See `Mutex.lock`."""
        return BlockingGuard(self._verbs._grant(resource, ttl), self._verbs._waiting(wait))

    def with_lock(
        self,
        resource: str,
        work: Callable[[], R] | Callable[[BlockingLease], R],
        *,
        ttl: Seconds | None = None,
        wait: Seconds | None = None,
    ) -> R | None:
        """See `Mutex.with_lock`."""
        guard = self.lock(resource, ttl=ttl, wait=wait)
        try:
            with guard as lease:
                return cast("R", _apply(work, lease))
        except LockError as error:
            if error is not guard.busy:
                raise
            return None

    def with_lock_or_raise(
        self,
        resource: str,
        work: Callable[[], R] | Callable[[BlockingLease], R],
        *,
        ttl: Seconds | None = None,
        wait: Seconds | None = None,
    ) -> R:
        """See `Mutex.with_lock_or_raise`."""
        with self.lock(resource, ttl=ttl, wait=wait) as lease:
            return cast("R", _apply(work, lease))

    def acquire(
        self, resource: str, *, ttl: Seconds | None = None, wait: Seconds | None = None, renew: bool = False
    ) -> BlockingLease | None:
        """See `Mutex.acquire`."""
        grant, waiting = self._verbs._asked(resource, ttl, wait)
        lease = take_blocking(grant, waiting, renew=renew, verb="mutex.acquire(...)")
        return None if isinstance(lease, LockError) else lease

    def holder(self, resource: str) -> Holder | None:
        """See `Mutex.holder`."""
        return next(iter(self.holders(resource)), None)

    def holders(self, resource: str) -> tuple[Holder, ...]:
        """See `Mutex.holders`."""
        verbs = self._verbs
        return verbs.kit.run_blocking(look_flow(verbs._site(), label("a resource", resource)), "mutex.holders(...)")

    def break_lock(self, resource: str, *, fence: int | None = None) -> bool:
        """See `Mutex.break_lock`."""
        verbs = self._verbs
        return verbs.kit.run_blocking(verbs._breaking(resource, fence), "mutex.break_lock(...)")


def _apply(work: Callable[..., Any], lease: Lease | BlockingLease) -> Any:
    """Call `work`, with the lease if it has a parameter that must be given."""
    must = [p for p in inspect.signature(work).parameters.values() if p.default is p.empty and p.kind in _POSITIONAL]
    return work(lease) if must else work()
