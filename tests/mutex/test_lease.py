"""The lease as its holder sees it."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

import pytest

from sync_kit import LockError, Mutex
from tests.mutex.tools import locks, the_lock

pytestmark = pytest.mark.anyio


async def test_acquire_gives_a_lease_or_none(mutex, face, client):
    lease = face(await face(mutex).acquire("a"))
    assert (lease.resource, lease.lost) == ("a", False)
    assert lease.fence >= 1
    assert 9 < lease.expires_in <= 10
    assert 9_000 < client.pttl(the_lock(client)) <= 10_000
    assert await face(mutex).acquire("a") is None
    assert await lease.release()
    assert await face(mutex).acquire("a") is not None


async def test_the_value_is_fence_token_time_and_owner(mutex, face, client):
    async with face(mutex).lock("a") as lease:
        fence, token, _, owner = client.get(the_lock(client)).split()
    assert int(fence) == lease.fence
    assert len(token) >= 24
    assert owner.decode() == f"{socket.gethostname()}:{os.getpid()}"


async def test_only_the_fence_has_no_ttl(mutex, face, client):
    async with face(mutex).lock("a"), face(mutex).lock("b"):
        for_ever = [key for key in client.keys("*") if client.pttl(key) == -1]
    assert [key.endswith(b":mx:{reports}:fence") for key in for_ever] == [True]


async def test_release_is_idempotent(mutex, face):
    lease = face(await face(mutex).acquire("a"))
    other_try = [await lease.release() for _ in range(3)]
    assert other_try == [True, False, False]
    assert lease.expires_in == 0
    assert not await lease.extend()


async def test_a_foreign_token_releases_and_extends_nothing(mutex, face, client):
    lease = face(await face(mutex).acquire("a"))
    key = the_lock(client)
    client.set(key, "7 someoneelse host:1", px=5000)
    before = (client.get(key), client.pexpiretime(key))
    assert not await lease.extend(60)
    assert not await lease.release()
    assert (client.get(key), client.pexpiretime(key)) == before


async def test_extend_sets_the_time_that_is_left(mutex, face, client):
    lease = face(await face(mutex).acquire("a"))
    for ttl, seconds in ((30, 30), (timedelta(minutes=1), 60), (5, 5), (None, 5)):
        assert await lease.extend(ttl)
        assert seconds - 1 < lease.expires_in <= seconds
        assert (seconds - 1) * 1000 < client.pttl(the_lock(client)) <= seconds * 1000


async def test_extend_after_a_loss_is_false_and_stays_so(mutex, face, client):
    lease = face(await face(mutex).acquire("a"))
    client.delete(the_lock(client))
    assert not lease.lost, "nobody has looked yet"
    assert not await lease.extend()
    assert lease.lost
    assert not await lease.extend()
    assert locks(client) == []


async def test_busy_says_who_holds_it_and_for_how_long(mutex, face, client):
    client.set(mutex._grant("report:7", None).lock_key, "1 token 1764000000000 web-3:4711", px=4900)
    said = r"'report:7' of mutex 'reports' is held by web-3:4711 for another 4\.\d+ s .*wait="
    with pytest.raises(LockError, match=said) as info:
        await face(mutex).with_lock_or_raise("report:7", print)
    assert (info.value.resource, info.value.holder) == ("report:7", "web-3:4711")
    assert 4 < info.value.expires_in <= 4.9


async def test_a_repr_says_what_is_held(mutex, face):
    async with face(mutex).lock("a") as lease:
        assert repr(lease) == f"<lease on 'a' of mutex 'reports', fence {lease.fence}>"
    assert repr(Mutex("reports", ttl=2.5)) == "<Mutex 'reports' ttl=2.5>"
