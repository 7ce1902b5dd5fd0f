"""Refusals that need no call: they spare Redis a flood, and never refuse what Redis would admit."""

from __future__ import annotations

import time

import anyio
import pytest
from anyio import lowlevel

from sync_kit import RateLimiter, SyncKit
from sync_kit.ratelimit import denials
from sync_kit.ratelimit.take import Take

pytestmark = pytest.mark.anyio


def calls(client):
    """How many scripts the server has run."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


async def hammer(limiter, key, seconds):
    until = time.monotonic() + seconds
    decisions = []
    while time.monotonic() < until:
        decisions.append(await limiter.check(key))
    return decisions


async def test_under_a_flood_redis_sees_a_few_calls_a_second(kit, face, client):
    limiter, decisions = face(RateLimiter("api", "3/hour", kit=kit)), []
    for _ in range(4):
        await limiter.check("hot")
    before = calls(client)

    async def flood():
        decisions.extend(await hammer(limiter, "hot", 1.0))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(flood)
    assert not any(decision.allowed for decision in decisions)
    assert len(decisions) > 200
    assert calls(client) - before <= 6
    assert {decision.decided_by for decision in decisions} <= {"cache", "redis"}


async def test_what_redis_would_admit_is_never_refused(kit, face):
    limiter = face(RateLimiter("api", limit=2, window=0.2, precision=5, kit=kit))
    until, cached = time.monotonic() + 1.5, 0
    while time.monotonic() < until:
        looked = await limiter.peek("u")
        decision = await limiter.check("u")
        cached += decision.decided_by == "cache"
        assert decision.allowed or not looked.allowed, "what was free a moment ago is still free: nobody else spends"
    assert cached > 10


async def told_to_wait(limiter):
    """A limiter of one unit admits again after what a local refusal tells."""
    for _ in range(5):  # a pause of this machine may outlast the window
        assert (await limiter.check("u")).allowed
        await limiter.check("u")
        refused = await limiter.check("u")
        if refused.decided_by == "cache":
            break
        await limiter.reset("u")
    assert refused.decided_by == "cache"
    await anyio.sleep(refused.retry_after)
    assert (await limiter.check("u")).allowed


async def test_waiting_the_retry_after_of_a_local_refusal_admits(kit, face):
    await told_to_wait(face(RateLimiter("api", limit=1, window=0.3, kit=kit)))


async def test_a_local_refusal_says_what_redis_would(kit, face):
    limiter = face(RateLimiter("api", "3/hour", "5/day", kit=kit))
    await limiter.check("u", cost=3)
    first = await limiter.check("u")
    second = await limiter.check("u")
    assert (first.decided_by, second.decided_by) == ("redis", "cache")
    assert (second.limit, second.remaining, second.rule, second.key) == (3, 0, first.rule, "u")
    assert 0 <= first.retry_after - second.retry_after < 1
    assert [state.remaining for state in second.states] == [0, 2]
    assert second.states[1].retry_after == 0


async def test_a_flood_that_never_fits_spares_redis_too(kit, face, client):
    limiter = face(RateLimiter("api", "3/hour", kit=kit))
    await limiter.check("u", cost=4)
    before = calls(client)

    async def flood():
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            await limiter.check("u", cost=4)

    async with anyio.create_task_group() as group:
        for _ in range(16):
            group.start_soon(flood)
    assert calls(client) - before <= 4


async def test_the_wait_that_is_told_counts_from_when_it_is_told(namespace, face, proxy):
    async with SyncKit(proxy.url, namespace=namespace) as slow:
        limiter = face(RateLimiter("api", limit=1, window=0.4, precision=3, deadline=5, kit=slow))
        proxy.delay = 0.03
        await told_to_wait(limiter)


async def test_a_cost_above_the_limit_is_known_to_be_refused_for_ever(kit, face):
    limiter = face(RateLimiter("api", "3/hour", kit=kit))
    waits = [(await limiter.check("u", cost=4)).retry_after for _ in range(3)]
    assert waits == [float("inf")] * 3
    assert (await limiter.check("u", cost=3)).allowed


async def test_each_cost_has_its_own_refusal_with_its_own_numbers(kit, face):
    limiter = face(RateLimiter("api", "5/hour", "7/day", kit=kit))
    await limiter.check("u", cost=5)
    for _ in range(2):
        answers = [await limiter.check("u", cost=cost) for cost in (1, 3, 6)]
        looks = [await limiter.peek("u", cost=cost) for cost in (1, 3, 6)]
        assert [answer.rule for answer in answers] == [look.rule for look in looks]
        assert [round(answer.retry_after if answer.retry_after < 1e9 else -1) for answer in answers] == [
            round(look.retry_after if look.retry_after < 1e9 else -1) for look in looks
        ]
    assert {answer.decided_by for answer in answers} == {"cache"}


async def test_what_is_admitted_ends_the_refusals_of_as_much(kit, face):
    limiter = face(RateLimiter("api", "5/hour", kit=kit))
    await limiter.check("u", cost=3)
    assert (await limiter.check("u", cost=3)).limited
    assert (await limiter.check("u", cost=2)).allowed
    assert (await limiter.check("u", cost=3)).decided_by == "cache"


async def test_reset_and_refund_are_felt_at_once(kit, face):
    limiter = face(RateLimiter("api", "3/hour", kit=kit))
    spent = await limiter.check("u", cost=3)
    assert (await limiter.check("u")).limited
    await limiter.refund(spent)
    assert (await limiter.check("u", cost=3)).allowed
    assert (await limiter.check("u")).limited
    await face(RateLimiter("api", "3/hour", kit=kit)).reset("u")
    assert (await limiter.check("u")).allowed


def ended(flow, reply):
    """What a flow returns when its effect is answered with `reply`."""
    with pytest.raises(StopIteration) as stop:
        flow.send(reply)
    return stop.value.value


async def test_a_refusal_that_was_under_way_during_a_reset_is_not_remembered(kit):
    checks = RateLimiter("api", "3/hour", kit=kit).checks()
    refusal = [b"limited", 1, 1_800_000_000_000, 0, 3_600_000, 3_600_000]
    under_way, reset = checks.take("u", 1, True), checks.reset("u")
    next(under_way)
    next(reset)
    ended(reset, [b"ok", 1])
    assert ended(under_way, refusal).limited
    afterwards = checks.take("u", 1, True)
    assert isinstance(next(afterwards), Take), "Redis is asked again"
    assert ended(afterwards, refusal).limited
    with pytest.raises(StopIteration) as stop:
        next(checks.take("u", 1, True))
    assert stop.value.value.decided_by == "cache"


async def test_a_reset_elsewhere_is_felt_after_a_moment(kit, face, make_kit):
    limiter = face(RateLimiter("api", "3/hour", kit=kit))
    await limiter.check("u", cost=3)
    assert (await limiter.check("u")).limited
    async with make_kit() as elsewhere:
        await face(RateLimiter("api", "3/hour", kit=elsewhere)).reset("u")
    until = time.monotonic() + denials.ASK_AGAIN + 0.3
    while (await limiter.check("u")).limited:
        assert time.monotonic() < until
        await anyio.sleep(0.01)
    assert [(await limiter.check("u")).allowed for _ in range(3)] == [True, True, False], "and it is felt by all"


async def test_limiters_with_other_limits_do_not_share_refusals(kit, face):
    narrow, wide = face(RateLimiter("api", "3/hour", kit=kit)), face(RateLimiter("api", "9/hour", kit=kit))
    await narrow.check("u", cost=3)
    assert (await narrow.check("u")).limited
    assert (await wide.check("u")).allowed


async def test_it_can_be_switched_off(kit, face, client):
    limiter = face(RateLimiter("api", "3/hour", kit=kit, deny_cache=False))
    await limiter.check("u", cost=3)
    before = calls(client)
    assert {(await limiter.check("u")).decided_by for _ in range(5)} == {"redis"}
    assert calls(client) - before == 5


async def test_a_look_always_goes_to_redis(kit, face, client):
    limiter = face(RateLimiter("api", "3/hour", kit=kit))
    await limiter.check("u", cost=3)
    await limiter.check("u")
    before = calls(client)
    assert (await limiter.peek("u")).decided_by == "redis"
    assert calls(client) - before == 1


async def test_it_is_bounded(kit, face, monkeypatch):
    monkeypatch.setattr(denials, "MOST", 10)
    limiter = RateLimiter("api", "1/hour", kit=kit)
    for number in range(30):
        await face(limiter).check(number, cost=2)
    await face(limiter).check("x" * 1000, cost=2)
    assert len(limiter.checks().shared.denials) == 10, "long keys are not remembered"
    assert (await face(limiter).check(29, cost=2)).decided_by == "cache"
    assert (await face(limiter).check(0, cost=2)).decided_by == "redis"


async def test_a_local_refusal_lets_other_tasks_run(kit):
    limiter = RateLimiter("api", "1/hour", kit=kit)
    await limiter.check("u")
    await limiter.check("u")
    turns = 0

    async def beside():
        nonlocal turns
        while True:
            await lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(beside)
        for _ in range(100):
            assert (await limiter.check("u")).decided_by == "cache"
        group.cancel_scope.cancel()
    assert turns >= 50


async def test_a_local_refusal_can_be_cancelled(kit):
    limiter = RateLimiter("api", "1/hour", kit=kit)
    await limiter.check("u")
    with anyio.move_on_after(0.2) as scope:
        while True:
            await limiter.check("u")
    assert scope.cancelled_caught
