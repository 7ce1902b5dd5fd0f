"""At most one holder, among tasks, threads and processes; every holder has a higher fence."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

from sync_kit import ConfigurationError, Mutex
from tests.support.ticks import elapsed

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.anyio
async def test_at_most_one_of_many_tasks_is_inside(kit, face, history):
    mutex = face(Mutex("reports", wait=30, kit=kit))

    async def section():
        async with mutex.lock("a") as lease:
            history.note("enter", lease.fence)
            await anyio.sleep(0.001)
            history.note("exit", lease.fence)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(section)
    history.check(8)


CHILD = """
import asyncio, sys, time
import redis
from sync_kit import Mutex, SyncKit
from tests.mutex.tools import History

url, namespace, how = sys.argv[1:]
kit = SyncKit(url, namespace=namespace)
mutex = Mutex("reports", wait=30, ttl=2, kit=kit)
history = History(redis.Redis.from_url(url))

def inside(lease):
    history.note("enter", lease.fence)
    time.sleep(0.002)
    history.note("exit", lease.fence)

async def tasks():
    async def section():
        async with mutex.lock("a") as lease:
            inside(lease)
    await asyncio.gather(*(section() for _ in range(6)))
    await kit.aclose()

print("ready", flush=True)
sys.stdin.readline()
if how == "async":
    asyncio.run(tasks())
else:
    for _ in range(6):
        mutex.blocking.with_lock_or_raise("a", inside)
"""


def test_at_most_one_of_many_processes_is_inside(server, namespace, history):
    command = [sys.executable, "-c", CHILD, server.url, namespace]
    children = [
        subprocess.Popen([*command, how], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for how in ("async", "blocking", "async", "blocking")
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.communicate("go\n", timeout=40)
    assert [child.returncode for child in children] == [0, 0, 0, 0]
    history.check(24)


def test_threads_may_share_a_blocking_mutex(kit, history):
    mutex = Mutex("reports", wait=30, kit=kit).blocking

    def section():
        for _ in range(3):
            with mutex.lock("a") as lease:
                history.note("enter", lease.fence)
                history.note("exit", lease.fence)

    threads = [threading.Thread(target=section) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    history.check(18)


@pytest.mark.anyio
async def test_a_lock_of_one_call_cannot_be_entered_twice(mutex):
    """It is one token: two tasks inside would both be its holder."""
    guard = mutex.lock("a")
    async with guard:
        with pytest.raises(ConfigurationError, match="call lock"):
            await guard.__aenter__()
    with pytest.raises(ConfigurationError, match="call lock"):
        await guard.__aenter__()


def test_a_blocking_lock_of_one_call_cannot_be_entered_twice(mutex):
    guard = mutex.blocking.lock("a")
    with guard, pytest.raises(ConfigurationError, match="call lock"):
        guard.__enter__()
    with pytest.raises(ConfigurationError, match="call lock"), guard:
        pass


@pytest.mark.anyio
async def test_resources_and_mutexes_do_not_wait_for_each_other(kit, mutex, face, client):
    async with face(mutex).lock("a"), face(mutex).lock("b"), face(Mutex("mails", wait=0, kit=kit)).lock("a"):
        keys = [str(key, "ascii") for key in client.keys("*:mx:*")]
    tags = {key[key.index("{") + 1 : key.index("}")] for key in keys}
    assert len(keys) == 5, "three leases, and a fence for each mutex"
    assert tags == {"reports", "mails"}


@pytest.mark.anyio
async def test_fences_only_grow_over_all_resources(mutex, face):
    fences = []
    for resource in ("a", "b", "a", "c", "a"):
        async with face(mutex).lock(resource) as lease:
            fences.append(lease.fence)
    assert fences == sorted(set(fences))


@pytest.mark.anyio
async def test_who_waits_comes_in_soon_after_a_dead_holder_expires(kit, face):
    mutex = face(Mutex("reports", ttl=0.2, kit=kit))
    asked, began = time.monotonic(), elapsed()
    await mutex.acquire("a")  # and never renewed: as if its process had died
    async with mutex.lock("a", wait=2):
        assert time.monotonic() - asked > 0.19
        assert elapsed() - began < 0.2 + 0.25 + 0.2


@pytest.mark.anyio
async def test_who_waits_comes_in_soon_after_a_release(mutex, face):
    first = face(await face(mutex).acquire("a"))
    entered = []

    async def wait():
        async with face(mutex).lock("a", wait=5):
            entered.append(elapsed())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(0.05)
        assert entered == []
        released = elapsed()
        await first.release()
    assert entered[0] - released < 0.25 + 0.2


@pytest.mark.anyio
@pytest.mark.parametrize("resource", ["a" * 1_000_000, "nul\0", "\ud800", "a:b", "{a}", " a", "ü" * 200])
async def test_strange_resources_are_resources(mutex, face, resource, client):
    async with face(mutex).lock(resource) as lease:
        assert lease.resource == resource
        async with face(mutex).lock("a"):
            assert await face(mutex).acquire(resource) is None
    assert max(len(key) for key in client.keys("*")) < 700
