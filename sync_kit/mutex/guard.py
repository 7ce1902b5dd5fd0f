"""Guarded blocks: the `with` around work that needs a lease."""

from __future__ import annotations

import logging
import math
import os
import time
import weakref
from typing import TYPE_CHECKING

import anyio

from sync_kit.errors import ConfigurationError, LockError, LockLostError, SyncKitError, Unavailable
from sync_kit.mutex.grant import Grant, ask_flow, release_flow, wait_flow
from sync_kit.mutex.inbox import seat_here, seat_in_thread
from sync_kit.mutex.lease import BlockingLease, Lease, give_back, lost_at_the_end, not_released
from sync_kit.mutex.nesting import enter, leave, refuse_nested
from sync_kit.mutex.renewal import renewal_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

log = logging.getLogger("sync_kit")


async def take(grant: Grant, wait: float, *, renew: bool) -> Lease | LockError:
    """Acquire; a cancellation at any await gives back what may have been acquired, and the place in the line."""
    home = grant.site.kit.home()
    try:
        if wait > 0:
            with seat_here(grant, home) as seat:
                busy = await home.driver.run(wait_flow(grant, wait, seat))
        else:
            busy = await home.driver.run(ask_flow(grant))
    except anyio.get_cancelled_exc_class():
        await give_back(grant)
        raise
    if busy is not None:
        return busy
    if renew:
        grant.loop = home.loop
        grant.loop.watch(grant)
        renewal_of(grant).hold(grant)
    return Lease(grant)


def take_blocking(grant: Grant, wait: float, *, renew: bool, verb: str) -> BlockingLease | LockError:
    """Acquire; an interruption (Ctrl-C, an exception of a signal handler) gives back what may have been acquired."""
    kit = grant.site.kit
    kit.refuse_in_loop(verb)
    try:
        if wait > 0:
            with seat_in_thread(grant) as seat:
                busy = kit.thread_driver.run(wait_flow(grant, wait, seat))
        else:
            busy = kit.thread_driver.run(ask_flow(grant))
    except SyncKitError:
        raise
    except BaseException:
        _give_back_blocking(grant)
        raise
    if busy is not None:
        return busy
    if renew:
        renewal_of(grant).hold(grant)
    return BlockingLease(grant)


def _give_back_blocking(grant: Grant) -> None:
    """Release what an interrupted call may have acquired; the interruption goes on, whatever Redis says."""
    try:
        grant.site.kit.thread_driver.run(release_flow(grant))
    except SyncKitError as error:
        log.warning("%s may stay held until it expires: %s", grant, error)


class _Guard:
    def __init__(self, grant: Grant, wait: float) -> None:
        self._grant = grant
        self._wait = wait
        self.used = False
        self.busy: LockError | None = None
        self.loss: LockLostError | None = None
        self.away: Unavailable | None = None

    def _use(self) -> None:
        """One grant is one token: whoever came in with it a second time would share the lease with the first."""
        self._refuse_again()
        refuse_nested(self._grant)
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
    """

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
        loop = self._grant.loop
        self._grant.when_lost = lambda: loop.call_soon(scope.cancel) if loop else None
        if lease.lost:
            scope.cancel()
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

    def hand_over(self) -> Guard:
        """Let the lease outlive this block: returns a guard for the rest of the work, to be entered after it.

        A block that ends with an error or a loss hands nothing over. The lease is renewed meanwhile, and released
        when the new guard is thrown away unused; where something keeps that, as errors keep what was around them,
        it is renewed for a minute at most.
        """
        rest = _Rest(self._grant, self._lease)
        self._heir = weakref.ref(rest)
        return rest

    async def end(self) -> None:
        """Release before the block ends, which nothing cancels from then on. A loss is raised when it ends."""
        await self._release()

    def require(self) -> None:
        """Raise `LockLostError` if the lease is known to be over and was not released. Asks nobody."""
        if not self._over() and self._grant.expires_in == 0.0:
            self._grant.lose("it expired")
        if self._lease.lost:
            raise self._grant.loss()

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

    def __enter__(self) -> BlockingLease:
        self._use()
        lease = take_blocking(self._grant, self._wait, renew=True, verb="async with mutex.lock(...)")
        if isinstance(lease, LockError):
            raise self._refused(lease)
        self._lease = lease
        enter(self._grant)
        return lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self._release()
        leave()
        if lost and (error is None or isinstance(error, Exception)):
            raise self._lost() from error

    def _release(self) -> bool:
        if self._over():
            return self._lease.lost
        left = self._lease.expires_in
        try:
            return lost_at_the_end(self._lease, self._lease.release())
        except SyncKitError as error:
            return not not_released(self._lease, left, error)
