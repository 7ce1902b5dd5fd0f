"""An answer that comes when its lease is over already: somebody else may be inside, so it lets nobody in."""

from __future__ import annotations

import anyio
import pytest

from sync_kit import LockError, LockLostError, Mutex, SyncKit
from tests.mutex.tools import eventually, locks
from tests.support.ticks import elapsed

pytestmark = pytest.mark.anyio

TTL = 0.2


@pytest.fixture
async def far(proxy, namespace):
    """A mutex behind the proxy, connected."""
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        yield Mutex("reports", ttl=TTL, kit=kit)
    await anyio.to_thread.run_sync(kit.close)


async def connect(mutex, face):
    """So that the next call is one exchange. A lease that a pause of this machine outlasted is taken again."""
    for wait in (1, 0):
        until = elapsed() + 5
        while not await face(await face(mutex).acquire("warm", wait=wait)).release():
            assert elapsed() < until


async def behind(mutex, client):
    """The lock, for when somebody else was given it."""
    await eventually(lambda: locks(client), 3)
    return mutex.lock("a")


async def test_who_does_not_wait_is_told_that_it_is_busy(far, kit, face, proxy, client):
    await connect(far, face)
    near = face(Mutex("reports", ttl=5, wait=5, kit=kit))
    ended: list[type] = []

    async def ask():
        with pytest.raises(LockError) as info:
            async with face(far).lock("a", wait=0) as lease:
                ended.append(type(lease))
        ended.append(info.type)

    async with anyio.create_task_group() as group:
        proxy.hold_replies = True
        group.start_soon(ask)
        async with await behind(near, client):  # when the lease of the other one is over, and before it hears of it
            assert ended == []
            proxy.hold_replies = False
            await eventually(lambda: ended, 3)
    assert ended == [LockError]


async def test_who_waits_waits_on(far, kit, face, proxy, client):
    await connect(far, face)
    near, entered = face(Mutex("reports", ttl=5, wait=5, kit=kit)), []

    async def ask():
        async with face(far).lock("a", wait=10) as lease:
            entered.append((lease.fence, lease.expires_in > 0))

    async with anyio.create_task_group() as group:
        proxy.hold_replies = True
        group.start_soon(ask)
        async with await behind(near, client) as lease:
            proxy.hold_replies = False
            await anyio.sleep(0.5)
            assert entered == []
    ((fence, alive),) = entered
    assert alive
    assert fence > lease.fence


async def test_when_no_answer_comes_in_time_the_lease_is_lost_from_the_start(far, face, proxy):
    """A network that is slower than the ttl."""
    await connect(far, face)
    proxy.delay = 2 * TTL
    with pytest.raises(LockLostError, match="the answer came"):
        async with face(far).lock("a", wait=0) as lease:
            assert lease.lost
