"""A lost lease cancels the block that it guarded, and is raised, whatever the block does."""

from __future__ import annotations

import sys
import time

import anyio
import pytest

from sync_kit import LockLostError, Mutex, SyncKit
from tests.mutex.tools import always, eventually, locks, the_lock
from tests.support.ticks import elapsed

pytestmark = pytest.mark.anyio

TTL, SLACK = 1.2, 0.25


@pytest.fixture
def mutex(kit):
    return Mutex("reports", ttl=TTL, wait=0, kit=kit)


def delete(client, key):
    client.delete(key)


def take_over(client, key):
    client.set(key, "999 somebodyelse host:1", px=60_000)


def overwrite(client, key):
    client.delete(key)
    client.rpush(key, "another", "type")
    client.pexpire(key, 60_000)


def lose_everything(client, key):
    client.flushall()


@pytest.mark.parametrize("lose", [delete, take_over, overwrite, lose_everything])
async def test_a_lost_lease_cancels_the_block_within_a_third_of_its_ttl(mutex, client, lose):
    with pytest.raises(LockLostError, match=r"'a' of mutex 'reports'.*undo or repeat") as info:
        async with mutex.lock("a") as lease:
            await anyio.sleep(0.02)
            lose(client, the_lock(client))
            lost = elapsed()
            try:
                await anyio.sleep(5)
            finally:
                took = elapsed() - lost
    assert took < TTL / 3 + SLACK
    assert elapsed() - lost < TTL / 3 + SLACK, "and the end is not late either"
    assert (info.value.resource, info.value.fence) == ("a", lease.fence)
    assert lease.lost
    assert lease.expires_in == 0
    assert not await lease.extend()
    assert not await lease.release()


async def test_the_loss_is_raised_even_if_the_block_swallows_the_cancellation(mutex, client):
    with pytest.raises(LockLostError):
        async with mutex.lock("a"):
            client.delete(the_lock(client))
            try:
                await anyio.sleep(5)
            except anyio.get_cancelled_exc_class():
                pass


async def test_the_loss_is_raised_even_if_the_block_raises_its_own_error(mutex, client):
    with pytest.raises(LockLostError) as info:
        async with mutex.lock("a"):
            client.delete(the_lock(client))
            try:
                await anyio.sleep(5)
            finally:
                raise ValueError("mine")
    assert isinstance(info.value.__cause__, ValueError)


async def test_a_lease_released_by_the_clean_up_of_a_cancelled_block_is_still_a_loss(mutex, client):
    with pytest.raises(LockLostError):
        async with mutex.lock("a") as lease:
            client.delete(the_lock(client))
            try:
                await anyio.sleep(5)
            finally:
                await lease.release()


async def test_a_loss_that_only_the_end_notices_is_raised(mutex, face, client):
    with pytest.raises(LockLostError):
        async with face(mutex).lock("a"):
            client.delete(the_lock(client))


async def test_what_somebody_else_holds_by_now_is_left_alone(mutex, face, client):
    with pytest.raises(LockLostError):
        async with face(mutex).lock("a"):
            key = the_lock(client)
            take_over(client, key)
    assert client.get(key) == b"999 somebodyelse host:1"


async def test_an_error_of_the_block_itself_is_its_own_while_the_lease_lasts(mutex, face, client):
    with pytest.raises(ValueError, match="mine"):
        async with face(mutex).lock("a"):
            raise ValueError("mine")
    assert locks(client) == []


async def test_the_others_of_the_batch_stay(mutex, client):
    async with mutex.lock("b") as other:
        key = the_lock(client)
        with pytest.raises(LockLostError):
            async with mutex.lock("a"):
                for taken in locks(client):
                    if taken != key:
                        overwrite(client, taken)
                await anyio.sleep(5)
        await always(lambda: client.exists(key) and not other.lost, TTL)


async def test_a_block_released_by_hand_ends_quietly(mutex, face, client):
    async with face(mutex).lock("a") as lease:
        assert await face(lease).release()
        client.set(f"{kit_key(mutex)}", "1 other host:1", px=1000)
    assert not lease.lost


def kit_key(mutex):
    return mutex._grant("a", None).lock_key


def test_blocking_code_sees_the_loss_and_the_end_raises_it(kit, client):
    mutex = Mutex("reports", ttl=TTL, kit=kit).blocking
    with pytest.raises(LockLostError) as info, mutex.lock("a") as lease:
        client.delete(the_lock(client))
        anyio.run(eventually, lambda: lease.lost, TTL / 3 + SLACK)
        assert not lease.extend()
    assert info.value.fence == lease.fence


def test_a_blocking_block_with_an_error_of_its_own_raises_the_loss_from_it(kit, client):
    mutex = Mutex("reports", ttl=TTL, kit=kit).blocking
    with pytest.raises(LockLostError) as info, mutex.lock("a"):
        client.delete(the_lock(client))
        raise ValueError("mine")
    assert isinstance(info.value.__cause__, ValueError)


def test_ctrl_c_in_a_blocking_block_stays_what_it_is(kit, client):
    mutex = Mutex("reports", ttl=TTL, kit=kit).blocking
    with pytest.raises(KeyboardInterrupt), mutex.lock("a"):
        client.delete(the_lock(client))
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), mutex.lock("a"):
        raise KeyboardInterrupt
    assert locks(client) == []


def pause(server):
    server.pause()


def stop(server):
    server.kill()


@pytest.mark.parametrize("go_away", [pause, stop])
async def test_without_redis_the_block_is_cancelled_no_later_than_its_lease_ends(own_server, go_away):
    server = own_server()
    async with SyncKit(server.url, namespace="outage") as kit:
        with pytest.raises(LockLostError, match="could not be renewed in time"):
            async with Mutex("reports", ttl=0.9, kit=kit).lock("a") as lease:
                await eventually(lambda: lease.expires_in < 0.65, 1)
                await eventually(lambda: lease.expires_in > 0.85, 1)
                go_away(server)
                over = elapsed() + lease.expires_in
                try:
                    await anyio.sleep(5)
                finally:
                    late = elapsed() - over
        assert -0.9 < late < 0.1
        assert elapsed() - over < 0.3, "nothing is asked for a lease that is known to be lost"
        if go_away is pause:
            server.resume()


async def test_the_silence_of_redis_hides_no_end_of_another_mutex(own_server):
    server = own_server()
    late: dict[str, float] = {}

    async def held(mutex, delay):
        await anyio.sleep(delay)
        with pytest.raises(LockLostError):
            async with mutex.lock("a") as lease:
                await gone.wait()
                over = elapsed() + lease.expires_in
                try:
                    await anyio.sleep(10)
                finally:
                    late[mutex.name] = elapsed() - over

    async with SyncKit(server.url, namespace="outage") as kit:
        gone = anyio.Event()
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(held, Mutex(f"m{number}", ttl=0.9, kit=kit), number * 0.04)
            await anyio.sleep(0.09)
            await eventually(lambda: len(locks(server.client())) == 4, 1)
            server.pause()
            gone.set()
        server.resume()
    assert len(late) == 4
    assert max(late.values()) < 0.3, late


@pytest.fixture
def stand_still():
    """`stand_still(seconds)`: no other thread of the process runs meanwhile, as when it is stopped."""
    interval = sys.getswitchinterval()

    def stand(seconds):
        sys.setswitchinterval(60)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    yield stand
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
def test_a_block_that_outlived_its_lease_unnoticed_does_not_end_well_without_redis(own_server, stand_still, blocking):
    """Nobody could be asked whether it had lasted, and by its own count it had not."""
    server = own_server()
    kit = SyncKit(server.url, namespace="outage")
    mutex = Mutex("reports", ttl=0.3, kit=kit)

    def work():
        server.kill()
        stand_still(0.4)

    async def run():
        async with kit, mutex.lock("a"):
            work()

    with pytest.raises(LockLostError, match="expired when the block ended|not be renewed"):
        if blocking:
            with mutex.blocking.lock("a"):
                work()
        else:
            anyio.run(run)
    kit.close()
