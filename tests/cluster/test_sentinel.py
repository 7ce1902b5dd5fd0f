"""The primary is where the sentinels say, also after it has died."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

from sync_kit import ConfigurationError, Jobs, Mutex, RateLimiter, SyncKit, Unavailable
from tests.io.tools import COUNT, ECHO, Caller, connections, named, until, within
from tests.jobs.conftest import status
from tests.support.cluster import SERVICE, Sentinel, Sentinels
from tests.support.servers import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(sentinels: Sentinels) -> Sentinels:
    return sentinels


async def test_a_failover_under_load_is_survived(own_sentinels, face, namespace):
    """Each check ends in time, in a decision or in Unavailable; everything recovers by itself."""
    async with SyncKit(f"{own_sentinels.url}?socket_connect_timeout=0.6", namespace=namespace) as kit:
        limiter = RateLimiter("api", limit=1_000_000, window=60, kit=kit)
        mutex = Mutex("reports", wait=0, ttl=1, kit=kit)
        outcomes: list[type] = []
        ended = anyio.Event()

        async def ask() -> None:
            while not ended.is_set():
                with within(1.2):  # the deadline, the limit for connecting, and some turns of a busy loop
                    try:
                        outcomes.append(type(await face(limiter).check("user")))
                    except Unavailable:
                        outcomes.append(Unavailable)
                await anyio.sleep(0.005)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
            await until(lambda: len(outcomes) > 20)
            assert Unavailable not in outcomes
            old = await anyio.to_thread.run_sync(own_sentinels.kill_primary)
            await until(lambda: Unavailable in outcomes)
            await anyio.to_thread.run_sync(own_sentinels.wait_for_failover, old)
            outcomes.clear()
            await until(lambda: any(each is not Unavailable for each in outcomes))
            outcomes.clear()
            await until(lambda: len(outcomes) > 20)
            ended.set()
        assert Unavailable not in outcomes
        async with face(mutex).lock("report:7") as lease:
            assert lease.fence >= 1
    await anyio.to_thread.run_sync(kit.close)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
async def test_jobs_that_were_sent_before_a_failover_are_all_run(own_sentinels, namespace):
    runs: list[str] = []
    async with SyncKit(own_sentinels.url, namespace=namespace) as kit:
        jobs = Jobs("notes", kit=kit)

        @jobs.task(schema=str)
        async def note(text: str) -> None:
            runs.append(text)

        async with jobs.worker(concurrency=4):
            first = await note.send("connected")
            await status(jobs, first.id, "completed")
            sent = await note.using(delay=1.0).send_many([f"job {number}" for number in range(20)])
            old = await anyio.to_thread.run_sync(own_sentinels.kill_primary)  # once the replica has them
            await anyio.to_thread.run_sync(own_sentinels.wait_for_failover, old)
            await until(lambda: len(set(runs)) == 21, 20)
            for receipt in sent:
                await status(jobs, receipt.id, "completed")
    await anyio.to_thread.run_sync(kit.close)


async def test_a_primary_that_became_a_replica_is_left_at_once(own_sentinels, face, namespace):
    """Its READONLY means that nothing happened: the very call is carried out on the new primary, once."""
    sentinels = own_sentinels
    async with SyncKit(named(sentinels.url, namespace), namespace=namespace) as kit:
        caller = face(Caller(kit))
        assert await caller.call(COUNT, 1) == [b"ok"]
        assert await caller.pop("{nothing}", 0.001) is None
        old, new = sentinels.primary, sentinels.replica
        sentinels.replicate(old)
        sentinels.switch(new)
        assert connections(sentinels.client(old), namespace), "still connected to the old one"

        async def count() -> None:
            await caller.call(COUNT, 1)

        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(count)
        assert sentinels.ask(new, "GET", "{t}") == b"41"
        assert await caller.pop("{nothing}", 0.001) is None
        await until(lambda: not connections(sentinels.client(old), namespace))
    await anyio.to_thread.run_sync(kit.close)


async def test_a_replica_that_is_taken_for_the_primary_is_refused(place, face, namespace):
    """As right after a failover, when sentinels are not up to date."""
    for sentinel in place.sentinels:
        place.ask(sentinel, "SENTINEL", "MONITOR", "wrong", "127.0.0.1", place.replica.port, 2)
    try:
        async with SyncKit(place.url.replace(SERVICE, "wrong"), namespace=namespace) as kit:
            with pytest.raises(Unavailable, match="not, or no longer, a primary"):
                await face(Caller(kit)).say("x")
    finally:
        for sentinel in place.sentinels:
            place.ask(sentinel, "SENTINEL", "REMOVE", "wrong")


async def test_a_service_that_no_sentinel_knows(place, face, namespace):
    async with SyncKit(place.url.replace(SERVICE, "nobody"), namespace=namespace) as kit:
        with pytest.raises(Unavailable, match="nobody has an answer to SENTINEL GET-MASTER-ADDR-BY-NAME nobody"):
            await face(Caller(kit)).say("x")


async def test_without_any_sentinel_calls_end_in_time(face, namespace):
    hosts = ",".join(f"127.0.0.1:{free_port()}" for _ in range(3))
    async with SyncKit(f"redis+sentinel://{hosts}/{SERVICE}", namespace=namespace) as kit:
        with within(1), pytest.raises(Unavailable, match=f"{hosts}/{SERVICE}/0 is not reachable"):
            await face(Caller(kit)).say("x")


async def test_a_deaf_sentinel_is_passed_over_and_asked_last_from_then_on(place, face, namespace):
    first = place.sentinels[0]
    async with SyncKit(f"{place.url}?socket_connect_timeout=1", namespace=namespace) as kit:
        caller = face(Caller(kit, deadline=1.0))
        first.pause()
        try:
            with within(2):
                assert await caller.say("x") == "x"
            await kit.aclose()
            await anyio.to_thread.run_sync(kit.close)
            with within(0.25):  # a quarter of a second is what the deaf one had
                assert await caller.say("y") == "y"
        finally:
            first.resume()
    await anyio.to_thread.run_sync(kit.close)


@pytest.mark.parametrize("library", [redis.sentinel, redis.asyncio.sentinel], ids=["sync", "async"])
async def test_the_settings_of_a_sentinels_client_are_taken_over(place, face, namespace, library):
    hosts = [("127.0.0.1", sentinel.port) for sentinel in place.sentinels]
    manager = library.Sentinel(hosts, client_name=namespace)
    async with SyncKit(client=manager.master_for(SERVICE, db=2), namespace=namespace) as kit:
        assert f"/{SERVICE}/2 " in repr(kit)
        assert await face(Caller(kit)).call(ECHO, "x") == [b"ok", b"x"]
        mine: list[Any] = [each for each in place.clients()[0].client_list() if each["name"] == namespace]
        assert {each["db"] for each in mine} == {"2"}
    with pytest.raises(ConfigurationError, match="master_for"):
        SyncKit(client=manager.slave_for(SERVICE))


async def test_sentinels_have_a_login_of_their_own(place, face, namespace, pytestconfig):
    guarded = Sentinel(pytestconfig.getoption("server"), place.primary, password="s3cret")
    with guarded:
        place_of = f"127.0.0.1:{guarded.port}/{SERVICE}"
        async with SyncKit(f"valkey+sentinel://{place_of}?sentinel_password=s3cret", namespace=namespace) as kit:
            assert await face(Caller(kit)).say("x") == "x"
            assert "s3cret" not in repr(kit)
        for query in ("?sentinel_password=wrong", ""):
            async with SyncKit(f"redis+sentinel://{place_of}{query}", namespace=namespace) as kit:
                with pytest.raises(Unavailable, match="refused the login"):
                    await face(Caller(kit)).say("x")
