"""Redis restarts, or forgets its scripts, while some hold and others wait: nobody hangs, and the waiters come in."""

from __future__ import annotations

import anyio
import pytest

from sync_kit import Mutex, SyncKit
from tests.mutex.scene import Scene
from tests.mutex.tools import eventually
from tests.support.ticks import elapsed

pytestmark = pytest.mark.anyio

TTL = 0.9


@pytest.fixture
def scene(face, namespace):
    """`await scene(server, act, ttl)` plays a scene on a server of the test's own."""

    async def play(server, act, ttl=TTL):
        async with SyncKit(server.url, namespace=namespace) as kit:
            made = Scene(face(Mutex("reports", ttl=ttl, wait=20, kit=kit)), server.client())
            await made.play(lambda: act(made))
        await anyio.to_thread.run_sync(kit.close)
        return made

    return play


async def restart(server, away=0.0):
    await anyio.to_thread.run_sync(server.kill)
    await anyio.sleep(away)
    await anyio.to_thread.run_sync(server.start)


async def test_after_a_restart_without_its_data_the_holder_is_told_and_the_waiters_come_in(own_server, scene):
    """The lock was forgotten with everything else, and the lease of the holder would last for long."""
    server = own_server()
    played = await scene(server, lambda _: restart(server), ttl=3)
    assert played.lost_at is not None
    assert played.entered[0][1] > played.lease.fence, "what the lock protects refuses the older holder, not the newer"


async def test_an_outage_that_is_longer_than_the_lease_ends_the_block_meanwhile(own_server, scene):
    """The data is kept; the lease is not, because nobody could renew it."""
    server = own_server(appendonly=True)

    async def act(made):
        await anyio.to_thread.run_sync(server.kill)
        over = elapsed() + made.lease.expires_in
        await eventually(lambda: made.lost_at is not None, 3)
        assert made.lost_at < over + 0.3, "it is told without Redis"
        await anyio.to_thread.run_sync(server.start)

    played = await scene(server, act)
    assert min(fence for _, fence in played.entered) > played.lease.fence


async def test_a_short_restart_that_keeps_the_data_takes_nothing_from_anybody(own_server, scene):
    """The lock and the line are there again: the block ends well, and then those come in who waited, in their order."""
    server = own_server(appendonly=True)

    async def act(made):
        await restart(server)
        await eventually(lambda: made.lease.expires_in < 4.5, 5)
        await eventually(lambda: made.lease.expires_in > 4.5, 5)
        assert made.entered == [], "and the lease has been renewed"
        made.let_go.set()

    played = await scene(server, act, ttl=5)
    assert played.lost_at is None
    assert [number for number, _ in played.entered] == [0, 1, 2, 3]
    assert played.entered[0][1] > played.lease.fence


async def test_scripts_that_are_forgotten_again_and_again_stop_nobody(kit, face, client, history):
    """A call that finds its script gone sends it along: no renewal, release, sign of life or call is missed."""
    mutex = face(Mutex("reports", ttl=0.9, wait=20, kit=kit))
    flushes, ended = 0, anyio.Event()

    async def forget():
        nonlocal flushes
        while not ended.is_set():
            await anyio.to_thread.run_sync(client.script_flush)
            flushes += 1
            await anyio.sleep(0.005)

    async def contend(seconds):
        for _ in range(5):
            async with mutex.lock("a") as lease:
                history.note("enter", lease.fence)
                await anyio.sleep(seconds)
                history.note("exit", lease.fence)

    async with anyio.create_task_group() as group:
        group.start_soon(forget)
        with anyio.fail_after(25):
            async with anyio.create_task_group() as contenders:
                for _ in range(6):
                    contenders.start_soon(contend, 0.002)
                async with mutex.lock("a") as lease:
                    history.note("enter", lease.fence)
                    await anyio.sleep(1.5)
                    history.note("exit", lease.fence)
        ended.set()
    history.check(31)
    assert flushes > 50


async def test_who_waits_on_a_connection_that_was_cut_is_called_as_soon_as_anybody(proxy, kit, face, namespace, client):
    """What reads the calls connects again at once: only when that fails too does it wait for a beat."""
    held = face(await face(Mutex("reports", kit=kit)).acquire("a"))
    entered: list[float] = []
    async with SyncKit(proxy.url, namespace=namespace) as far:

        async def wait():
            async with face(Mutex("reports", wait=20, kit=far)).lock("a"):
                entered.append(elapsed())

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await eventually(lambda: client.keys("*:line:*"), 2)
            await eventually(lambda: read_by(client), 2)
            await anyio.to_thread.run_sync(proxy.cut)
            await eventually(lambda: read_by(client), 0.6)
            await held.release()
            released = elapsed()
        assert entered[0] - released < 0.3
    await anyio.to_thread.run_sync(far.close)


def read_by(client):
    """Whether a connection waits for calls."""
    return any(each["cmd"] == "blpop" and "b" in each["flags"] for each in client.client_list())
