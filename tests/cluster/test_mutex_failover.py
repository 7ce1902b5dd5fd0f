"""A failover while one holds a lock and others wait: what was replicated lasts, and what was not is noticed."""

from __future__ import annotations

import anyio
import pytest

from sync_kit import LockLostError, Mutex, SyncKit
from tests.mutex.scene import Scene
from tests.mutex.tools import eventually

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio", "trio", "blocking"], indirect=True),
]


@pytest.fixture
async def mutexes(own_sentinels, namespace):
    """Two mutexes of one name, each on a kit of its own: to Redis they are two processes."""
    url = f"{own_sentinels.url}?socket_connect_timeout=0.6"
    async with SyncKit(url, namespace=namespace) as one, SyncKit(url, namespace=namespace) as two:
        yield [Mutex("reports", ttl=9, wait=20, kit=kit) for kit in (one, two)]
    await anyio.to_thread.run_sync(one.close)
    await anyio.to_thread.run_sync(two.close)


async def fail_over(sentinels, kill):
    """`kill` the primary, and wait for the next one."""
    old = await anyio.to_thread.run_sync(kill)
    await anyio.to_thread.run_sync(sentinels.wait_for_failover, old)


async def test_a_lock_that_was_replicated_lasts_and_the_line_goes_on_behind_it(own_sentinels, mutexes, face):
    scene = Scene(face(mutexes[0]), own_sentinels.clients()[0])

    async def act():
        await fail_over(own_sentinels, own_sentinels.kill_primary)
        await eventually(lambda: scene.lease.expires_in < 8, 10)
        await eventually(lambda: scene.lease.expires_in > 8, 10)
        assert scene.entered == [], "and the lease has been renewed on the new primary"
        scene.let_go.set()

    await scene.play(act)
    assert scene.lost_at is None
    assert scene.entered[0][1] > scene.lease.fence


async def test_a_lock_that_was_not_replicated_is_given_again_and_its_holder_sees_the_loss_when_it_asks(
    own_sentinels, mutexes, face
):
    """Until then two believe in their leases, and the fence tells them apart, though its counter was lost too."""
    older, newer = map(face, mutexes)
    for mutex in (older, newer):
        assert await face(await mutex.acquire("warm")).release()
    entered = []

    async def wait():
        async with newer.lock("a") as lease:
            entered.append(lease)

    async with anyio.create_task_group() as group:
        primary = await anyio.to_thread.run_sync(isolate, own_sentinels)
        for _ in range(3):
            assert await face(await older.acquire("b")).release()
        with pytest.raises(LockLostError) as info:
            async with older.lock("a") as lease:
                group.start_soon(wait)
                await eventually(lambda: waiting(own_sentinels.client(primary)) == 1, 2)
                await fail_over(own_sentinels, lambda: kill_in_isolation(own_sentinels, primary))
                await eventually(lambda: entered, 10)
                assert lease.expires_in > 0
                assert entered[0].fence > lease.fence
                assert not await face(lease).extend()
    assert info.value.fence == lease.fence
    assert await face(await older.acquire("a")).release()


def isolate(sentinels):
    """From now on the replica hears nothing of what the primary does; returns the primary."""
    primary = sentinels.primary
    sentinels.replicate(primary)
    sentinels.replica.pause()
    sentinels.ask(primary, "CLIENT", "KILL", "TYPE", "replica")
    return primary


def kill_in_isolation(sentinels, primary):
    """The primary dies with what only it knows; the replica goes on."""
    primary.kill()
    next(server for server in sentinels.servers if server is not primary).resume()
    return primary


def waiting(client):
    """How many stand in all lines."""
    return sum(client.llen(key) for key in client.keys("*:line:*"))
