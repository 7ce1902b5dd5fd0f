"""A task that would wait for itself is told so at once."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from sync_kit import LockError, LockLostError, Mutex, Semaphore
from tests.mutex.tools import locks, the_lock
from tests.support.ticks import elapsed


@pytest.mark.anyio
async def test_a_task_does_not_wait_for_itself(kit, client):
    mutex = Mutex("reports", wait=30, kit=kit)
    async with mutex.lock("a"):
        for nested in (
            lambda: mutex.with_lock("a", lambda: anyio.lowlevel.checkpoint()),
            lambda: mutex.with_lock_or_raise("a", lambda: anyio.lowlevel.checkpoint()),
            lambda: mutex.acquire("a"),
        ):
            with anyio.fail_after(1), pytest.raises(LockError, match="this very task.*or leave that block$"):
                await nested()
        async with mutex.lock("b"):
            pass
        assert await mutex.acquire("a", wait=0) is None, "who does not wait is told that it is busy"
    async with mutex.lock("a"):
        pass
    assert locks(client) == []


def test_a_thread_does_not_wait_for_itself(kit):
    mutex = Mutex("reports", wait=30, kit=kit).blocking
    asked = elapsed()
    with mutex.lock("a"):
        with pytest.raises(LockError, match="this very task"), mutex.lock("a"):
            pass
        with pytest.raises(LockError, match="this very task"):
            mutex.acquire("a")
        assert mutex.acquire("a", wait=0) is None
    assert elapsed() - asked < 5
    with mutex.lock("a"):
        pass


@pytest.mark.anyio
async def test_the_block_may_hand_over_to_a_child_that_outlives_it(kit):
    """A child task is another task, though it inherits the context."""
    mutex = Mutex("reports", wait=30, kit=kit)
    came = []

    async def child():
        async with mutex.lock("a"):
            came.append(1)

    async with anyio.create_task_group() as group, mutex.lock("a"):
        group.start_soon(child)
        await anyio.sleep(0.01)
    assert came == [1]


@pytest.mark.anyio
async def test_after_a_loss_one_may_wait_again(kit, client):
    mutex = Mutex("reports", ttl=0.9, kit=kit)
    with pytest.raises(LockLostError):
        async with mutex.lock("a") as lease:
            client.delete(the_lock(client))
            with anyio.CancelScope(shield=True):
                while not lease.lost:
                    await anyio.sleep(0.01)
                async with mutex.lock("a"):
                    pass


@pytest.mark.anyio
async def test_after_a_release_by_hand_one_may_lock_again(mutex):
    async with mutex.lock("a") as lease:
        await lease.release()
        async with mutex.lock("a"):
            pass


@pytest.mark.anyio
async def test_a_semaphore_may_be_taken_twice(kit):
    semaphore = Semaphore("downloads", 2, wait=0, kit=kit)
    async with semaphore.lock("a"), semaphore.lock("a"):
        assert await semaphore.acquire("a") is None


@pytest.mark.anyio
async def test_other_kits_and_mutexes_are_other_resources(kit, make_kit):
    other = make_kit()
    async with Mutex("reports", kit=kit).lock("a"), Mutex("mails", kit=kit).lock("a"):
        assert await Mutex("reports", wait=0, kit=other).acquire("a") is None
    await other.aclose()
