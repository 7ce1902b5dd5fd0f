"""A block leaves its lease to an object: it is renewed until it is ended, or until the object is gone."""

from __future__ import annotations

import gc
import threading

import anyio
import pytest

from sync_kit import LockError, LockLostError, Mutex
from sync_kit.mutex.renewal import _held
from tests.mutex.tools import always, eventually, locks, the_lock

pytestmark = pytest.mark.anyio

TTL = 0.6


class Owner:
    """Whom a lease is kept for."""


async def test_a_kept_lease_is_renewed_until_it_is_ended(kit, client):
    mutex, owner = Mutex("reports", ttl=TTL, kit=kit), Owner()
    async with (guard := mutex.lock("a")):
        guard.keep(owner)
    key = the_lock(client)
    await always(lambda: client.exists(key), 1.5 * TTL)
    guard.require()
    assert await guard.end() is None
    assert locks(client) == []
    assert await guard.end() is None, "a second time it does nothing"


def test_blocking_code_keeps_a_lease_too(kit, client):
    mutex, owner = Mutex("reports", ttl=TTL, kit=kit).blocking, Owner()
    with (guard := mutex.lock("a")):
        guard.keep(owner)
    threading.Event().wait(1.5 * TTL)
    guard.require()
    assert len(locks(client)) == 1
    assert guard.end_here() is None
    assert locks(client) == []


@pytest.mark.parametrize("kind", [ZeroDivisionError, LockLostError])
async def test_a_block_that_fails_keeps_nothing(kit, client, kind):
    mutex, owner = Mutex("reports", ttl=TTL, kit=kit), Owner()
    with anyio.fail_after(5), pytest.raises(kind):
        async with (guard := mutex.lock("a")):
            guard.keep(owner)
            if kind is ZeroDivisionError:
                raise ZeroDivisionError
            client.delete(the_lock(client))
            await anyio.sleep_forever()
    assert locks(client) == []
    del owner
    gc.collect()


async def test_it_ends_with_its_owner(mutex, client):
    owner = Owner()
    async with (guard := mutex.lock("a")) as lease:
        guard.keep(owner)
    del owner
    gc.collect()
    assert lease._grant.token not in _held
    await eventually(lambda: locks(client) == [], 5)


def test_of_blocking_code_it_is_renewed_no_longer_than_its_owner_is_there(kit):
    mutex, owner = Mutex("reports", ttl=TTL, kit=kit).blocking, Owner()
    with (guard := mutex.lock("a")) as lease:
        guard.keep(owner)
    assert lease._grant.token in _held
    del owner
    gc.collect()
    assert lease._grant.token not in _held


async def test_work_for_which_it_is_kept_is_cancelled_when_it_is_lost(kit, client):
    mutex, owner = Mutex("reports", ttl=TTL, kit=kit), Owner()
    async with (guard := mutex.lock("a")):
        guard.keep(owner)
    client.delete(the_lock(client))
    with anyio.fail_after(5), pytest.raises(LockLostError) as info:
        await guard.during(anyio.sleep_forever)
    assert info.value is guard.loss
    with pytest.raises(LockLostError):
        guard.require()


async def test_who_ends_it_learns_that_it_was_lost(mutex, client):
    owner = Owner()
    async with (guard := mutex.lock("a")):
        guard.keep(owner)
    client.delete(the_lock(client))
    assert isinstance(await guard.end(), LockLostError)


async def test_a_thread_may_end_it_and_wait_for_that(mutex, client):
    owner = Owner()
    async with (guard := mutex.lock("a")):
        guard.keep(owner)
    assert await anyio.to_thread.run_sync(guard.end_here) is None
    assert locks(client) == []


async def test_any_thread_may_end_it_and_says_what_comes_before(mutex, client):
    owner, done = Owner(), []

    async def first():
        done.append(len(locks(client)))

    async with (guard := mutex.lock("a")):
        guard.keep(owner)
    await anyio.to_thread.run_sync(guard.end_soon, first)
    await eventually(lambda: locks(client) == [], 5)
    assert done == [1]


def test_it_may_be_ended_after_its_event_loop(mutex, client):
    owner = Owner()

    async def hold():
        async with (guard := mutex.lock("a")):
            guard.keep(owner)
        return guard

    guard = anyio.run(hold)
    assert len(locks(client)) == 1
    guard.end_soon()
    assert locks(client) == []


def test_a_block_that_would_wait_for_itself_says_so(mutex):
    with mutex.blocking.lock("a"):
        guard = mutex.blocking.lock("a")
        with pytest.raises(LockError) as info, guard:
            pytest.fail("it began")
    assert info.value is guard.nested
    assert guard.busy is None
