"""How a lease is acquired, and given back when the one who acquires it is interrupted."""

from __future__ import annotations

import logging

import anyio

from sync_kit.errors import LockError, SyncKitError
from sync_kit.mutex.grant import Grant, ask_flow, release_flow, wait_flow
from sync_kit.mutex.inbox import seat_here, seat_in_thread
from sync_kit.mutex.lease import BlockingLease, Lease, give_back
from sync_kit.mutex.renewal import renewal_of

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
        give_back_blocking(grant)
        raise
    if busy is not None:
        return busy
    if renew:
        renewal_of(grant).hold(grant)
    return BlockingLease(grant)


def give_back_blocking(grant: Grant) -> None:
    """Release what an interrupted call may have acquired; the interruption goes on, whatever Redis says."""
    try:
        grant.site.kit.thread_driver.run(release_flow(grant))
    except SyncKitError as error:
        log.warning("%s may stay held until it expires: %s", grant, error)
