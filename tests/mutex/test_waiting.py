"""Who waits stands in a line, in order of arrival, and is called when it is its turn."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from sync_kit import LockError, Mutex, SyncKit, Unavailable
from sync_kit.inbox import Seat
from sync_kit.mutex.grant import BEAT
from tests.io.tools import connections, named, run_program
from tests.mutex.tools import always, eventually, locks
from tests.support.chaos import cancel_points
from tests.support.ticks import elapsed

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
LIVENESS = 3.0


two_modes = pytest.mark.parametrize("anyio_backend", ["asyncio", "blocking"], indirect=True)
"""For what takes its time and is the same for all loops."""


def waiting(client):
    """How many stand in all lines."""
    return sum(client.llen(key) for key in client.keys("*:line:*"))


def blocked(client):
    """How many connections wait in a blocking read."""
    return client.info("clients")["blocked_clients"]


def stand(client, number):
    return waiting(client) == number


def scripts_called(client):
    """How many scripts and blocking reads the server was sent."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval", "blpop"))


async def taken(mutex):
    """A lease on "a" that lasts as long as the test."""
    lease = await mutex.acquire("a", ttl=60)
    assert lease is not None
    return lease


@pytest.fixture
def pods(make_kit):
    """`pods(n)` are mutexes of n kits: to Redis they are n processes."""
    kits: list[SyncKit] = []

    def make(count, **options):
        kits.extend(made := [make_kit() for _ in range(count)])
        return [Mutex("reports", kit=kit, **options) for kit in made]

    yield make
    for kit in kits:
        kit.close()


@pytest.fixture
async def close(pods):
    """Closes the pods' kits on this loop."""
    opened: list[Mutex] = []
    yield opened.extend
    for mutex in opened:
        await mutex.kit.aclose()


async def test_they_come_in_in_order_of_arrival(mutex, face, client):
    came, held = [], await taken(mutex)

    async def wait(number):
        async with face(mutex).lock("a", wait=20):
            came.append(number)

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(wait, number)
            await eventually(functools.partial(stand, client, number + 1), 2)
        await held.release()
    assert came == list(range(12))
    assert locks(client) == []


async def test_order_of_arrival_counts_between_processes_too(pods, close, client):
    mutexes = pods(4, wait=20)
    close(mutexes)
    came, held = [], await taken(mutexes[0])

    async def wait(number):
        async with mutexes[number % 4].lock("a"):
            came.append(number)

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(wait, number)
            await eventually(functools.partial(stand, client, number + 1), 2)
        await held.release()
    assert came == list(range(12))


async def test_nobody_passes_those_who_wait(mutex, face, client):
    """Who comes when the resource is free, but promised, is told so."""
    held = await taken(mutex)
    async with anyio.create_task_group() as group:
        with nobody_is_called():
            group.start_soon(hold_for_a_moment, mutex)
            await eventually(lambda: waiting(client) == 1, 2)
            await held.release()
            with pytest.raises(LockError, match="the next in line"):
                await face(mutex).with_lock_or_raise("a", print)
            assert await face(mutex).acquire("a") is None


@contextmanager
def nobody_is_called():
    """Meanwhile calls are lost on the way to their waiters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Seat, "call", lambda seat: None)
        yield


async def hold_for_a_moment(mutex):
    async with mutex.lock("a", wait=20):
        await anyio.sleep(0.001)


async def test_a_lost_call_costs_at_most_a_beat(mutex, face, client):
    held = await taken(mutex)
    entered = []

    async def wait():
        async with face(mutex).lock("a", wait=20):
            entered.append(elapsed())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await eventually(lambda: waiting(client) == 1, 2)
        with nobody_is_called():
            await held.release()
            released = elapsed()
            await eventually(lambda: not client.keys("*:lock:*"), 1)
            await always(lambda: not entered, 0.2)
    assert entered[0] - released < 1 + 0.5


async def test_a_call_is_fast(mutex, face, client):
    """Woken by the release, not by the beat."""
    held = await taken(mutex)
    entered = []

    async def wait():
        async with face(mutex).lock("a", wait=20):
            entered.append(elapsed())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await eventually(lambda: waiting(client) == 1, 2)
        await anyio.sleep(1.3)  # a beat has passed
        await held.release()
        released = elapsed()
    assert entered[0] - released < 0.3


CHILD = """
import asyncio, sys
from sync_kit import Mutex, SyncKit

url, namespace = sys.argv[1:]
mutex = Mutex("reports", wait=60, kit=SyncKit(url, namespace=namespace))
asyncio.run(mutex.with_lock("a", lambda: asyncio.sleep(60)))
"""


HUNG = """
import anyio, sys, time
from sync_kit import Mutex, SyncKit

url, namespace, backend = sys.argv[1:]
mutex = Mutex("reports", wait=60, kit=SyncKit(url, namespace=namespace))

async def main():
    async with anyio.create_task_group() as group:
        group.start_soon(mutex.acquire, "a")
        while not await mutex.holder("a") or not (await mutex.holder("a")).waiters:
            await anyio.sleep(0.01)
        await anyio.sleep(1.2)
        print("hung", flush=True)
        time.sleep(60)

anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize(
    ("backend", "liveness"), [("asyncio", LIVENESS), ("trio", LIVENESS + 2)], ids=["asyncio", "trio"]
)
async def test_a_waiter_whose_loop_hangs_is_passed_over(mutex, server, namespace, client, backend, liveness):
    held = await taken(mutex)
    command = [sys.executable, "-c", HUNG, server.url, namespace, backend]
    child = await anyio.to_thread.run_sync(lambda: subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
    try:
        assert child.stdout is not None
        assert await anyio.to_thread.run_sync(child.stdout.readline) == b"hung\n"
        hung = elapsed()
        async with anyio.create_task_group() as group:
            group.start_soon(hold_for_a_moment, mutex)
            await eventually(lambda: waiting(client) == 2, 2)
            await held.release()
        assert elapsed() - hung < liveness + 0.5
    finally:
        child.kill()
        await anyio.to_thread.run_sync(child.communicate)


async def a_waiting_process(server, namespace, client):
    command = [sys.executable, "-c", CHILD, server.url, namespace]
    child = await anyio.to_thread.run_sync(lambda: subprocess.Popen(command, cwd=ROOT))
    await eventually(lambda: waiting(client) == 1, 20)
    return child


@two_modes
async def test_a_dead_waiter_at_the_head_costs_at_most_its_liveness(mutex, server, namespace, client, face):
    held = await taken(mutex)
    child = await a_waiting_process(server, namespace, client)
    entered = []

    async def wait():
        async with face(mutex).lock("a", wait=20):
            entered.append(elapsed())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await eventually(lambda: waiting(client) == 2, 2)
        child.kill()
        died = elapsed()
        await anyio.to_thread.run_sync(child.wait)
        await held.release()
    assert entered[0] - died < LIVENESS + 0.5
    await eventually(lambda: locks(client) == [], LIVENESS + 0.5)


async def test_several_dead_waiters_cost_no_more_than_one(mutex, face, client):
    """Who releases passes over those who are known to be dead, wherever they stand."""
    held = await taken(mutex)
    entered = []

    async def wait():
        async with face(mutex).lock("a", wait=20):
            entered.append(elapsed())

    async with anyio.create_task_group() as group:
        for number in range(1, 5):
            group.start_soon(wait)
            await eventually(functools.partial(stand, client, 2 * number - 1), 2)
            client.rpush(client.keys("*:line:*")[0], f"dead{number} nowhere")
        await held.release()
        released = elapsed()
    assert entered[-1] - released < 0.5
    await eventually(lambda: waiting(client) == 0, LIVENESS + 0.5)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_line_of_dead_waiters_is_forgotten(mutex, server, namespace, client):
    """Nobody is left to say who is alive: the line expires."""
    held = await taken(mutex)
    child = await a_waiting_process(server, namespace, client)
    child.kill()
    await anyio.to_thread.run_sync(child.wait)
    await held.release()
    assert await mutex.acquire("a") is None, "the dead waiter is next"
    await eventually(lambda: locks(client) == [], LIVENESS + 0.5)
    assert await mutex.acquire("a", ttl=0.1)


@two_modes
async def test_a_dead_waiter_does_not_block_those_who_wait_for_a_moment_only(mutex, face, server, namespace, client):
    """None of them waits long enough for a beat."""
    held = await taken(mutex)
    child = await a_waiting_process(server, namespace, client)
    child.kill()
    await anyio.to_thread.run_sync(child.wait)
    await held.release()
    died = elapsed()
    while not await face(mutex).acquire("a", wait=0.2, ttl=0.1):
        assert elapsed() - died < LIVENESS + 0.5


async def test_a_crowd_of_dead_waiters_costs_no_more_than_one(mutex, client):
    held = await taken(mutex)
    died = elapsed()
    client.rpush(held._grant.keys.line, *[f"dead{number} inbox{{reports}}" for number in range(1500)])
    client.pexpire(held._grant.keys.line, 3000)
    async with anyio.create_task_group() as group:
        group.start_soon(hold_for_a_moment, mutex)
        await eventually(lambda: waiting(client) < 1500, 2)
        await held.release()
    assert elapsed() - died < LIVENESS + 0.5


async def test_a_line_that_was_lost_is_joined_again(mutex, face, client):
    """The server has evicted it, or its waiters stood still for too long; others of the mutex are in other lines."""
    held = await taken(mutex)
    other = await mutex.acquire("b", ttl=60)
    came = []

    async def wait(resource):
        async with face(mutex).lock(resource, wait=20):
            came.append(resource)

    async with anyio.create_task_group() as group:
        for resource in ("a", "a", "b"):
            group.start_soon(wait, resource)
        await eventually(lambda: waiting(client) == 3, 2)
        client.delete(held._grant.keys.line)
        await eventually(lambda: waiting(client) == 3, 2.5)
        await held.release()
        await eventually(lambda: came == ["a", "a"], 1)
        await other.release()


async def test_nothing_of_the_dead_stays_while_others_wait(mutex, client):
    alive = mutex._grant("a", None).site.alive_key
    held = await taken(mutex)
    async with anyio.create_task_group() as group:
        group.start_soon(hold_for_a_moment, mutex)
        await eventually(lambda: waiting(client) == 1, 2)
        seconds, _ = client.time()
        client.zadd(alive, {f"dead{number}": seconds * 1000 - number for number in range(500)})
        await eventually(lambda: client.zcard(alive) == 1, 2.5)
        await held.release()


async def test_a_server_clock_that_steps_back_keeps_no_dead_waiter_alive(mutex, client):
    """What was heard of it is an hour ahead now."""
    keys = mutex._grant("a", None).keys
    held = await taken(mutex)
    client.rpush(keys.line, "dead inbox{reports}")
    client.zadd(mutex._grant("a", None).site.alive_key, {"dead": (client.time()[0] + 3600) * 1000})
    async with anyio.create_task_group() as group:
        group.start_soon(hold_for_a_moment, mutex)
        await eventually(lambda: waiting(client) >= 1, 2)
        await held.release()
        released = elapsed()
    assert elapsed() - released < LIVENESS


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_all_of_many_waiters_keep_their_places_by_signs_of_life_alone(mutex, client):
    held = await taken(mutex)
    async with anyio.create_task_group() as group:
        for _ in range(250):
            group.start_soon(hold_for_a_moment, mutex)
        await eventually(lambda: waiting(client) == 250, 5)
        line = client.lrange(held._grant.keys.line, 0, -1)
        await always(lambda: client.lrange(held._grant.keys.line, 0, -1) == line, 4.5)
        group.cancel_scope.cancel()
    assert await held.release()


async def test_waiters_of_all_mutexes_share_one_inbox(own_server, namespace):
    server = own_server()
    async with SyncKit(named(server.url, namespace), namespace=namespace) as kit:
        mutexes = [Mutex(f"reports{number}", wait=20, kit=kit) for number in range(20)]
        held = [await mutex.acquire("a", ttl=60) for mutex in mutexes]
        async with anyio.create_task_group() as group:
            for mutex in mutexes:
                group.start_soon(hold_for_a_moment, mutex)
            await eventually(lambda: waiting(server.client()) == 20, 5)
            await eventually(lambda: blocked(server.client()) == 1, 2)
            await always(lambda: blocked(server.client()) <= 1, 0.5)
            for lease in held:
                assert lease is not None
                await lease.release()
    await anyio.to_thread.run_sync(kit.close)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 brought eager tasks")
def test_eager_tasks_wait_too(server, namespace):
    assert run_program(EAGER, server.url, namespace) == "done"


EAGER = """
from sync_kit import Mutex

async def main():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with SyncKit(sys.argv[1], namespace=sys.argv[2]) as kit:
        mutex = Mutex("reports", wait=10, kit=kit)
        held = await mutex.acquire("a")
        waiter = asyncio.create_task(mutex.with_lock("a", lambda: asyncio.sleep(0, "done")))
        await asyncio.sleep(0.1)
        await held.release()
        print(await waiter)

asyncio.run(main())
"""


def test_a_thread_that_could_not_be_started_is_started_by_the_next_waiter(mutex, monkeypatch):
    started = threading.Thread.start
    held = mutex.blocking.acquire("a", ttl=60)

    def fail(thread):
        monkeypatch.setattr(threading.Thread, "start", started)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="new thread"):
        mutex.blocking.acquire("a", wait=5)
    waiter = threading.Thread(target=mutex.blocking.with_lock, args=("a", lambda: None), kwargs={"wait": 10})
    waiter.start()
    while mutex.blocking.holder("a").waiters < 1:
        time.sleep(0.01)
    held.release()
    released = elapsed()
    waiter.join(5)
    assert elapsed() - released < 1


async def test_the_wait_ends_in_time_and_leaves_no_place(mutex, face, client):
    held = await taken(mutex)
    asked, began = elapsed(), time.monotonic()
    with pytest.raises(LockError):
        await face(mutex).with_lock_or_raise("a", print, wait=0.3)
    assert time.monotonic() - began > 0.2
    assert elapsed() - asked < 0.3 + 0.3
    assert [key for key in client.keys("*:mx:*") if b":lock:" not in key and b":fence" not in key] == []
    assert await held.release()


@pytest.mark.parametrize("edge", [False, True], ids=["scope", "task"])
async def test_cancelled_at_any_await_neither_key_nor_place_is_left(mutex, client, edge, anyio_backend_name):
    """300 rounds: the waiter, or the one that it waits for, is cancelled at every await in turn."""
    if edge and anyio_backend_name == "trio":
        pytest.skip("trio has no other cancellation than a scope's")
    rounds = 0

    async def contend():
        async with mutex.lock("a", wait=20):
            await anyio.sleep(0.001)

    async def beside_another():
        async with anyio.create_task_group() as group:
            group.start_soon(hold_for_a_moment, mutex)
            await anyio.lowlevel.checkpoint()
            await contend()

    async def nothing_is_left(point):
        nonlocal rounds
        rounds += 1
        assert [key for key in locks(client) if ":inbox:" not in key] == [], f"cancelled at await {point}"

    while rounds < 300:
        await cancel_points(beside_another, nothing_is_left, edge=edge)
    await eventually(lambda: locks(client) == [], 4)


async def test_who_leaves_the_line_when_it_was_called_calls_the_next(mutex, client):
    """Cancelled between the call and the answer: its turn goes on to the one behind it."""
    held = await taken(mutex)
    entered = []

    async def wait():
        async with mutex.lock("a", wait=20):
            entered.append(elapsed())

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as first:
            async with anyio.create_task_group() as ahead:
                with nobody_is_called():
                    ahead.start_soon(hold_for_a_moment, mutex)
                    await eventually(lambda: waiting(client) == 1, 2)
                    group.start_soon(wait)
                    await eventually(lambda: waiting(client) == 2, 2)
                    await held.release()
                    await anyio.sleep(0.05)
                left = elapsed()
                first.cancel()
    assert entered[0] - left < 0.5


async def test_nobody_starves(mutex, face, client):
    """16 tasks, 400 acquisitions: the longest wait stays within 3 times the mean."""
    waits, holding = [], 0

    async def contend():
        nonlocal holding
        for _ in range(25):
            asked = elapsed()
            async with face(mutex).lock("a", wait=50):
                waits.append(elapsed() - asked)
                holding += 1
                assert holding == 1
                await anyio.sleep(0.001)
                holding -= 1

    async with anyio.create_task_group() as group:
        for _ in range(16):
            group.start_soon(contend)
    assert len(waits) == 400
    assert max(waits) <= 3 * sum(waits) / 400


@two_modes
async def test_merely_waiting_sends_nothing_for_a_second(own_server, face, namespace):
    server = own_server()
    client, kit = server.client(), SyncKit(server.url, namespace=namespace)
    mutex = Mutex("reports", kit=kit)
    held = await taken(mutex)
    async with anyio.create_task_group() as group:
        group.start_soon(with_lock, face(mutex))
        await eventually(lambda: waiting(client) == 1, 2)
        await eventually(lambda: blocked(client) == 1, 2)
        before, began = scripts_called(client), time.monotonic()
        for seconds in (0.7, 2.3):
            await anyio.sleep(seconds)
            called = scripts_called(client) - before
            assert called <= 2 * int(time.monotonic() - began), "a read and a sign of life each second"
        await held.release()
    await kit.aclose()
    await anyio.to_thread.run_sync(kit.close)


async def with_lock(mutex):
    async with mutex.lock("a", wait=20):
        pass


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_a_thousand_waiters_share_two_connections(server, namespace, own_server):
    """One for the calls of everybody, one for the inbox; a release goes past all who wait."""
    server = own_server()
    client = server.client()
    async with SyncKit(server.url, namespace=namespace) as kit:
        mutex = Mutex("reports", wait=50, kit=kit)
        held = await taken(mutex)
        entered = []

        async def wait(number):
            async with mutex.lock("a"):
                entered.append(number)

        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(wait, number)
            await eventually(lambda: waiting(client) == 1000, 20)
            others = [one for one in client.client_list() if one["cmd"] not in ("client|list", "client")]
            assert len(others) <= 3, "the third one is the renewal thread's"
            asked = elapsed()
            assert await held.release()
            assert elapsed() - asked < 0.5
        assert entered == list(range(1000))


class Inside:
    """Counts who is inside at the same time."""

    def __init__(self):
        self.now = self.most = self.sections = 0

    def note(self):
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.001)
        self.now -= 1
        self.sections += 1


def sections_of_a_thread(mutex, inside):
    for _ in range(5):
        with mutex.blocking.lock("a", wait=30):
            inside.note()


async def sections_of_a_task(mutex, inside):
    for _ in range(5):
        async with mutex.lock("a", wait=30):
            inside.note()


async def sections_of_a_loop(mutex, inside):
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(sections_of_a_task, mutex, inside)
    await mutex.kit.aclose()


async def test_threads_and_loops_share_one_line(mutex, client):
    """The same object in four event loops and in threads: one after the other, and nobody is forgotten."""
    inside = Inside()
    workers = [threading.Thread(target=sections_of_a_thread, args=(mutex, inside)) for _ in range(3)]
    for backend in ("asyncio", "asyncio", "trio"):
        run = functools.partial(anyio.run, sections_of_a_loop, mutex, inside, backend=backend)
        workers.append(threading.Thread(target=run))
    for worker in workers:
        worker.start()
    await sections_of_a_task(mutex, inside)
    for worker in workers:
        await anyio.to_thread.run_sync(worker.join)
    assert (inside.sections, inside.most) == (15 + 45 + 5, 1)
    await eventually(lambda: locks(client) == [], 4)


async def test_who_waits_sits_an_outage_out(own_server, face, namespace):
    """Redis is gone for a moment and has forgotten everything: the waiter gets its turn within its time."""
    server = own_server()
    async with SyncKit(server.url, namespace=namespace) as kit:
        mutex = Mutex("reports", ttl=30, kit=kit)
        await mutex.acquire("a")
        entered = []

        async def wait():
            async with face(mutex).lock("a", wait=20) as lease:
                entered.append(lease.fence)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await eventually(lambda: waiting(server.client()) == 1, 2)
            await anyio.to_thread.run_sync(server.kill)
            await anyio.sleep(1.5)
            await anyio.to_thread.run_sync(server.start)
        assert len(entered) == 1
    await anyio.to_thread.run_sync(kit.close)


async def test_an_outage_that_lasts_longer_than_the_wait_is_not_called_busy(own_server, face, namespace):
    server = own_server()
    async with SyncKit(server.url, namespace=namespace) as kit:
        mutex = Mutex("reports", ttl=30, kit=kit)
        await mutex.acquire("a")
        ended = []

        async def wait():
            with pytest.raises(Unavailable):
                await face(mutex).with_lock_or_raise("a", print, wait=1.5)
            ended.append(elapsed())

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await eventually(lambda: waiting(server.client()) == 1, 2)
            await anyio.to_thread.run_sync(server.kill)
        assert len(ended) == 1
    await anyio.to_thread.run_sync(kit.close)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_closing_the_kit_ends_the_waits_of_its_loop(make_kit, mutex, client):
    held = await taken(mutex)
    kit = make_kit()
    errors = []

    async def wait():
        try:
            await Mutex("reports", wait=20, kit=kit).acquire("a")
        except Unavailable as error:
            errors.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await eventually(lambda: waiting(client) == 1, 2)
        await kit.aclose()
    assert "closed" in errors[0]
    await held.release()
    await eventually(lambda: waiting(client) == 0, LIVENESS + 0.5)


async def test_a_closed_kit_in_which_somebody_waited_leaves_no_connection(server, face, namespace):
    kit = SyncKit(named(server.url, namespace), namespace=namespace)
    mutex = face(Mutex("reports", kit=kit))
    await mutex.acquire("a", ttl=30)
    assert await mutex.acquire("a", wait=0.05) is None, "from now on an inbox is read"
    await kit.aclose()
    await anyio.to_thread.run_sync(kit.close)
    await eventually(lambda: not connections(server.client(), namespace), 4)


FORK_BESIDE_WAITERS = """
import threading, time
import redis
from sync_kit import Mutex
kit = SyncKit(sys.argv[1], namespace=sys.argv[2])
mutex = Mutex("reports", wait=20, kit=kit).blocking
held = mutex.acquire("a", ttl=30)
waiter = threading.Thread(target=lambda: mutex.with_lock("a", lambda: time.sleep(0.01)))
waiter.start()
client = redis.Redis.from_url(sys.argv[1])
while not client.keys(f"{sys.argv[2]}*:line:*"):
    time.sleep(0.01)
pid = os.fork()
if pid == 0:
    os._exit(0 if mutex.with_lock("a", lambda: "child") == "child" else 1)
while mutex.holder("a").waiters < 2:
    time.sleep(0.01)
held.release()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
waiter.join()
kit.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_forked_child_stands_in_line_for_itself(server, namespace):
    assert run_program(FORK_BESIDE_WAITERS, server.url, namespace) == "0"


def test_the_liveness_that_the_readme_names():
    lua = (ROOT / "sync_kit/mutex/line.lua").read_text()
    alive = re.search(r"ALIVE = (\d+)", lua)
    assert alive is not None
    assert int(alive[1]) == 2000 * BEAT
    assert int(alive[1]) / 1000 + BEAT == LIVENESS
