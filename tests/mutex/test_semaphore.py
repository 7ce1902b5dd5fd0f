"""A semaphore: at most `permits` live leases, everything else as with a mutex."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_kit import ConfigurationError, LockError, LockLostError, Mutex, Semaphore
from tests.mutex.tools import eventually, locks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def semaphore(kit):
    """Three permits, and nobody waits."""
    return Semaphore("downloads", 3, wait=0, kit=kit)


@pytest.mark.anyio
async def test_at_most_that_many_hold_it(semaphore, face, client):
    leases = [await face(semaphore).acquire("a") for _ in range(3)]
    assert await face(semaphore).acquire("a") is None
    with pytest.raises(LockError, match="of semaphore 'downloads'"):
        await face(semaphore).with_lock_or_raise("a", print)
    assert len(locks(client)) == 3
    assert len({lease.fence for lease in leases}) == 3
    assert await face(leases[1]).release()
    assert not await face(leases[1]).release()
    again = await face(semaphore).acquire("a")
    assert again.fence > leases[2].fence
    for lease in (leases[0], leases[2], again):
        assert await face(lease).extend(5)
        assert await face(lease).release()
    assert locks(client) == []


@pytest.mark.anyio
async def test_at_most_that_many_of_many_tasks_are_inside(kit, face):
    semaphore = Semaphore("downloads", 3, wait=30, kit=kit)
    inside, most = 0, 0

    async def section():
        nonlocal inside, most
        for _ in range(5):
            async with face(semaphore).lock("a"):
                inside += 1
                most = max(most, inside)
                await anyio.sleep(0.005)
                inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(section)
    assert (inside, most) == (0, 3)


@pytest.mark.anyio
async def test_two_releases_at_once_call_two_waiters(kit, face, client):
    semaphore = Semaphore("downloads", 2, wait=10, kit=kit)
    held = [await semaphore.acquire("a") for _ in range(2)]
    together = anyio.Event()
    came = 0

    async def wait():
        nonlocal came
        async with face(semaphore).lock("a"):
            came += 1
            if came == 2:
                together.set()
            await together.wait()

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(wait)
        await eventually(lambda: sum(client.llen(key) for key in client.keys("*:line:*")) == 2, 2)
        async with anyio.create_task_group() as releases:
            for lease in held:
                assert lease is not None
                releases.start_soon(lease.release)
        with anyio.fail_after(0.8):  # sooner than a beat finds it out
            await together.wait()


@pytest.mark.anyio
async def test_a_repeated_acquire_finds_its_own_permit(semaphore, client):
    """The reply was lost: the same token is asked for again."""
    from sync_kit.mutex.grant import ask_flow

    grant = semaphore._grant("a", None)
    assert await semaphore.kit.driver.run(ask_flow(grant)) is None
    fence, key = grant.fence, grant.lock_key
    assert await semaphore.kit.driver.run(ask_flow(grant)) is None
    assert (grant.fence, grant.lock_key) == (fence, key)
    assert locks(client) == [key]


@pytest.mark.anyio
async def test_a_lost_permit_cancels_its_block_only(kit, client):
    semaphore = Semaphore("downloads", 2, ttl=0.9, kit=kit)
    ended: list[int] = []

    async def other():
        async with semaphore.lock("a"):
            await eventually(lambda: ended, 5)

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await eventually(lambda: len(locks(client)) == 1, 2)
        with pytest.raises(LockLostError, match="of semaphore"):
            async with semaphore.lock("a") as lease:
                client.delete(lease._grant.lock_key)
                await anyio.sleep_forever()
        ended.append(1)


@pytest.mark.anyio
async def test_holders_are_told_in_the_order_in_which_they_came(semaphore, face):
    leases = [await face(semaphore).acquire("a") for _ in range(3)]
    await face(leases[0]).release()
    leases.append(await face(semaphore).acquire("a"))
    holders = await face(semaphore).holders("a")
    assert [holder.fence for holder in holders] == [lease.fence for lease in leases[1:]]
    assert (await face(semaphore).holder("a")).fence == leases[1].fence
    assert await face(semaphore).break_lock("a", fence=leases[2].fence)
    assert [holder.fence for holder in await face(semaphore).holders("a")] == [leases[1].fence, leases[3].fence]
    assert await face(semaphore).break_lock("a")
    assert await face(semaphore).holders("a") == ()


def test_it_shares_nothing_with_a_mutex_of_the_same_name(kit):
    semaphore, mutex = Semaphore("downloads", 1, wait=0, kit=kit), Mutex("downloads", wait=0, kit=kit)
    with semaphore.blocking.lock("a"), mutex.blocking.lock("a"):
        assert semaphore.blocking.acquire("a") is None


@pytest.mark.parametrize("permits", [0, -1, 101, True, 2.5, "3", None])
def test_a_wrong_number_of_permits_is_refused(permits):
    with pytest.raises(ConfigurationError, match="permits"):
        Semaphore("downloads", permits)


def test_processes_that_disagree_have_the_largest_number_in_common(kit):
    """A deploy from 1 to 3, or back."""
    one, three = (Semaphore("downloads", permits, wait=0, kit=kit).blocking for permits in (1, 3))
    leases = [one.acquire("a")]
    assert one.acquire("a") is None
    leases += [three.acquire("a"), three.acquire("a")]
    assert three.acquire("a") is None
    assert len(three.holders("a")) == 3
    for lease in leases:
        assert lease is not None
        assert lease.release()


def test_a_repr_names_it():
    assert repr(Semaphore("downloads", 3, ttl=5)) == "<Semaphore 'downloads' permits=3 ttl=5>"


STEPS = st.lists(st.tuples(st.sampled_from(["acquire", "release", "expire"]), st.integers(0, 5)), max_size=30)


@given(permits=st.integers(1, 4), steps=STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_behaves_like_a_set_of_leases(kit, client, permits, steps):
    """Model-based: as many leases as permits, whatever was acquired, released and expired before."""
    semaphore = Semaphore(f"model-{permits}", permits, wait=0, kit=kit)
    semaphore.blocking.break_lock("a")
    live: list[Any] = []
    highest = 0
    for step, which in steps:
        if step == "acquire":
            lease = semaphore.blocking.acquire("a")
            assert (lease is not None) == (len(live) < permits)
            if lease:
                assert lease.fence > highest
                highest = lease.fence
                live.append(lease)
        elif live:
            lease = live.pop(which % len(live))
            if step == "expire":
                client.delete(lease._grant.lock_key)
            assert lease.release() == (step == "release")
            assert not lease.extend()
    assert {holder.fence for holder in semaphore.blocking.holders("a")} == {lease.fence for lease in live}


CHILD = """
import sys, time
from sync_kit import Semaphore, SyncKit

url, namespace, server = sys.argv[1:]
semaphore = Semaphore("downloads", 2, wait=30, ttl=2, kit=SyncKit(url, namespace=namespace)).blocking
import redis
count = redis.Redis.from_url(url)
for _ in range(8):
    with semaphore.lock("a"):
        assert count.incr("inside") <= 2
        time.sleep(0.003)
        count.decr("inside")
"""


def test_at_most_that_many_of_many_processes_are_inside(server, namespace, client):
    command = [sys.executable, "-c", CHILD, server.url, namespace, "x"]
    children = [subprocess.Popen(command, cwd=ROOT) for _ in range(5)]
    assert [child.wait(40) for child in children] == [0] * 5
    assert client.get("inside") == b"0"
    client.delete("inside")
