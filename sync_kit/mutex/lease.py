"""Leases as their holders see them."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import anyio

from sync_kit._io.aio import to_the_end
from sync_kit._io.renewal import renewals
from sync_kit.errors import SyncKitError
from sync_kit.mutex.grant import CALL_LIMIT, Grant, extend_flow, release_flow
from sync_kit.options import Seconds, seconds

if TYPE_CHECKING:
    from sync_kit._io.flow import Flow

log = logging.getLogger("sync_kit")

LEAST_TTL = 0.1


async def settle(grant: Grant) -> bool:
    """Release, whatever is cancelled meanwhile; returns whether it was still held."""
    try:
        return await grant.site.kit.driver.run(release_flow(grant))
    except anyio.get_cancelled_exc_class():  # which may have taken the call back before it was sent
        await give_back(grant)
        raise


async def give_back(grant: Grant) -> None:
    """Release what a cancelled call may have acquired; the cancellation goes on, whatever Redis says."""

    async def release() -> None:
        try:
            await grant.site.kit.driver.run(release_flow(grant))
        except SyncKitError as error:
            log.warning("%s may stay held until it expires: %s", grant, error)

    await to_the_end(release)


class _Lease:
    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    def __repr__(self) -> str:
        grant = self._grant
        return f"<lease on {grant}, fence {grant.fence}>"

    @property
    def resource(self) -> str:
        """What is held."""
        return self._grant.resource

    @property
    def fence(self) -> int:
        """The fencing token: grows with every new holder. Send it along to whatever the lease protects."""
        return self._grant.fence

    @property
    def expires_in(self) -> float:
        """Seconds that the lease is sure to last unless renewed; 0 when it is over."""
        return self._grant.expires_in

    @property
    def lost(self) -> bool:
        """Whether the lease is known to have ended before it was released."""
        return self._grant.lost is not None

    def _extension(self, ttl: Seconds | None) -> Flow[None]:
        if ttl is not None:
            self._grant.ttl = seconds("ttl", ttl, least=LEAST_TTL)
        return extend_flow((self._grant,), CALL_LIMIT)

    def _renew_in_time(self) -> None:
        """A shorter ttl has to be renewed sooner."""
        if self._grant.renewal is not None and not self._grant.ended:
            renewals.add(self._grant.renewal)

    def _end(self) -> bool:
        """Mark the lease as ended; returns whether Redis has to be told. A forked child has no say in it."""
        grant = self._grant
        first, grant.ended = not grant.ended, True
        if grant.renewal is not None:
            grant.renewal.drop(grant)
        if first and grant.loop is not None:
            grant.loop.unwatch(grant)
        return first and not self.lost and grant.process == os.getpid()


class Lease(_Lease):
    """A lease for async code."""

    async def extend(self, ttl: Seconds | None = None) -> bool:
        """Let the lease live for `ttl` seconds from now (its own ttl if not given); False when it is lost.

        Raises:
            Unavailable: Redis cannot be reached; the lease lives on until it expires.
        """
        if not (self._grant.ended or self.lost):
            await self._grant.site.kit.driver.run(self._extension(ttl))
            self._renew_in_time()
        return not (self._grant.ended or self.lost)

    async def release(self) -> bool:
        """End the lease. Returns whether it was still held; a second call returns False. Survives a cancellation.

        Raises:
            Unavailable: Redis cannot be reached; the lease ends when it expires.
        """
        return self._end() and await settle(self._grant)


class BlockingLease(_Lease):
    """A lease for blocking code: the same verbs, without await."""

    def extend(self, ttl: Seconds | None = None) -> bool:
        """See `Lease.extend`."""
        if not (self._grant.ended or self.lost):
            self._grant.site.kit.run_blocking(self._extension(ttl), "lease.extend(...)")
            self._renew_in_time()
        return not (self._grant.ended or self.lost)

    def release(self) -> bool:
        """See `Lease.release`."""
        return self._end() and self._grant.site.kit.run_blocking(release_flow(self._grant), "lease.release()")


def lost_at_the_end(lease: _Lease, released: bool) -> bool:
    """Whether a guarded block ended without its lease."""
    if not released:
        lease._grant.lost = lease._grant.lost or "it had ended when the block did"
    return lease.lost


def not_released(lease: _Lease, left: float, error: SyncKitError) -> bool:
    """What the end of a block makes of a release that got no answer: the lease lasted if it had time `left`."""
    log.warning("%r could not be released and will expire: %s", lease, error)
    if left == 0.0:
        lease._grant.lost = lease._grant.lost or "it had expired when the block ended"
    return not lease.lost
