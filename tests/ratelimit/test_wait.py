"""Waiting until a call is admitted: exactly so long, in order of arrival, and without a trace when cancelled."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import anyio
import pytest

from sync_kit import ConfigurationError, RateLimiter, RateLimitError, SyncKit
from tests.support.ticks import elapsed

pytestmark = pytest.mark.anyio


async def test_what_fits_is_admitted_at_once(kit, face):
    limiter = face(RateLimiter("api", "3/hour", kit=kit))
    decision = await limiter.wait("u", cost=2, timeout=0)
    assert (decision.allowed, decision.remaining) == (True, 1)


async def test_it_sleeps_until_it_is_admitted_and_not_much_longer(kit, face):
    limiter = face(RateLimiter("api", limit=2, window=0.3, kit=kit))
    await limiter.check("u", cost=2)
    asked, began = time.monotonic(), elapsed()
    expected = (await limiter.peek("u")).retry_after
    decision = await limiter.wait("u")
    assert decision.allowed
    assert time.monotonic() - asked >= expected - 0.01
    assert elapsed() - began <= expected + 0.15


async def test_no_more_than_the_limit_is_admitted_to_those_who_wait(kit, face):
    limiter, admitted = face(RateLimiter("api", limit=3, window=0.3, kit=kit)), []

    async def one():
        await limiter.wait("u")
        admitted.append(time.monotonic())

    began = time.monotonic()
    async with anyio.create_task_group() as group:
        for _ in range(9):
            group.start_soon(one)
    admitted.sort()
    assert len(admitted) == 9
    assert all(at - began >= 0.3 * (number // 3) for number, at in enumerate(admitted)), "three in each 0.3 s at most"


async def test_the_order_is_that_of_arrival(kit, face):
    limiter, order = face(RateLimiter("api", limit=1, window=0.1, kit=kit)), []
    await limiter.check("u")

    async def one(number):
        await limiter.wait("u")
        order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(one, number)
            await anyio.sleep(0.02)
    assert order == list(range(6))


async def test_a_small_cost_does_not_overtake_a_big_one(kit, face):
    limiter, order = face(RateLimiter("api", limit=3, window=0.4, kit=kit)), []
    await limiter.check("u", cost=2)

    async def one(cost):
        await limiter.wait("u", cost=cost)
        order.append(cost)

    async with anyio.create_task_group() as group:
        group.start_soon(one, 3)
        await anyio.sleep(0.05)
        group.start_soon(one, 1)
    assert order == [3, 1]


async def test_keys_do_not_wait_for_each_other(kit, face):
    limiter = face(RateLimiter("api", "1/hour", kit=kit))
    await limiter.check("u")
    with anyio.fail_after(5):
        assert (await limiter.wait("v", timeout=1)).allowed


async def test_a_timeout_that_cannot_be_met_is_told_at_once(kit, face):
    limiter = face(RateLimiter("api", "1/hour", kit=kit))
    await limiter.check("u")
    asked = elapsed()
    with pytest.raises(RateLimitError, match="rate limit 'api' of 1 reached for 'u'") as raised:
        await limiter.wait("u", timeout=5)
    assert elapsed() - asked < 1
    assert raised.value.retry_after > 3600


async def test_what_cannot_be_in_time_is_told_at_once_also_to_those_who_stand_in_line(kit, face):
    limiter = face(RateLimiter("api", "1/hour", kit=kit))
    await limiter.check("u")
    async with anyio.create_task_group() as group:
        group.start_soon(awaited, limiter.wait("u"))
        await anyio.sleep(0.1)
        asked = elapsed()
        for options in ({"timeout": 3}, {"cost": 99}):
            with pytest.raises(RateLimitError):
                await limiter.wait("u", **options)
        with pytest.raises(ConfigurationError, match="cost must be"):
            await limiter.wait("u", cost=-1)
        assert elapsed() - asked < 1
        await limiter.reset("u")


async def test_a_reset_ends_the_wait(kit, face):
    limiter = face(RateLimiter("api", "1/hour", kit=kit))
    await limiter.check("u")
    async with anyio.create_task_group() as group:
        group.start_soon(awaited, limiter.wait("u"))
        await anyio.sleep(0.1)
        await limiter.reset("u")


async def test_who_has_no_time_behind_a_bigger_one_is_told_so_by_a_refusal(kit, face):
    limiter = face(RateLimiter("api", limit=3, window=1.2, kit=kit))
    await limiter.check("u", cost=2)
    async with anyio.create_task_group() as group:
        group.start_soon(awaited, limiter.wait("u", cost=3))
        await anyio.sleep(0.1)
        asked, began = time.monotonic(), elapsed()
        with pytest.raises(RateLimitError, match="reached for 'u'") as raised:
            await limiter.wait("u", timeout=0.2)
        assert time.monotonic() - asked > 0.15
        assert elapsed() - began < 0.6
        assert not getattr(raised.value.decision, "allowed")  # noqa: B009


async def awaited(call):
    await call


async def test_what_never_fits_is_told_at_once(kit, face):
    limiter = face(RateLimiter("api", "3/hour", kit=kit))
    with pytest.raises(RateLimitError, match="costs more than the limit and is never admitted"):
        await limiter.wait("u", cost=4)


async def test_cancelled_while_it_sleeps_nothing_is_spent_and_the_next_one_gets_its_turn(kit):
    limiter = RateLimiter("api", limit=1, window=0.5, kit=kit)
    await limiter.check("u")
    with anyio.move_on_after(0.1) as scope:
        await limiter.wait("u")
    assert scope.cancelled_caught
    with anyio.fail_after(5):
        assert (await limiter.wait("u")).allowed


async def test_cancelled_in_the_line_it_leaves_the_line(kit):
    limiter, order = RateLimiter("api", limit=1, window=0.4, kit=kit), []
    await limiter.check("u")

    async def one(number):
        await limiter.wait("u")
        order.append(number)

    async with anyio.create_task_group() as group:
        group.start_soon(one, 0)
        await anyio.sleep(0.02)
        with anyio.move_on_after(0.05) as scope:
            await limiter.wait("u")
        group.start_soon(one, 2)
    assert scope.cancelled_caught
    assert order == [0, 2]
    assert not limiter.checks().shared.line._lines


@pytest.mark.parametrize("after", [0.0, 0.01, 0.03, 0.045, 0.06])
async def test_cancelled_while_it_asks_it_gives_back_what_was_spent(proxy, namespace, kit, after):
    async with SyncKit(proxy.url, namespace=namespace) as slow:
        limiter = RateLimiter("api", "3/hour", deadline=5, kit=slow)
        await limiter.peek("u")
        proxy.delay = 0.02
        with anyio.move_on_after(after) as scope:
            await limiter.wait("u")
        left = (await RateLimiter("api", "3/hour", kit=kit).peek("u")).remaining
        assert left == (3 if scope.cancelled_caught else 2)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
@pytest.mark.parametrize("after", [0.0, 0.01, 0.03])
async def test_a_native_cancellation_gives_back_too(proxy, namespace, kit, after):
    async with SyncKit(proxy.url, namespace=namespace) as slow:
        limiter = RateLimiter("api", "3/hour", deadline=5, kit=slow)
        await limiter.peek("u")
        proxy.delay = 0.02
        task = asyncio.ensure_future(limiter.wait("u"))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await RateLimiter("api", "3/hour", kit=kit).peek("u")).remaining == 3


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_cancelled_twice_it_gives_back_too(proxy, namespace, kit):
    async with SyncKit(proxy.url, namespace=namespace) as slow:
        limiter = RateLimiter("api", "3/hour", deadline=5, kit=slow)
        await limiter.peek("u")
        proxy.delay = 0.03
        task = asyncio.ensure_future(limiter.wait("u"))
        for _ in range(4):
            await asyncio.sleep(0.012)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await RateLimiter("api", "3/hour", kit=kit).peek("u")).remaining == 3


async def test_cancelled_while_redis_is_silent_it_is_still_cancelled(own_server):
    server = own_server()
    async with SyncKit(server.url, namespace="outage") as kit:
        limiter = RateLimiter("api", "3/hour", kit=kit)
        await limiter.check("u")
        server.pause()
        with anyio.move_on_after(0.05) as scope:
            await limiter.wait("u")
        server.resume()
        assert scope.cancelled_caught


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_stand_behind_the_waiters_of_its_parent(server, namespace):
    kit = SyncKit(server.url, namespace=namespace)
    limiter = RateLimiter("api", limit=1, window=2, kit=kit).blocking
    limiter.check("u")
    thread = threading.Thread(target=limiter.wait, args=("u",))
    thread.start()
    try:
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if limiter.wait("u", timeout=8).allowed else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        thread.join(10)
        kit.close()


async def test_threads_and_tasks_share_one_line(kit):
    limiter, order = RateLimiter("api", limit=1, window=0.2, kit=kit), []
    await limiter.check("u")

    def in_thread(number):
        limiter.blocking.wait("u")
        order.append(number)

    async def in_task(number):
        await limiter.wait("u")
        order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(6):
            if number % 2:
                group.start_soon(anyio.to_thread.run_sync, in_thread, number)
            else:
                group.start_soon(in_task, number)
            await anyio.sleep(0.03)
    assert order == list(range(6))
