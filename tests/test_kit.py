"""A kit binds itself: to each event loop, each process, each thread that uses it; and lets go of all of them."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import TYPE_CHECKING

import anyio
import pytest
import trio
import uvloop

import sync_kit.kit
from sync_kit import ConfigurationError, SyncKit, Unavailable, configure
from sync_kit.kit import default_kit
from tests.io.tools import Caller, connections, named, run_program, soon, until, within
from tests.support.leaks import leaked_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.proxy import Proxy

RUNNERS = {"asyncio": asyncio.run, "uvloop": uvloop.run, "trio": lambda coroutine: trio.run(lambda: coroutine)}
every_runner = pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)


@pytest.fixture
def proxy(proxy: Proxy) -> Iterator[Proxy]:
    """The proxy; fails a test whose kit leaves a connection open."""
    yield proxy
    soon(lambda: proxy.connections == 0)


# -- the default kit -----------------------------------------------------------------------------------------------


@pytest.fixture
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_kit.kit, "_default", None)


def test_configure_makes_the_default_kit(no_default):
    made = configure("redis://h/1", namespace="shop")
    assert default_kit() is made
    assert made.namespace == "shop"
    assert configure("redis://h/2") is default_kit() is not made


def test_without_configure_the_default_kit_comes_from_the_environment(no_default, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://from-the-environment/4")
    assert repr(default_kit()) == "<SyncKit from-the-environment:6379/4 namespace='sync-kit'>"
    assert default_kit() is default_kit()


def test_a_refused_configuration_leaves_the_default_kit_alone(no_default):
    made = configure("redis://h/1")
    for bad in ({"url": "http://h"}, {"namespac": "x"}, {"client": 5}):
        with pytest.raises(ConfigurationError):
            configure(**bad)
    assert default_kit() is made


# -- event loops, one after the other and side by side -------------------------------------------------------------


@every_runner
def test_an_object_made_at_import_time_works_in_one_loop_after_the_other(server, namespace, run):
    kit = SyncKit(named(server.url, namespace), namespace=namespace)
    caller, client = Caller(kit), server.client()

    async def main(text: str) -> list[str]:
        return [await caller.say(text) for _ in range(3)]

    for turn in range(3):
        assert run(main(f"loop {turn}")) == [f"loop {turn}"] * 3
    kit.close()
    soon(lambda: not connections(client, namespace))
    assert len(kit._homes) <= 1, "loops that have ended are forgotten"


def test_one_kit_on_every_kind_of_loop_and_on_none(make_kit):
    kit = make_kit()
    caller = Caller(kit)
    for name, run in [*RUNNERS.items(), *RUNNERS.items()]:
        assert run(caller.say(name)) == name
        assert caller.blocking.say(f"after {name}") == f"after {name}"
    kit.close()


def test_loops_side_by_side_have_connections_of_their_own(make_kit):
    kit, together = make_kit(), threading.Barrier(4)
    said: list[bool] = []

    async def main(name: str) -> None:
        await Caller(kit).say("bound")
        await asyncio.to_thread(together.wait)
        for turn in range(50):
            said.append(await Caller(kit).say(f"{name}.{turn}") == f"{name}.{turn}")

    threads = [threading.Thread(target=asyncio.run, args=(main(str(n)),)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert said == [True] * 200
    kit.close()


@every_runner
def test_a_loop_that_ends_without_close_leaves_nothing(server, namespace, run):
    """Neither a connection on the server nor a thread, whatever was used in it: calls, pops, both."""
    client, before = server.client(), threading.enumerate()
    for effects in (("say",), ("pop",), ("say", "pop", "pop")):
        kit = SyncKit(named(server.url, namespace), namespace=namespace)

        async def main(effects: tuple[str, ...] = effects, caller: Caller = Caller(kit)) -> int:  # noqa: B008
            for effect in effects:
                await (caller.say("x") if effect == "say" else caller.pop("{t}", 0.01))
            return len(connections(client, namespace))

        assert run(main()) >= 1
        if run is RUNNERS["trio"]:
            kit.close()  # there they are the blocking driver's
        soon(lambda: not connections(client, namespace))
    assert leaked_threads(before) == []


UNCLOSED = """
kit = SyncKit(sys.argv[1])

async def calls(): return [await Caller(kit).say(str(n)) for n in range(3)]
async def pops(): return await Caller(kit).pop("{nothing}", 0.01)
async def both(): return await asyncio.gather(calls(), pops(), pops())
async def in_flight():
    await Caller(kit).say("x")
    task = asyncio.ensure_future(Caller(kit).pop("{nothing}", 20))
    await asyncio.sleep(0.02)
async def connecting():
    task = asyncio.ensure_future(Caller(kit).say("x"))
    await asyncio.sleep(0)
async def closed():
    await both()
    await kit.aclose()

import trio, uvloop
for run in (asyncio.run, uvloop.run):
    for main in (calls, pops, both, in_flight, connecting, closed):
        run(main())
trio.run(calls)
trio.run(pops)
kit.close()
import gc; gc.collect()
print(*(thread.name for thread in threading.enumerate() if not thread.daemon))
"""


def test_no_warning_no_thread_when_loops_end_without_close(server):
    assert run_program(UNCLOSED, server.url) == "MainThread"


def test_outside_of_a_loop_there_is_no_async_driver():
    with pytest.raises(ConfigurationError, match=r"no event loop is running.*\.blocking"):
        _ = SyncKit("redis://h").driver


@pytest.mark.anyio
async def test_a_blocking_call_inside_a_loop_is_refused_and_names_what_to_await(kit):
    with pytest.raises(ConfigurationError, match=r"use `await caller\.run\(\.\.\.\)` instead"):
        Caller(kit).blocking.say("x")


# -- forks and threads ---------------------------------------------------------------------------------------------

FORKS = """
import multiprocessing
kit = SyncKit(sys.argv[1])
caller = Caller(kit)

async def say(*texts):
    for text in texts:
        assert await caller.say(text) == text

def block(text):
    for n in range(300):
        assert caller.blocking.say(f"{text} blocking {n}") == f"{text} blocking {n}"

def child(text):
    block(text)  # at the same time as the others
    async def many():
        await asyncio.gather(*(say(f"{text}.{n}") for n in range(50)))
    asyncio.run(many())
    kit.close()

def fork(text):
    pid = os.fork()
    if pid == 0:
        try:
            child(text)
            os._exit(0)
        finally:
            os._exit(1)
    return pid

asyncio.run(say("before"))
assert caller.blocking.say("before") == "before"
children = [fork(f"child {n}") for n in range(3)]
block("parent")
print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
worker = multiprocessing.get_context("fork").Process(target=child, args=("worker",))
worker.start(); worker.join()
print(worker.exitcode)
worker.close()
asyncio.run(say("after"))
assert caller.blocking.say("after") == "after"
kit.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_forked_child_uses_the_same_kit_and_the_parents_connections_stay_good(server):
    assert run_program(FORKS, server.url).split() == ["0", "0", "0", "0"]


FORK_IN_A_LOOP = """
import time
kit = SyncKit(sys.argv[1])
caller = Caller(kit)

async def main():
    await caller.say("connected")
    pid = os.fork()
    if pid == 0:
        asyncio._set_running_loop(None)
        good = caller.blocking.say("child") == "child"
        os._exit(0 if good else 1)
    for n in range(20):
        assert await caller.say(str(n)) == str(n)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    assert await caller.say("after") == "after"

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_fork_inside_a_running_loop_does_not_touch_its_connection(server):
    assert run_program(FORK_IN_A_LOOP, server.url) == "0"


FORK_WHILE_CONNECTING = """
kit = SyncKit("embedded://", namespace=sys.argv[1])
with kit._address._resolving:  # as a thread would that is starting the server
    pid = os.fork()
    if pid == 0:
        os._exit(0 if Caller(kit).blocking.say("child") == "child" else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert Caller(kit).blocking.say("parent") == "parent"
kit.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_fork_while_a_thread_starts_the_embedded_server_does_not_hang_the_child(namespace):
    assert run_program(FORK_WHILE_CONNECTING, namespace) == "0"


def test_threads_share_a_blocking_driver(kit):
    caller, wrong, done = Caller(kit).blocking, [], []

    def talk(name: str) -> None:
        for turn in range(100):
            text = f"{name}.{turn}"
            if (heard := caller.say(text)) != text:
                wrong.append((text, heard))
        done.append(name)

    threads = [threading.Thread(target=talk, args=(str(n),)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (len(done), wrong) == (8, [])


def test_blocking_connections_are_used_again(server, namespace):
    kit = SyncKit(named(server.url, namespace), namespace=namespace)
    for deadline in (None, 0.5, 0.5, None, 2):
        for _ in range(5):
            Caller(kit, deadline=deadline).blocking.say("x")
    assert len(connections(server.client(), namespace)) == 3, "one for each time limit"
    kit.close()
    soon(lambda: not connections(server.client(), namespace))


# -- closing -------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_closed_kit_leaves_no_connection_and_may_be_used_again(server, face, namespace):
    client, kit = server.client(), SyncKit(named(server.url, namespace), namespace=namespace)
    caller = face(Caller(kit))
    for turn in range(3):
        assert await caller.say(f"turn {turn}") == f"turn {turn}"
        assert await caller.pop("{t}", 0.01) is None
        assert connections(client, namespace)
        await kit.aclose()
        await until(lambda: not connections(client, namespace))
    await kit.aclose()


@pytest.mark.anyio
async def test_a_kit_is_a_context_manager(server, namespace):
    client = server.client()
    async with SyncKit(named(server.url, namespace), namespace=namespace) as kit:
        await Caller(kit).say("x")
    await until(lambda: not connections(client, namespace))


on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize("repeat", [False, True])
async def test_calls_under_way_when_the_kit_is_closed_are_unavailable(proxy, namespace, repeat):
    """Also those that may be sent again: a closed kit does not connect by itself."""
    kit = SyncKit(proxy.url, namespace=namespace)
    await Caller(kit).say("connected")
    proxy.black_hole()
    calls = [asyncio.ensure_future(Caller(kit, repeat=repeat).say(str(n))) for n in range(10)]
    await asyncio.sleep(0.02)
    with within(0.5):
        await kit.aclose()
        failed = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in failed} == {Unavailable}
    assert "the kit was closed during the call" in str(failed[0])
    await until(lambda: proxy.connections == 0)
    await asyncio.sleep(0.03)
    assert proxy.connections == 0
    await anyio.to_thread.run_sync(proxy.heal)
    assert await Caller(kit).say("used again") == "used again"
    await kit.aclose()


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize("turns", range(8))
async def test_closing_at_any_moment_of_the_first_call(make_kit, turns):
    """From before the connection is begun until the reply is there: no hang, and the next call works."""
    kit = make_kit()
    call = asyncio.ensure_future(Caller(kit, deadline=5).say("first"))
    for _ in range(turns):
        await asyncio.sleep(0)
    with within(0.5):
        await asyncio.wait_for(kit.aclose(), 1)
        first = (await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), 1))[0]
    assert first == "first" or isinstance(first, Unavailable)
    with within(1):
        assert await Caller(kit).say("next") == "next"
    await kit.aclose()


@pytest.mark.anyio
@on_asyncio
async def test_closing_again_and_again_amid_calls(make_kit):
    kit, right, unavailable = make_kit(), 0, 0

    async def talk(name: str) -> None:
        nonlocal right, unavailable
        for turn in range(100):
            try:
                assert await Caller(kit).say(f"{name}.{turn}") == f"{name}.{turn}"
                right += 1
            except Unavailable:
                unavailable += 1
            await asyncio.sleep(0)

    talkers = asyncio.gather(*(talk(str(n)) for n in range(20)))
    with anyio.fail_after(10):
        while not talkers.done():
            await asyncio.sleep(0.002)
            await kit.aclose()
        await talkers
    assert right + unavailable == 2000
    assert right > 200
    await kit.aclose()


@pytest.mark.anyio
@on_asyncio
async def test_a_pop_under_way_when_the_kit_is_closed_ends_as_a_pop(kit, server, namespace):
    client = server.client()
    waiting = asyncio.ensure_future(Caller(kit).pop(namespace, 5))
    await until(lambda: client.info("clients")["blocked_clients"])
    await kit.aclose()
    client.rpush(namespace, "x")
    assert await asyncio.wait_for(waiting, 1) == b"x"
    await kit.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_what_runs_beside_ends_when_the_kit_is_closed(kit):
    ended = []

    async def beside() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    kit.home().spawn(beside())
    await asyncio.sleep(0)
    await kit.aclose()
    assert ended == [1]


def test_close_spares_what_a_thread_is_using(kit, server, namespace):
    client, came = server.client(), []
    thread = threading.Thread(target=lambda: came.append(Caller(kit).blocking.pop(namespace, 0.9)))
    thread.start()
    soon(lambda: client.info("clients")["blocked_clients"])
    kit.close()
    client.rpush(namespace, "x")
    thread.join()
    assert came == [b"x"]


def test_a_kit_may_be_closed_while_threads_begin_to_use_it(kit):
    """Each time limit has idle connections of its own: they are counted while others come."""
    switches, done = sys.getswitchinterval(), threading.Event()

    def talk() -> None:
        for turn in range(500):
            Caller(kit, deadline=1 + turn / 1000).blocking.say("x")
        done.set()

    thread = threading.Thread(target=talk)
    sys.setswitchinterval(1e-5)
    try:
        thread.start()
        while not done.is_set() and thread.is_alive():
            kit.close()
    finally:
        sys.setswitchinterval(switches)
        thread.join()
    assert done.is_set()


def test_many_short_lives(server, namespace):
    """Nothing grows: 30 loops, then one connection at most and no home of the past."""
    kit = SyncKit(named(server.url, namespace), namespace=namespace)
    for turn in range(30):
        assert asyncio.run(Caller(kit).say(str(turn))) == str(turn)
    assert len(kit._homes) == 1
    soon(lambda: not connections(server.client(), namespace))
