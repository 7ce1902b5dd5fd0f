"""The facade of exclusive sections."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sync_kit.errors import LockError
from sync_kit.kit import SyncKit, default_kit
from sync_kit.mutex.grant import Grant
from sync_kit.mutex.guard import BlockingGuard, Guard, take, take_blocking
from sync_kit.mutex.lease import LEAST_TTL, BlockingLease, Lease
from sync_kit.options import Seconds, label, refuse_unknown, seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from typing_extensions import Never

R = TypeVar("R")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Mutex:
    """At most one live lease for each resource, among all processes that use this name on one Redis primary.

    The lease of a guarded block renews itself; when it is lost, the block is cancelled and
    `LockLostError` is raised. Every lease carries a fencing token that only grows. What this promises
    and what it cannot: `sync_kit/mutex/README.md`.

    Args:
        name: resources belong to it.
        ttl: seconds that a lease lives without renewal: how long a resource stays blocked after a crash.
        wait: seconds to wait for a busy resource unless a call says otherwise.
        kit: where the leases live; the default kit if not given.

    Raises:
        ConfigurationError: an argument is wrong; the message says how to fix it.
    """

    def __init__(
        self, name: str, *, ttl: Seconds = 10.0, wait: Seconds = 2.0, kit: SyncKit | None = None, **unknown: Never
    ) -> None:
        refuse_unknown("Mutex", unknown, ("ttl", "wait", "kit"))
        self.name = label("the name of a mutex", name)
        self.ttl = seconds("ttl", ttl, least=LEAST_TTL)
        self.wait = seconds("wait", wait)
        self._kit = kit

    def __repr__(self) -> str:
        return f"<Mutex {self.name!r} ttl={self.ttl:g}>"

    @property
    def kit(self) -> SyncKit:
        """The kit this mutex lives on."""
        return self._kit or default_kit()

    @property
    def blocking(self) -> BlockingMutex:
        """The same mutex for code without an event loop."""
        return BlockingMutex(self)

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

        `work` may take the lease as its parameter. Raises what `lock` raises, but for `LockError`.
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
        """Become the holder of `resource`; None when still busy after `wait` seconds.

        The lease ends after `ttl` seconds, so that a forgotten one ends, unless `renew` is true.

        Raises:
            Unavailable: Redis cannot be reached.
        """
        lease = await take(self._grant(resource, ttl), self._waiting(wait), renew=renew)
        return None if isinstance(lease, LockError) else lease

    def _grant(self, resource: str, ttl: Seconds | None) -> Grant:
        life = self.ttl if ttl is None else seconds("ttl", ttl, least=LEAST_TTL)
        return Grant(self.kit, self.name, label("a resource", resource), life)

    def _waiting(self, wait: Seconds | None) -> float:
        return self.wait if wait is None else seconds("wait", wait)


class BlockingMutex:
    """The blocking twin of a `Mutex`: the same verbs, without await.

    A lost lease cannot interrupt blocking code: look at `lease.lost`; the end of the block raises.
    """

    def __init__(self, mutex: Mutex) -> None:
        self._mutex = mutex

    def lock(self, resource: str, *, ttl: Seconds | None = None, wait: Seconds | None = None) -> BlockingGuard:
        """See `Mutex.lock`."""
        return BlockingGuard(self._mutex._grant(resource, ttl), self._mutex._waiting(wait))

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
        grant = self._mutex._grant(resource, ttl)
        lease = take_blocking(grant, self._mutex._waiting(wait), renew=renew)
        return None if isinstance(lease, LockError) else lease


def _apply(work: Callable[..., Any], lease: Lease | BlockingLease) -> Any:
    """Call `work`, with the lease if it has a parameter that must be given."""
    must = [p for p in inspect.signature(work).parameters.values() if p.default is p.empty and p.kind in _POSITIONAL]
    return work(lease) if must else work()
