"""Guarded blocks keep their lease as long as they run, and no longer."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref

import anyio
import anyio.lowlevel
import pytest

import sync_kit.mutex.renewal as renewal
from sync_kit import Mutex, SyncKit
from sync_kit._io.renewal import renewals
from tests.mutex.tools import always, eventually, hog, locks, the_lock, wait_until

TTL = 0.9


@pytest.fixture
def short(kit):
    return Mutex("reports", ttl=TTL, wait=0, kit=kit)


@pytest.mark.anyio
async def test_a_block_keeps_its_lease_for_three_times_its_ttl(short, face, client):
    async with face(short).lock("a") as lease:
        key = the_lock(client)
        value = client.get(key)
        await always(lambda: client.get(key) == value, 3 * TTL)
        assert not lease.lost
        assert 0 < lease.expires_in <= TTL
    assert locks(client) == []


@pytest.mark.anyio
async def test_a_block_that_hogs_its_loop_keeps_its_lease(short, client):
    async with short.lock("a") as lease:
        key = the_lock(client)
        value = client.get(key)
        hog(3 * TTL, lambda: client.get(key) == value)
        await anyio.lowlevel.checkpoint()
        assert not lease.lost


@pytest.mark.anyio
async def test_a_hogged_loop_is_reported_once(short, caplog, monkeypatch):
    monkeypatch.setattr("sync_kit._io.loops.LATE", 0.5)
    async with short.lock("a"), short.lock("b"):
        hog(1.7, lambda: True)  # a loop beats every second
        await anyio.sleep(0.1)
    (record,) = [record for record in caplog.records if "did not run" in record.message]
    assert record.levelname == "WARNING"
    assert "'a' of mutex 'reports', 'b' of mutex 'reports'" in record.message


@pytest.mark.anyio
async def test_a_lease_that_is_made_shorter_is_renewed_sooner(kit, face, client):
    async with face(Mutex("reports", ttl=30, kit=kit)).lock("a") as lease:
        assert await face(lease).extend(TTL)
        key = the_lock(client)
        await always(lambda: client.exists(key), 2 * TTL)
        assert not lease.lost


@pytest.mark.anyio
async def test_an_acquired_lease_ends_by_itself_unless_it_is_renewed(short, face, client):
    lease = face(await face(short).acquire("a"))
    other = face(await face(short).acquire("b", renew=True))
    await eventually(lambda: len(locks(client)) == 1, TTL + 0.2)
    assert lease.expires_in == 0
    await always(lambda: len(locks(client)) == 1, TTL)
    assert await other.release()
    assert not await lease.release()
    assert locks(client) == []


@pytest.mark.anyio
async def test_one_thread_renews_all_with_one_call_a_mutex(kit, client):
    mutex = Mutex("reports", ttl=TTL, kit=kit)
    ended = anyio.Event()
    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(held, mutex, f"r{number}", ended)
        await eventually(lambda: len(locks(client)) == 40, 2)
        assert [thread.name for thread in threading.enumerate()].count("sync-kit-renewal") == 1
        before = calls(client)
        await always(lambda: True, 0.7)
        assert calls(client) - before <= 5, "two or three rounds, none of them 40 calls"
        ended.set()
    assert locks(client) == []


async def held(mutex, resource, ended):
    async with mutex.lock(resource):
        await ended.wait()


def calls(client):
    return client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]


@pytest.mark.anyio
async def test_a_loop_that_does_not_run_any_more_is_not_kept_alive(short, client, monkeypatch):
    """A deadlocked loop loses its leases; here it takes 0.2 s and one ttl instead of 60 s and one ttl."""
    monkeypatch.setattr(renewal, "DEAD_LOOP", 0.2)
    lease = await short.acquire("a", renew=True)
    wait_until(lambda: not locks(client), 3)
    await eventually(lambda: lease.lost, 1)
    await lease.release()


def test_who_comes_while_the_last_one_goes_is_renewed_all_the_same(short, kit, monkeypatch):
    """The renewal thread has seen that nothing is held; before it says so, somebody holds."""
    grant = short._grant("a", None)
    group = renewal.renewal_of(grant)

    class Slow:
        def add(self, renewable):
            renewals.add(renewable)

        def remove(self, renewable):
            if not group._grants:
                group.hold(grant)
            renewals.remove(renewable)

    monkeypatch.setattr(renewal, "renewals", Slow())
    group.renew()
    assert group in renewals._due
    group.drop(grant)


def test_two_event_loops_one_after_the_other(kit, client):
    mutex = Mutex("reports", ttl=TTL, wait=0, kit=kit)

    async def once():
        async with mutex.lock("a") as lease:
            await always(lambda: not lease.lost, TTL + 0.1)
        await kit.aclose()
        return lease.fence

    fences = [asyncio.run(once()) for _ in range(2)]
    assert fences[0] < fences[1]
    assert locks(client) == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_renew_the_leases_of_its_parent(short, client):
    lease = short.blocking.acquire("parent", renew=True)
    key = the_lock(client)
    go, gone = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(gone)
        code = 1
        try:
            mine = short.blocking.acquire("child", renew=True)
            os.read(go, 1)
            code = 0 if not mine.lost and mine.release() else 2
        finally:
            os._exit(code)
    os.close(go)
    try:
        wait_until(lambda: len(locks(client)) == 2, 5)
        renewal.renewal_of(lease._grant).drop(lease._grant)  # the parent stops; the child goes on with its own
        wait_until(lambda: not client.exists(key), 2 * TTL)
        assert len(locks(client)) == 1
    finally:
        os.close(gone)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    lease.release()


def test_a_kit_that_is_not_used_any_more_is_forgotten(server):
    kit = SyncKit(server.url, namespace="short-lived")
    with Mutex("reports", ttl=0.3, kit=kit).blocking.lock("a"):
        pass
    kit.close()
    seen = weakref.ref(kit)
    del kit
    wait_until(lambda: gc.collect() >= 0 and seen() is None, 2)


@pytest.mark.anyio
async def test_any_number_of_ttls_is_few_time_limits(kit):
    """Connections are kept by their time limit: were each ttl one of its own, they would grow without end."""
    async with Mutex("reports", ttl=60, kit=kit).lock("long"):
        assert len({renewal._patience(number / 997) for number in range(10_000)}) <= 21
