"""Redis is away or deaf: `Unavailable`, never `busy`, never a hang; a repeated acquire is one's own lock."""

from __future__ import annotations

import logging

import anyio
import pytest

from sync_kit import Mutex, SyncKit, Unavailable
from tests.mutex.tools import locks
from tests.support.ticks import elapsed

pytestmark = pytest.mark.anyio


@pytest.fixture
async def proxied(proxy, namespace):
    """A mutex behind the proxy, with a short time limit."""
    async with SyncKit(f"{proxy.url}?socket_timeout=0.4&socket_connect_timeout=0.4", namespace=namespace) as kit:
        yield Mutex("reports", wait=0, kit=kit)
        kit.close()


@pytest.fixture
def quick(own_server):
    """A server of the test's own, and the url of a kit that waits 0.4 s for a reply."""
    server = own_server()
    return server, f"{server.url}?socket_timeout=0.4&socket_connect_timeout=0.4"


async def test_a_killed_server_is_unavailable_at_once_and_never_busy(quick, face):
    server, url = quick
    async with SyncKit(url, namespace="outage") as kit:
        mutex = Mutex("reports", kit=kit)
        assert await face(await face(mutex).acquire("a")).release()
        server.kill()
        asked = elapsed()
        for verb, more in (("acquire", []), ("with_lock", [print]), ("with_lock_or_raise", [print])):
            with pytest.raises(Unavailable, match="not reachable"):
                await getattr(face(mutex), verb)("a", *more)
        with pytest.raises(Unavailable):
            await face(mutex).lock("a").__aenter__()
        assert elapsed() - asked < 1


async def test_a_silent_server_is_unavailable_within_the_time_limit(quick, face):
    server, url = quick
    async with SyncKit(url, namespace="outage") as kit:
        mutex = face(Mutex("reports", kit=kit))
        assert await face(await mutex.acquire("a")).release()
        server.pause()
        asked = elapsed()
        with pytest.raises(Unavailable, match="did not answer in time"):
            await mutex.acquire("a")
        assert elapsed() - asked < 0.4 + 0.4
        server.resume()


async def test_extend_and_release_without_redis_are_unavailable(quick, face):
    server, url = quick
    async with SyncKit(url, namespace="outage") as kit:
        lease = face(await face(Mutex("reports", kit=kit)).acquire("a"))
        server.kill()
        with pytest.raises(Unavailable):
            await lease.extend(20)
        assert not lease.lost, "it lives until it expires"
        assert 5 < lease.expires_in <= 10
        with pytest.raises(Unavailable):
            await lease.release()
        assert not await lease.release()


async def test_a_block_that_cannot_be_released_ends_well_and_says_so(quick, face, caplog):
    server, url = quick
    async with SyncKit(url, namespace="outage") as kit:
        with caplog.at_level(logging.WARNING, "sync_kit"):
            async with face(Mutex("reports", kit=kit)).lock("a"):
                server.kill()
        assert "could not be released and will expire" in caplog.text


async def test_an_acquire_whose_reply_was_dropped_is_repeated_and_gives_ones_own_lock(proxied, proxy, face, client):
    """The connection breaks after the server has granted: the same token asks again, and is the holder."""
    await (await proxied.acquire("warm")).release()
    lease, fences = await lost_reply(lambda: face(proxied).acquire("a"), proxy, client), client.get(fence_key(client))
    assert lease is not None
    assert lease.fence == int(fences), "one holder, one fence"
    assert len(locks(client)) == 1
    assert await face(lease).release()
    assert locks(client) == []


async def lost_reply(action, proxy, client):
    """Run `action`; the reply to its acquire is dropped, and the connection is cut."""
    result = []

    async def act():
        result.append(await action())

    proxy.drop_replies = True
    async with anyio.create_task_group() as group:
        group.start_soon(act)
        until = elapsed() + 0.3
        while not locks(client):
            assert elapsed() < until
            await anyio.sleep(0.002)
        proxy.drop_replies = False
        proxy.cut()
    return result[0]


def fence_key(client):
    (key,) = client.keys("*:fence")
    return key


async def test_a_cut_connection_is_repaired_by_the_next_call(proxied, proxy, face):
    for _ in range(3):
        lease = face(await face(proxied).acquire("a"))
        proxy.cut()
        assert await lease.extend()
        assert await lease.release()


async def test_a_restarted_server_without_its_data_forgets_locks_but_its_fences_go_on(quick, face):
    """It cannot promise exclusion any more; what the lock protects still refuses the older holder, not the newer."""
    server, url = quick
    async with SyncKit(url, namespace="outage") as kit:
        mutex = face(Mutex("reports", kit=kit))
        first = face(await mutex.acquire("a"))
        server.kill()
        server.start()
        assert not await first.extend()
        assert (await mutex.acquire("a")).fence > first.fence


async def test_scripts_that_the_server_forgot_are_sent_again(mutex, face, client):
    client.script_flush()
    lease = face(await face(mutex).acquire("a"))
    client.script_flush()
    assert await lease.extend()
    client.script_flush()
    assert await lease.release()
