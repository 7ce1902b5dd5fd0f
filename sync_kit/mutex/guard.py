"""Guarded blocks: the `with` around work that needs a lease."""

from __future__ import annotations

import math
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from sync_kit.errors import ConfigurationError, LockError, LockLostError, SyncKitError, Unavailable
from sync_kit.mutex.grant import Grant, release_flow
from sync_kit.mutex.lease import BlockingLease, Lease, give_back, lost_at_the_end, not_released
from sync_kit.mutex.nesting import enter, leave, refuse_nested
from sync_kit.mutex.taking import give_back_blocking, take, take_blocking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

R = TypeVar("R")


class _Guard:
    _lease: Any
    _keeper: weakref.finalize[..., Any] | None = None

    def __init__(self, grant: Grant, wait: float) -> None:
        self._grant = grant
        self._wait = wait
        self.used = False
        self.busy: LockError | None = None
        self.nested: LockError | None = None
        self.loss: LockLostError | None = None
        self.away: Unavailable | None = None

    def keep(self, owner: object) -> None:
        """Let the lease outlive this block: it is renewed until `end`, or until `owner` is thrown away.

        A block that ends with an error or a loss keeps nothing.
        """
        self._grant.task = None  # whose result may be the owner, which nothing must hold then
        self._keeper = weakref.finalize(owner, _throw_away, self._lease)
        self._keeper.atexit = False

    def require(self) -> None:
        """Raise `LockLostError` if the lease is known to be over and was not released. Asks nobody."""
        if not self._over() and self._grant.expires_in == 0.0:
            self._grant.lose("it expired")
        if self._lease.lost:
            raise self._lost()

    def end_here(self) -> LockLostError | None:
        """End what was kept, in sync code of any thread, and wait for that. Returns what `Guard.end` does."""
        return self._lost() if self._release_here() else None

    def _release_here(self) -> bool:
        if self._over():
            return bool(self._lease.lost)
        left = self._lease.expires_in
        try:  # whatever thread this is: who has entered the block is let out of it
            held = self._lease._end() and self._grant.site.kit.thread_driver.run(release_flow(self._grant))
            return lost_at_the_end(self._lease, held)
        except SyncKitError as error:
            return not not_released(self._lease, left, error)

    def _is_kept(self, error: BaseException | None) -> bool:
        """Whether the block that ends now leaves its lease to whoever keeps it."""
        if self._keeper is None or (error is None and not self._lease.lost):
            return self._keeper is not None
        self._keeper.detach()
        return False

    def _use(self) -> None:
        """One grant is one token: whoever came in with it a second time would share the lease with the first."""
        self._refuse_again()
        try:
            refuse_nested(self._grant)
        except LockError as error:
            self.nested = error
            raise
        self.used = True

    def _refuse_again(self) -> None:
        if self.used:
            raise ConfigurationError(
                f"lock({self._grant.resource!r}) is for one `with` block: call lock(...) again for the next one"
            )

    def _refused(self, busy: LockError) -> LockError:
        self.busy = busy
        return busy

    def _over(self) -> bool:
        """Whether there is nothing to release: it was released by hand, or the block was entered before a fork."""
        return self._grant.ended or self._grant.process != os.getpid()

    def _lost(self) -> LockLostError:
        self.loss = self._grant.loss()
        return self.loss


class Guard(_Guard):
    """`async with mutex.lock(...)`: holds the lease, and cancels the block when it is lost.

    Attributes:
        used: whether it was entered; it can be once.
        busy, away, loss: the `LockError`, `Unavailable` or `LockLostError` that it raised itself; None if it did not.
        nested: the `LockError` that it raised for a resource which this very task holds.
    """

    _lease: Lease
    _heir: Callable[[], _Rest | None] = staticmethod(lambda: None)

    async def __aenter__(self) -> Lease:
        self._use()
        try:
            self._lease = lease = await self._take()
        except Unavailable as error:
            self.away = error
            raise
        enter(self._grant)
        self._scope = scope = anyio.CancelScope()
        scope.__enter__()
        self._watch(scope)
        return lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._grant.when_lost = None
        left = error
        try:
            ours = self._scope.__exit__(kind, error, trace)  # true only for the cancellation of a loss
        except BaseException as rest:  # a group, without that cancellation; or the wrong task leaves the block
            ours, left = False, rest
        if self._is_kept(left):
            return
        heir = self._heir()
        if heir is not None and left is None and not self._lease.lost:
            heir.inherit()
            return
        lost = await self._release()
        leave()
        if lost and (left is None or ours or isinstance(left, Exception)):
            raise self._lost() from (left if isinstance(left, Exception) else None)
        if left is not None and left is not error:
            raise left

    def _watch(self, scope: anyio.CancelScope) -> None:
        """Cancel `scope` when the lease is lost."""
        loop = self._grant.loop
        self._grant.when_lost = lambda: loop.call_soon(scope.cancel) if loop else None
        if self._lease.lost:
            scope.cancel()

    def hand_over(self) -> Guard:
        """Let the lease outlive this block: returns a guard for the rest of the work, to be entered after it.

        A block that ends with an error or a loss hands nothing over. The lease is renewed meanwhile, and released
        when the new guard is thrown away unused; where something keeps that, as errors keep what was around them,
        it is renewed for a minute at most.
        """
        rest = _Rest(self._grant, self._lease)
        self._heir = weakref.ref(rest)
        return rest

    async def end(self) -> LockLostError | None:
        """Release before the block ends, which nothing cancels from then on, or what was kept.

        Returns:
            The loss if the lease was lost, which is raised when the block ends.
        """
        return self._lost() if await self._release() else None

    async def during(self, work: Callable[[], Awaitable[R]]) -> R:
        """Await `work()`, a part of what the lease is kept for; cancelled when the lease is lost, which it raises."""
        self.require()
        with anyio.CancelScope() as scope:
            self._watch(scope)
            try:
                return await work()
            finally:
                self._grant.when_lost = None
        raise self._lost()

    def end_soon(self, first: Callable[[], Awaitable[object]] | None = None) -> None:
        """End what was kept, from any thread, without waiting for it.

        Args:
            first: what is awaited before; it must not raise.
        """
        loop = self._grant.loop
        if loop is None or loop.ended:
            if self._lease._end():
                give_back_blocking(self._grant)
            return

        async def finish() -> None:
            if first is not None:
                await first()
            await self.end()

        loop.call_soon(lambda: loop.spawn(finish))

    async def _take(self) -> Lease:
        lease = await take(self._grant, self._wait, renew=True)
        if isinstance(lease, LockError):
            raise self._refused(lease)
        return lease

    async def _release(self) -> bool:
        if self._over():
            return self._lease.lost
        left = self._lease.expires_in
        try:
            return lost_at_the_end(self._lease, await self._lease.release())
        except SyncKitError as error:
            return not not_released(self._lease, left, error)


class _Rest(Guard):
    """What follows a block that handed its lease over."""

    _thrown_away: weakref.finalize[..., _Rest] | None = None

    def __init__(self, grant: Grant, lease: Lease) -> None:
        super().__init__(grant, 0.0)
        self._lease = lease

    def inherit(self) -> None:
        """The lease is this guard's now: it ends when nobody can enter it any more."""
        self._grant.handed_over = time.monotonic()
        self._thrown_away = weakref.finalize(self, _throw_away, self._lease)
        self._thrown_away.atexit = False

    def _use(self) -> None:
        self._refuse_again()
        self.used = True
        self._grant.handed_over = math.inf
        if self._thrown_away is not None:
            self._thrown_away.detach()

    async def _take(self) -> Lease:
        if self._thrown_away is None and not self._lease.lost:
            raise ConfigurationError(
                f"the lease on {self._grant} is not handed over: its block has not ended yet, or by an error"
            )
        try:
            self.require()
        except LockLostError as loss:
            self._lease._end()
            self.loss = loss
            raise
        return self._lease


def _throw_away(lease: Lease) -> None:
    """Stop to renew a lease that nobody took, and have its loop release it. The garbage collector calls this."""
    grant = lease._grant
    if lease._end() and (loop := grant.loop) is not None:
        loop.call_soon(lambda: loop.spawn(lambda: give_back(grant)))


class BlockingGuard(_Guard):
    """`with mutex.blocking.lock(...)`: holds the lease; a loss shows as `lease.lost` and is raised at the end."""

    _lease: BlockingLease

    def __enter__(self) -> BlockingLease:
        self._use()
        try:
            lease = take_blocking(self._grant, self._wait, renew=True, verb="async with mutex.lock(...)")
        except Unavailable as error:
            self.away = error
            raise
        if isinstance(lease, LockError):
            raise self._refused(lease)
        self._lease = lease
        enter(self._grant)
        return lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_kept(error):
            return
        lost = self._release_here()
        leave()
        if lost and (error is None or isinstance(error, Exception)):
            raise self._lost() from error
