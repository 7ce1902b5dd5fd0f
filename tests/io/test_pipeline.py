"""One connection for all callers of a loop: every reply finds its caller, whatever happens to the others."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from sync_kit import ServerError, SyncKit, Unavailable
from sync_kit._io.aio import AsyncioDriver
from tests.io.tools import COUNT, ECHO, FAIL, Caller, connections, kill, named, until, within
from tests.support.chaos import cancel_points

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import redis

pytestmark = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)


async def together(*calls: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run all of them at once."""
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call)


class Neighbours:
    """Callers that say texts of their own, and note every reply that was not theirs."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.replies = 0
        self.wrong: list[tuple[str, str]] = []

    async def say(self, text: str) -> None:
        heard = await self.caller.say(text)
        self.replies += 1
        if heard != text:
            self.wrong.append((text, heard))

    async def talk(self, name: str, times: int) -> None:
        for turn in range(times):
            await self.say(f"{name}.{turn}")

    async def talk_for_ever(self, name: str) -> None:
        await self.talk(name, 10**9)

    async def say_briefly(self, text: str, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self.say(text)

    async def crowd(self, size: int, name: str = "") -> None:
        await together(*(lambda n=n: self.say(f"{name}{n}") for n in range(size)))


# -- cancellation ------------------------------------------------------------------------------------------------


async def test_cancelled_at_every_await_a_call_leaves_its_neighbours_alone(kit):
    neighbours = Neighbours(Caller(kit))
    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(neighbours.talk_for_ever, name)
        cut = await cancel_points(
            lambda: neighbours.talk("cut", 20), lambda point: neighbours.talk(f"after {point}", 5)
        )
        tasks.cancel_scope.cancel()
    assert cut >= 10
    assert neighbours.wrong == []


@on_asyncio
async def test_the_cancellation_of_asyncio_is_no_different(kit):
    neighbours = Neighbours(Caller(kit))
    cut = await cancel_points(
        lambda: neighbours.talk("cut", 20), lambda point: neighbours.talk(f"after {point}", 5), edge=True
    )
    assert cut >= 20
    assert neighbours.wrong == []


async def test_cancelled_while_connecting_and_while_a_script_is_taught_the_next_call_is_right(make_kit, server):
    client = server.client()
    kits: list[SyncKit] = []

    async def first_call() -> None:
        client.script_flush()
        kits.append(make_kit())
        await Neighbours(Caller(kits[-1])).talk("first", 2)

    async def next_call(point: int) -> None:
        neighbours = Neighbours(Caller(kits[-1]))
        await neighbours.crowd(10, f"next {point}.")
        assert (neighbours.wrong, neighbours.replies) == ([], 10)
        await kits[-1].aclose()

    assert await cancel_points(first_call, next_call) >= 2


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_many_callers_that_give_up_at_random_times(kit, proxy, namespace, seed):
    chance = random.Random(seed)
    proxy.delay = 0.004
    async with SyncKit(proxy.url, namespace=namespace) as slow:
        neighbours = Neighbours(Caller(slow))
        for turn in range(5):
            calls = [(f"{turn}.{n}", chance.choice([60, chance.uniform(0, 0.02)])) for n in range(150)]
            await together(*(lambda call=call: neighbours.say_briefly(*call) for call in calls))
        assert neighbours.replies > 300
        assert neighbours.wrong == []


@on_asyncio
async def test_a_call_cancelled_before_its_turn_is_never_sent(kit, server, namespace):
    caller = Caller(kit)
    await caller.call(COUNT, 0, key=namespace)
    calls = [asyncio.ensure_future(caller.call(COUNT, 1, key=namespace)) for _ in range(10)]
    await asyncio.sleep(0)  # all have called, and the writer has not had its turn
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert server.client().get(namespace) == b"5"


# -- batches -----------------------------------------------------------------------------------------------------


async def test_ten_thousand_concurrent_calls(kit, anyio_backend):
    size = 1_000 if anyio_backend[0] == "trio" else 10_000
    neighbours = Neighbours(Caller(kit, deadline=20))
    await neighbours.crowd(size)
    assert (neighbours.replies, neighbours.wrong) == (size, [])


@on_asyncio
async def test_all_callers_of_a_loop_share_one_connection(make_kit, server, namespace):
    async with SyncKit(named(server.url, namespace), namespace=namespace) as kit:
        await Neighbours(Caller(kit)).crowd(200)
        assert len(connections(server.client(), namespace)) == 1


async def test_on_a_slow_network_64_calls_take_about_one_round_trip(proxy, namespace):
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        neighbours = Neighbours(Caller(kit))
        await neighbours.crowd(64)
        proxy.delay = 0.02
        with within(0.6):  # one after the other they would take 2.6 s
            await neighbours.crowd(64)
        assert neighbours.wrong == []


async def test_an_error_reply_hits_its_caller_only(kit):
    caller, refused = Caller(kit), []
    neighbours = Neighbours(caller)

    async def refuse(number: int) -> None:
        with pytest.raises(ServerError, match=f"no {number}") as caught:
            await caller.call(FAIL, f"no {number}")
        refused.append(str(caught.value))

    await together(*(lambda n=n: refuse(n) if n % 4 == 0 else neighbours.say(str(n)) for n in range(64)))
    assert (len(refused), neighbours.replies, neighbours.wrong) == (16, 48, [])


async def test_large_payloads_many_at_once_between_small_ones(kit):
    caller, texts = Caller(kit, deadline=20), [chr(65 + n) * (3_000_000 + n) for n in range(12)]
    small, right = Neighbours(caller), []

    async def large(text: str) -> None:
        right.append(await caller.say(text) == text)

    await together(*(lambda t=t: large(t) for t in texts), lambda: small.crowd(64))
    assert (right, small.wrong, small.replies) == ([True] * 12, [], 64)


@on_asyncio
async def test_a_slow_caller_delays_but_does_not_confuse(kit):
    neighbours = Neighbours(Caller(kit))

    async def dawdle(name: str) -> None:
        await neighbours.say(name)
        time.sleep(0.03)  # noqa: ASYNC251
        await neighbours.say(f"{name} again")

    await together(*(lambda n=n: dawdle(f"slow {n}") for n in range(5)), lambda: neighbours.crowd(100))
    assert (neighbours.replies, neighbours.wrong) == (110, [])


# -- scripts the server does not know ------------------------------------------------------------------------------


async def test_a_flushed_script_is_taught_again(kit, face, server):
    caller, client = face(Caller(kit)), server.client()
    for turn in range(3):
        client.script_flush()
        assert await caller.say(f"turn {turn}") == f"turn {turn}"
        assert client.script_exists(ECHO.sha) == [True]


async def test_a_flush_amid_64_calls_is_healed_for_each(kit, server, namespace):
    client = server.client()
    caller = Caller(kit)
    await caller.call(COUNT, 0, key=namespace)

    async def count(number: int) -> None:
        if number % 16 == 0:
            await anyio.to_thread.run_sync(client.script_flush)
        await caller.call(COUNT, 1, key=namespace)

    for _ in range(5):
        await together(*(lambda n=n: count(n) for n in range(64)))
    assert client.get(namespace) == b"320", "every call was carried out exactly once"


@on_asyncio
async def test_a_flush_inside_one_batch(kit, server, namespace):
    """The flush travels in the middle of the batch itself: half of it is known, half is not."""
    caller = Caller(kit)
    pipeline = kit.driver._pipeline
    await caller.call(COUNT, 0, key=namespace)
    neighbours = Neighbours(caller)
    first = [asyncio.ensure_future(caller.call(COUNT, 1, key=namespace)) for _ in range(32)]
    first.append(asyncio.ensure_future(neighbours.say("before")))
    await asyncio.sleep(0)
    flushed = pipeline.call(b"*2\r\n$6\r\nSCRIPT\r\n$5\r\nFLUSH\r\n", 5)
    second = [asyncio.ensure_future(caller.call(COUNT, 1, key=namespace)) for _ in range(32)]
    second.append(asyncio.ensure_future(neighbours.say("after")))
    await asyncio.gather(flushed, *first, *second)
    assert server.client().get(namespace) == b"64"
    assert (neighbours.replies, neighbours.wrong) == (2, [])


# -- connections that go away ----------------------------------------------------------------------------------------


async def settle(client: redis.Redis, name: str) -> None:
    """Kill the connections of that name; returns when the client side can know."""
    assert kill(client, name)
    await until(lambda: not connections(client, name))
    await anyio.sleep(0.02)


async def test_after_client_kill_the_next_call_works(server, face, namespace):
    client = server.client()
    async with SyncKit(named(server.url, namespace), namespace=namespace) as kit:
        caller = face(Caller(kit))
        for turn in range(3):
            assert await caller.say(f"turn {turn}") == f"turn {turn}"
            await settle(client, namespace)
        assert await caller.say("last") == "last"


async def test_after_client_kill_the_next_pop_works(server, face, namespace):
    client = server.client()
    async with SyncKit(named(server.url, namespace), namespace=namespace) as kit:
        caller = face(Caller(kit))
        for _ in range(3):
            assert await caller.pop("{nothing}", 0.01) is None
            await settle(client, namespace)
        assert await caller.pop("{nothing}", 0.01) is None


async def test_a_killed_pop_is_unavailable(server, face, namespace):
    client = server.client()
    async with SyncKit(named(server.url, namespace), namespace=namespace) as kit:

        async def wait() -> None:
            with pytest.raises(Unavailable, match="waiting on '{nothing}'"):
                await face(Caller(kit)).pop("{nothing}", 0.9)

        with within(0.8):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await until(lambda: kill(client, namespace))


async def test_a_restarted_server_is_found_again(own_server, face, namespace):
    server = own_server()
    async with SyncKit(server.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        for end in (server.stop, server.kill):
            assert await caller.say("before") == "before"
            end()
            with within(1), pytest.raises(Unavailable):
                await caller.say("while it is away")
            server.start()
            assert await caller.say("after") == "after"


@pytest.mark.parametrize("repeat", [False, True])
async def test_calls_in_flight_when_the_connection_breaks(proxy, face, namespace, repeat):
    """They fail with Unavailable, or are sent once more when they carry an id."""
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        caller = Caller(kit, repeat=repeat)
        await face(caller).say("connected")
        proxy.drop_replies = True
        heard: list[object] = []

        async def say(number: int) -> None:
            try:
                heard.append(await face(caller).say(str(number)) == str(number) and repeat)
            except Unavailable as error:
                heard.append(error.__cause__ is not None and not repeat)

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(say, number)
            shared = isinstance(kit.driver, AsyncioDriver) and not face.blocking
            await until(lambda: proxy.connections >= (1 if shared else 10))
            await anyio.sleep(0.05)
            assert heard == []
            proxy.drop_replies = False
            await anyio.to_thread.run_sync(proxy.cut)
        assert heard == [True] * 10
        assert await face(caller).say("next") == "next"


async def test_calls_in_flight_say_whether_they_were_carried_out(proxy, face, namespace):
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        await caller.say("connected")
        proxy.drop_replies = True
        async with anyio.create_task_group() as tasks:

            async def say() -> None:
                with pytest.raises(Unavailable, match="echo on '{t}'.*Whether the call was carried out is not known"):
                    await caller.say("lost")

            tasks.start_soon(say)
            await anyio.sleep(0.03)
            await anyio.to_thread.run_sync(proxy.cut)


async def test_a_storm_of_kills_gives_no_wrong_reply(server, namespace):
    client = server.client()
    async with SyncKit(named(server.url, namespace), namespace=namespace) as kit:
        neighbours = Neighbours(Caller(kit, repeat=True))
        unavailable = 0

        async def talk(name: str) -> None:
            nonlocal unavailable
            for turn in range(60):
                try:
                    await neighbours.say(f"{name}.{turn}")
                except Unavailable:
                    unavailable += 1
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as storm:

            async def strike() -> None:
                while True:
                    await anyio.to_thread.run_sync(kill, client, namespace)
                    await anyio.sleep(0.01)

            storm.start_soon(strike)
            await together(*(lambda n=n: talk(str(n)) for n in range(20)))
            storm.cancel_scope.cancel()
        assert neighbours.wrong == []
        assert neighbours.replies + unavailable == 1200
        assert neighbours.replies > 600
        # a last kill whose news may not be here yet: a call without an id may fail on it, one with an id may not
        await anyio.to_thread.run_sync(kill, client, namespace)
        assert await Caller(kit, repeat=True).say("calm") == "calm"
