"""Who holds a resource, and how it is taken away."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone

import anyio
import pytest

from sync_kit import ConfigurationError, LockLostError, Mutex, ServerError
from tests.mutex.tools import eventually, locks
from tests.support.ticks import elapsed

pytestmark = pytest.mark.anyio


async def test_nobody_holds_it(mutex, face):
    assert await face(mutex).holder("a") is None
    assert await face(mutex).holders("a") == ()


async def test_a_holder_says_who_since_when_until_when_and_how_many_wait(mutex, face, client):
    lease = await mutex.acquire("a", ttl=30)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(lambda: mutex.acquire("a", wait=20))
        await eventually(lambda: sum(client.llen(key) for key in client.keys("*:line:*")) == 2, 2)
        holder = await face(mutex).holder("a")
        group.cancel_scope.cancel()
    assert (holder.resource, holder.fence, holder.waiters) == ("a", lease.fence, 2)
    assert holder.owner.endswith(f":{os.getpid()}")
    assert abs(holder.since - datetime.now(timezone.utc)) < timedelta(seconds=5)
    assert holder.since.tzinfo is timezone.utc
    assert 25 < holder.expires_in <= 30


async def test_renewing_does_not_change_since(mutex, face):
    lease = face(await face(mutex).acquire("a"))
    since = (await face(mutex).holder("a")).since
    await lease.extend(60)
    assert (await face(mutex).holder("a")).since == since


async def test_to_break_ends_the_lease_and_calls_the_next(kit, mutex, face, client, caplog):
    held = await mutex.acquire("a", ttl=60)
    entered = []

    async def wait():
        async with mutex.lock("a", wait=20):
            entered.append(elapsed())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await eventually(lambda: client.keys("*:line:*"), 2)
        broken = elapsed()
        assert await face(mutex).break_lock("a")
    assert entered[0] - broken < 0.5
    assert not await held.release()
    (record,) = [record for record in caplog.records if "broken" in record.message]
    assert record.levelname == "WARNING"
    assert "the lease on 'a' of mutex 'reports', held by " in record.message
    assert f"with fence {held.fence}" in record.message


async def test_nothing_to_break_is_false(mutex, face, caplog):
    assert not await face(mutex).break_lock("a")
    assert caplog.records == []


async def test_only_the_lease_that_was_looked_at_is_broken(mutex, face, client):
    """Somebody else may have come in since: the fence tells them apart."""
    first = await mutex.acquire("a")
    await first.release()
    second = await mutex.acquire("a")
    assert not await face(mutex).break_lock("a", fence=first.fence)
    assert await face(mutex).break_lock("a", fence=second.fence)
    assert locks(client) == []


async def test_who_was_broken_learns_it_at_the_next_renewal(kit):
    mutex = Mutex("reports", ttl=0.6, kit=kit)
    with pytest.raises(LockLostError):
        async with mutex.lock("a"):
            assert await mutex.break_lock("a")
            with anyio.fail_after(1):
                await anyio.sleep_forever()


@pytest.mark.parametrize("fence", [0, -1, True, "7", 1.5])
async def test_a_wrong_fence_is_refused(mutex, face, fence):
    with pytest.raises(ConfigurationError, match="fence"):
        await face(mutex).break_lock("a", fence=fence)


@pytest.mark.parametrize("verb", ["holder", "holders", "break_lock"])
async def test_a_foreign_value_is_an_error_that_names_the_key(mutex, face, client, verb):
    key = mutex._grant("a", None).lock_key
    client.set(key, "something else", px=5000)
    with pytest.raises(ServerError, match=re.escape(key)):
        await getattr(face(mutex), verb)("a")
    assert client.get(key) == b"something else"


@pytest.mark.parametrize("verb", ["holder", "break_lock"])
async def test_blocking_twins_refuse_to_stop_a_loop(mutex, verb):
    with pytest.raises(ConfigurationError, match="await"):
        getattr(mutex.blocking, verb)("a")
