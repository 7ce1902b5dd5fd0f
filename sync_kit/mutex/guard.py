"""Guarded blocks: the `with` around work that needs a lease."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from sync_kit.errors import LockError, Unavailable
from sync_kit.mutex.grant import Grant, acquire_flow, release_flow
from sync_kit.mutex.lease import BlockingLease, Lease, lost_at_the_end, not_released
from sync_kit.mutex.renewal import renewal_of

if TYPE_CHECKING:
    from types import TracebackType


async def take(grant: Grant, wait: float, *, renew: bool) -> Lease | LockError:
    """Acquire; a cancellation at any await gives back what may have been acquired."""
    driver = grant.kit.driver
    try:
        busy = await driver.run(acquire_flow(grant, wait))
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await driver.run(release_flow(grant))
        raise
    if busy is not None:
        return busy
    if renew:
        grant.loop = grant.kit.home().loop
        grant.loop.watch()
        renewal_of(grant).hold(grant)
    return Lease(grant)


def take_blocking(grant: Grant, wait: float, *, renew: bool) -> BlockingLease | LockError:
    """Acquire; an interruption (Ctrl-C) gives back what may have been acquired."""
    try:
        busy = grant.kit.run_blocking(acquire_flow(grant, wait), "mutex.lock(...)")
    except KeyboardInterrupt:
        grant.kit.thread_driver.run(release_flow(grant))
        raise
    if busy is not None:
        return busy
    if renew:
        renewal_of(grant).hold(grant)
    return BlockingLease(grant)


class Guard:
    """`async with mutex.lock(...)`: holds the lease, and cancels the block when it is lost."""

    def __init__(self, grant: Grant, wait: float) -> None:
        self._grant = grant
        self._wait = wait
        self._scope = anyio.CancelScope()
        self.busy: LockError | None = None

    async def __aenter__(self) -> Lease:
        lease = await take(self._grant, self._wait, renew=True)
        if isinstance(lease, LockError):
            self.busy = lease
            raise lease
        self._lease = lease
        self._scope.__enter__()
        loop, scope = self._grant.loop, self._scope
        self._grant.when_lost = lambda: loop.call_soon(scope.cancel) if loop else None
        if self._grant.lost is not None:
            scope.cancel()
        return lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._grant.when_lost = None
        ours = self._scope.__exit__(kind, error, trace)  # true only for the cancellation of a loss
        lost = await self._release()
        if lost and (error is None or ours or isinstance(error, Exception)):
            raise self._grant.loss() from (error if isinstance(error, Exception) else None)

    async def _release(self) -> bool:
        if self._grant.ended:
            return False  # released by hand inside the block
        try:
            return lost_at_the_end(self._lease, await self._lease.release())
        except Unavailable as error:
            return not not_released(self._lease, error)


class BlockingGuard:
    """`with mutex.blocking.lock(...)`: holds the lease; a loss shows as `lease.lost` and is raised at the end."""

    def __init__(self, grant: Grant, wait: float) -> None:
        self._grant = grant
        self._wait = wait
        self.busy: LockError | None = None

    def __enter__(self) -> BlockingLease:
        lease = take_blocking(self._grant, self._wait, renew=True)
        if isinstance(lease, LockError):
            self.busy = lease
            raise lease
        self._lease = lease
        return lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._grant.ended:
            return
        try:
            lost = lost_at_the_end(self._lease, self._lease.release())
        except Unavailable as unavailable:
            lost = not not_released(self._lease, unavailable)
        if lost and (error is None or isinstance(error, Exception)):
            raise self._grant.loss() from error
