"""Cancelled at any await, nothing is left behind but the fence; and a cancellation stays one."""

from __future__ import annotations

import asyncio
import os

import anyio
import pytest

from sync_kit import LockLostError, Mutex, SyncKit
from tests.io.tools import run_program
from tests.mutex.tools import eventually, locks, the_lock
from tests.support.chaos import cancel_points
from tests.support.ticks import elapsed

pytestmark = pytest.mark.anyio

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)


def nothing_is_left(client):
    async def look(point):
        assert locks(client) == [], f"cancelled at await {point}"

    return look


async def block(mutex):
    async with mutex.lock("a"):
        await anyio.sleep(0.002)


async def lease(mutex):
    held = await mutex.acquire("a", renew=True)
    try:
        await held.extend()
    finally:
        await held.release()


async def work(mutex):
    await mutex.with_lock("a", lambda: anyio.sleep(0.002))


@pytest.mark.parametrize("action", [block, lease, work])
async def test_cancelled_at_any_await_no_key_is_left(mutex, client, action):
    assert await cancel_points(lambda: action(mutex), nothing_is_left(client)) >= 3


@on_asyncio
@pytest.mark.parametrize("action", [block, lease, work])
async def test_cancelled_by_asyncio_itself_no_key_is_left(mutex, client, action):
    assert await cancel_points(lambda: action(mutex), nothing_is_left(client), edge=True) >= 3


async def test_cancelled_while_waiting_the_holder_is_left_alone(mutex, client):
    held = await mutex.acquire("a")
    before = client.get(the_lock(client))

    async def still_held(point):
        assert client.get(the_lock(client)) == before

    assert await cancel_points(lambda: mutex.acquire("a", wait=0.05), still_held) >= 3
    assert await held.release()


async def test_a_new_client_cancelled_while_it_connects_leaves_nothing(server, namespace, client):
    async def connect_and_lock():
        kit = SyncKit(server.url, namespace=namespace)
        try:
            await block(Mutex("reports", kit=kit))
        finally:
            with anyio.CancelScope(shield=True):
                await kit.aclose()

    await cancel_points(connect_and_lock, nothing_is_left(client))


async def test_a_cancellation_from_outside_is_not_turned_into_a_loss(mutex, client):
    with anyio.CancelScope() as scope:
        async with mutex.lock("a"):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert locks(client) == []


@on_asyncio
async def test_a_cancelled_task_ends_as_cancelled(mutex, client):
    task = asyncio.ensure_future(forever(mutex))
    await eventually(lambda: locks(client), 2)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert locks(client) == []


@on_asyncio
async def test_wait_for_may_be_put_around_a_block(mutex, client):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(forever(mutex), 0.05)
    assert locks(client) == []


async def forever(mutex):
    async with mutex.lock("a"):
        await anyio.sleep_forever()


async def test_a_cancellation_from_outside_wins_over_a_loss_at_the_same_time(kit, client):
    mutex = Mutex("reports", ttl=0.9, kit=kit)
    with anyio.CancelScope() as scope:
        async with mutex.lock("a") as lease:
            client.delete(the_lock(client))
            with anyio.CancelScope(shield=True):
                await eventually(lambda: lease.lost, 1)
                scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


@on_asyncio  # trio waits for the call itself, and has its error
async def test_a_failed_clean_up_does_not_replace_the_cancellation(own_server, monkeypatch):
    monkeypatch.setattr("sync_kit.mutex.grant.CALL_LIMIT", 0.3)
    server = own_server()
    async with SyncKit(server.url, namespace="outage") as kit:
        mutex = Mutex("reports", kit=kit)
        await block(mutex)
        server.pause()
        asked = elapsed()
        with anyio.move_on_after(0.05) as scope:
            await mutex.acquire("b")
        assert scope.cancelled_caught
        assert elapsed() - asked < 1
        server.resume()


@on_asyncio
@pytest.mark.parametrize("verb", ["block", "release"])
async def test_a_release_without_an_answer_does_not_swallow_a_cancellation(own_server, verb, monkeypatch):
    monkeypatch.setattr("sync_kit.mutex.grant.CALL_LIMIT", 0.3)
    server = own_server()
    went_on: list[int] = []
    paused: list[int] = []

    def pause():
        server.pause()
        paused.append(1)

    async def work():
        if verb == "release":
            lease = await mutex.acquire("a")
            assert lease is not None
            pause()
            await lease.release()
        else:
            async with mutex.lock("a"):
                pause()
        went_on.append(1)

    async with SyncKit(server.url, namespace="outage") as kit:
        mutex = Mutex("reports", kit=kit)
        await block(mutex)
        task = asyncio.ensure_future(work())
        await eventually(lambda: paused, 5)  # its next await is the release
        task.cancel()
        await asyncio.wait([task])
        server.resume()
    assert task.cancelled()
    assert went_on == []


THE_END = """
import redis
from sync_kit import Mutex

mutex = Mutex("reports", kit=SyncKit(sys.argv[1], namespace=sys.argv[2]))

async def hold():
    async with mutex.lock("b"):
        await asyncio.sleep(60)

async def main():
    held = await mutex.acquire("a", ttl=5)
    tasks = [asyncio.create_task(hold()), asyncio.create_task(mutex.acquire("a", wait=60))]
    await asyncio.sleep(0.2)
    await held.extend()

if sys.argv[3] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
left = redis.Redis.from_url(sys.argv[1]).keys(f"{sys.argv[2]}:mx:*")
print(sorted(key.decode().rpartition("}:")[2] for key in left))
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_at_the_end_of_a_loop_everything_is_given_back_and_nothing_is_torn_apart(server, namespace, loop):
    """Its tasks are cancelled, the connection's too: any warning fails the program."""
    assert run_program(THE_END, server.url, namespace, loop) == "['fence', 'lock:a']"


FORK = """
from sync_kit import Mutex
kit = SyncKit(sys.argv[1], namespace=sys.argv[2])
mutex = Mutex("reports", wait=0, kit=kit).blocking
pid = None
with mutex.lock("a") as lease:
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert mutex.holder("a").fence == lease.fence
    else:
        assert mutex.acquire("a") is None
if not pid:
    assert not lease.release()
    os._exit(0)
print(mutex.holder("a"))
kit.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_child_that_leaves_the_block_of_its_parent_takes_nothing_away(server, namespace):
    assert run_program(FORK, server.url, namespace) == "None"


@on_asyncio
async def test_a_block_left_by_the_wrong_task_still_gives_back(mutex, client):
    guard = mutex.lock("a")
    await asyncio.ensure_future(guard.__aenter__())
    assert locks(client)
    with pytest.raises(RuntimeError, match="different task"):
        await guard.__aexit__(None, None, None)
    assert locks(client) == []


async def test_an_error_of_a_child_task_beside_the_cancellation_still_gives_back(kit, client):
    """The block ends with a group of the cancellation and an error of its own."""
    mutex = Mutex("reports", ttl=0.9, kit=kit)

    async def fail_when_cancelled():
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("mine")

    async def group_of_tasks():
        client.delete(the_lock(client))
        async with anyio.create_task_group() as group:
            group.start_soon(fail_when_cancelled)
            await anyio.sleep_forever()

    with pytest.raises(LockLostError) as info:
        await mutex.with_lock("a", group_of_tasks)
    assert "mine" in repr(info.value.__cause__)
    again = await mutex.acquire("a")
    assert again is not None
    await again.release()
