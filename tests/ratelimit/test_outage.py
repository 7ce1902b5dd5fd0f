"""Redis does not answer: the declared policy decides, and an outage costs one deadline."""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio
import pytest

from sync_kit import RateLimiter, ServerError, SyncKit, Unavailable
from sync_kit.ratelimit.breaker import PAUSE, Breaker
from tests.support.ticks import elapsed

pytestmark = pytest.mark.anyio

SLACK = 0.3
POLICIES = ["raise", "allow", "deny", "local"]
every_policy = pytest.mark.parametrize("policy", POLICIES)


@pytest.fixture
def server(own_server):
    """A server that the test may pause."""
    return own_server()


@pytest.fixture
async def kit(server):
    async with SyncKit(server.url, namespace="outage") as made:
        yield made


@pytest.fixture
def paused(server):
    """Pauses the server after the limiter has connected; it is resumed at the end."""

    async def connect_and_pause(limiter):
        await limiter.check("before")
        server.pause()

    yield connect_and_pause
    server.resume()


async def outcome(limiter, key="u"):
    """Who decided on a check, or "raised", within a time that is stated for every policy."""
    asked = elapsed()
    try:
        return (await limiter.check(key)).decided_by
    except Unavailable:
        return "raised"
    finally:
        assert elapsed() - asked < 0.25 + SLACK


async def until_answered(limiter, patience=5.0):
    """Ask until Redis decides again."""
    until = time.monotonic() + patience
    while await outcome(limiter, "after") not in ("redis", "cache"):
        assert time.monotonic() < until
        await anyio.sleep(0.02)


async def test_an_outage_costs_one_deadline(kit, face, paused):
    limiter = face(RateLimiter("api", "10/hour", kit=kit))
    await paused(limiter)
    asked, began = elapsed(), time.monotonic()
    with pytest.raises(Unavailable, match="did not answer in time"):
        await limiter.check("u")
    assert time.monotonic() - began > 0.2
    assert elapsed() - asked < 0.25 + SLACK
    asked = elapsed()
    for verb in (limiter.check, limiter.peek, limiter.check_or_raise) * 3:
        with pytest.raises(Unavailable, match="was not asked, because .* did not answer in time"):
            await verb("u")
    assert elapsed() - asked < 0.2, "nothing was sent"


async def test_the_breaker_is_shared_by_the_limiters_of_a_kit(kit, face, paused):
    limiter, other = (face(RateLimiter(name, "10/hour", kit=kit)) for name in ("api", "web"))
    await paused(limiter)
    assert await outcome(limiter) == "raised"
    asked = elapsed()
    assert await outcome(other) == "raised"
    assert elapsed() - asked < 0.2


async def test_the_error_while_it_is_away_names_no_key_of_somebody_else(kit, face, paused):
    limiter = face(RateLimiter("api", "10/hour", kit=kit))
    await paused(limiter)
    with pytest.raises(Unavailable, match="alice"):
        await limiter.check("alice")
    with pytest.raises(Unavailable) as raised:
        await limiter.check("mallory")
    assert "alice" not in str(raised.value)


async def test_a_short_deadline_is_no_outage_for_the_others(namespace, face, proxy):
    async with SyncKit(proxy.url, namespace=namespace) as slow:
        hasty, patient = (face(RateLimiter("api", "99/hour", deadline=d, kit=slow)) for d in (0.01, 0.5))
        await patient.check("u")
        proxy.delay = 0.05
        for _ in range(3):
            with pytest.raises(Unavailable):
                await hasty.check("u")
            assert (await patient.check("u")).allowed


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_a_check_that_its_caller_gave_up_counts_as_well(kit, paused):
    limiter = RateLimiter("api", "10/hour", kit=kit)
    await paused(limiter)
    with anyio.move_on_after(0.2):
        await limiter.check("u")
    asked = elapsed()
    with pytest.raises(Unavailable, match="was not asked"):
        await limiter.check("u")
    assert elapsed() - asked < 0.1


async def test_many_keys_find_out_that_redis_is_back(kit, face, server):
    limiter = face(RateLimiter("api", "10/hour", kit=kit))
    await limiter.check("u")
    server.kill()
    with pytest.raises(Unavailable) as raised:
        await limiter.check_many(["a", "b", "c"])
    assert raised.value.decisions == [None, None, None]
    server.start()
    until = time.monotonic() + 5
    while True:
        try:
            decisions = await limiter.check_many(["a", "b", "c"])
            break
        except Unavailable:
            assert time.monotonic() < until
            await anyio.sleep(0.05)
    assert [decision.remaining for decision in decisions] == [9, 9, 9]


async def test_one_bad_counter_loses_no_other_decision(kit, face, server):
    limiter = face(RateLimiter("api", "10/hour", kit=kit))
    await limiter.check("bad")
    admin = server.client()
    (key,) = admin.keys("*bad*")
    admin.set(key, "junk", px=60_000)
    with pytest.raises(ServerError, match="not a counter") as raised:
        await limiter.check_many(["a", "bad", "b"])
    first, bad, last = raised.value.decisions
    assert (first.key, first.allowed, bad, last.key, last.allowed) == ("a", True, None, "b", True)
    assert await limiter.refund(first)


async def test_an_error_reply_is_an_answer_too(kit, face, server):
    limiter = face(RateLimiter("api", "10/hour", on_error="allow", kit=kit))
    await limiter.check("bad")
    admin = server.client()
    (key,) = admin.keys("*bad*")
    server.pause()
    assert await outcome(limiter, "bad") == "on_error"
    server.resume()
    admin.set(key, "junk", px=60_000)
    until = time.monotonic() + 5
    while True:
        try:
            assert (await limiter.check("bad")).decided_by == "on_error"
        except ServerError:
            break
        assert time.monotonic() < until
        await anyio.sleep(0.05)
    assert await outcome(limiter, "good") == "redis"


async def test_a_deadline_of_ones_own_is_kept(kit, face, paused):
    limiter = face(RateLimiter("api", "10/hour", deadline=0.05, kit=kit))
    await paused(limiter)
    asked = elapsed()
    with pytest.raises(Unavailable):
        await limiter.check("u")
    assert elapsed() - asked < 0.05 + SLACK


@pytest.mark.parametrize(("policy", "allowed", "pause", "left"), [("allow", True, 0, 10), ("deny", False, 1, 0)])
async def test_a_policy_decides_and_logs_once(kit, face, paused, server, caplog, policy, allowed, pause, left):
    limiter = face(RateLimiter("api", "10/hour", on_error=policy, deadline=0.05, kit=kit))
    await paused(limiter)
    with caplog.at_level(logging.WARNING, "sync_kit"):
        for _ in range(5):
            decision = await limiter.check("u")
            assert (decision.allowed, decision.checked, decision.decided_by) == (allowed, False, "on_error")
            assert (decision.retry_after, decision.remaining) == (pause, left)
        assert len(caplog.records) == 1
        assert f"on_error={policy!r}" in caplog.text
        server.resume()
        await until_answered(limiter)
        until = time.monotonic() + 5
        while len(caplog.records) < 2:
            assert time.monotonic() < until
            await limiter.check("u")
            await anyio.sleep(0.02)
    assert [record.getMessage() for record in caplog.records[1:]] == ["limiter 'api': Redis answers again"]


async def test_local_counts_in_this_process_its_share_of_every_limit(kit, face, paused, server):
    limiter = face(RateLimiter("api", "9/hour", "100/day/burst=30", on_error="local", replicas=3, kit=kit))
    await paused(limiter)
    began = time.monotonic()
    decisions = [await limiter.check("u") for _ in range(5)]
    took = time.monotonic() - began
    assert [decision.allowed for decision in decisions] == [True, True, True, False, False]
    assert {decision.decided_by for decision in decisions} == {"local"}
    assert [state.remaining for state in decisions[2].states] == [0, 7]
    assert decisions[4].rule.limit == 9
    assert 3600 - took < decisions[4].retry_after <= 3780, "an hour after the first, and at most a bucket more"
    assert (await limiter.check("v")).allowed
    server.resume()
    await until_answered(limiter)
    left = (await limiter.check("u")).remaining
    assert left in (7, 8), "Redis counts again; the call that got no answer may have been counted"


async def hammer(limiter, seconds, seen):
    """Ask without pause; every answer is a decision or `Unavailable`, in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen.append(await outcome(limiter))
        await anyio.sleep(0.002)


async def stop_process(server):
    server.pause()
    await anyio.sleep(0.6)
    server.resume()


async def pause_clients(server):
    server.client().execute_command("CLIENT", "PAUSE", "600", "ALL")
    await anyio.sleep(0.6)


async def restart(server):
    await anyio.to_thread.run_sync(server.kill)
    await anyio.sleep(0.2)
    await anyio.to_thread.run_sync(server.start)


@every_policy
@pytest.mark.parametrize("trouble", [stop_process, pause_clients, restart])
async def test_under_load_every_check_ends_in_time_and_redis_decides_again(kit, face, server, policy, trouble):
    limiter = face(RateLimiter("api", "1000000/hour", on_error=policy, kit=kit))
    assert await outcome(limiter) == "redis"
    seen: list[str] = []
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(hammer, limiter, 1.2, seen)
        await anyio.sleep(0.05)
        await trouble(server)
    await until_answered(limiter)
    instead = {"raise": "raised", "local": "local"}.get(policy, "on_error")
    assert set(seen) == {"redis", instead}
    assert await outcome(limiter) == "redis"


@every_policy
async def test_a_paused_redis_forgets_nothing(kit, face, server, policy):
    limiter = face(RateLimiter("api", "5/hour", on_error=policy, kit=kit))
    for _ in range(4):
        assert (await limiter.check("u")).allowed
    server.pause()
    assert await outcome(limiter) not in ("redis", "cache")
    server.resume()
    await until_answered(limiter)
    decisions = [await limiter.check("u") for _ in range(3)]
    assert sum(decision.allowed for decision in decisions) <= 1, "the call that got no answer may have been counted"


async def test_a_redis_that_is_gone_is_noticed_at_once(kit, face, server):
    limiter = face(RateLimiter("api", "10/hour", kit=kit))
    await limiter.check("u")
    server.kill()
    asked = elapsed()
    with pytest.raises(Unavailable):
        await limiter.check("u")
    assert elapsed() - asked < SLACK
    server.start()
    asked = elapsed()
    await until_answered(limiter)
    assert elapsed() - asked < PAUSE + SLACK


async def test_a_server_that_cannot_write_is_an_outage_too(kit, face, server):
    limiter = face(RateLimiter("api", "10/hour", on_error="deny", kit=kit))
    admin = server.client()
    admin.config_set("maxmemory", 1)
    assert await outcome(limiter) == "on_error"
    admin.config_set("maxmemory", 0)
    await until_answered(limiter)


async def test_reset_and_refund_raise_whatever_the_policy(kit, face, server):
    limiter = face(RateLimiter("api", "10/hour", on_error="allow", kit=kit))
    decision = await limiter.check("u")
    server.kill()
    with pytest.raises(Unavailable, match="forget"):
        await limiter.reset("u")
    with pytest.raises(Unavailable, match="refund"):
        await limiter.refund(decision)
    server.start()


async def test_observers_hear_of_errors_and_of_the_breaker_once(kit, face, paused, server):
    heard: list[Any] = []
    limiter = face(RateLimiter("api", "10/hour", on_error="allow", deadline=0.05, observers=[heard.append], kit=kit))
    await paused(limiter)
    for _ in range(3):
        await limiter.check("u")
    server.resume()
    await until_answered(limiter)
    told = [(event.kind, dict(event.labels)) for event in heard if event.kind != "decision"]
    errors = [labels for kind, labels in told if kind == "error"]
    assert errors[0] == {"limiter": "api", "error": "Unavailable", "on_error": "allow"}
    breaker = [labels for kind, labels in told if kind == "breaker"]
    assert breaker[::2] == [{"limiter": "api", "state": "open"}] * (len(breaker) // 2)
    assert breaker[1::2] == [{"limiter": "api", "state": "closed"}] * (len(breaker) // 2)
    assert breaker


async def test_every_limiter_with_observers_hears_of_the_breaker(kit, face, paused, server):
    heard: list[Any] = []
    first, second = (
        face(RateLimiter(name, "10/hour", on_error="allow", observers=[heard.append], kit=kit)) for name in ("a", "b")
    )
    await second.check("u")
    await paused(first)
    await first.check("u")
    server.resume()
    await until_answered(second)
    told = {(event.labels["limiter"], event.labels["state"]) for event in heard if event.kind == "breaker"}
    assert told == {("a", "open"), ("b", "open"), ("a", "closed"), ("b", "closed")}


def test_when_some_calls_fail_and_others_do_not_one_line_is_logged_and_local_goes_on_counting(caplog):
    """As with one dead node of a cluster; the flows are answered by hand."""
    limiter = RateLimiter("api", "5/hour", on_error="local", kit=SyncKit("redis://localhost:1"))
    checks, admitted = limiter.checks(), 0
    with caplog.at_level(logging.WARNING, "sync_kit"):
        for number in range(50):
            dead, alive = checks.take("dead", 1, True), checks.take(f"alive {number}", 1, True)
            next(dead)
            next(alive)
            with pytest.raises(StopIteration):
                alive.send([b"ok", 1, 2, 4, 0, 1])
            with pytest.raises(StopIteration) as stop:
                dead.throw(Unavailable("one node is gone"))
            admitted += stop.value.value.allowed
    assert admitted == 5
    assert len(caplog.records) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_in_a_batch_an_answer_keeps_the_breaker_closed_whatever_the_order(order):
    checks = RateLimiter("api", "5/hour", on_error="allow", kit=SyncKit("redis://localhost:1")).checks()
    flow = checks.take_many([("a", 1), ("b", 1)])
    next(flow)
    replies: list[Any] = [[b"ok", 1, 2, 4, 0, 1], Unavailable("one node is gone")]
    with pytest.raises(StopIteration) as stop:
        flow.send([replies[i] for i in order])
    assert sorted(decision.decided_by for decision in stop.value.value) == ["on_error", "redis"]
    assert not checks.shared.breaker(0.25).open


class TestBreaker:
    """The states, with times of the test's own."""

    error = Unavailable("away")

    def test_it_lets_pass_while_all_is_well(self):
        breaker = Breaker()
        assert breaker.lets_pass(0.0)
        assert not breaker.answered(1.0)
        assert not breaker.open

    def test_a_failure_opens_it_and_one_call_in_each_pause_tries(self):
        breaker = Breaker()
        start = time.monotonic()
        assert breaker.failed(start, self.error)
        assert breaker.open
        now = time.monotonic()
        assert not breaker.lets_pass(now)
        assert breaker.lets_pass(now + PAUSE)
        assert not breaker.lets_pass(now + PAUSE), "another one is trying"
        assert breaker.lets_pass(now + 2 * PAUSE + 0.01), "the one that tried never came back"

    def test_a_second_failure_does_not_open_it_again(self):
        breaker = Breaker()
        assert breaker.failed(time.monotonic(), self.error)
        assert not breaker.failed(time.monotonic(), self.error)

    def test_an_answer_closes_it(self):
        breaker = Breaker()
        breaker.failed(time.monotonic(), self.error)
        assert breaker.answered(time.monotonic())
        assert breaker.lets_pass(time.monotonic())
        assert not breaker.answered(time.monotonic())

    def test_a_failure_while_others_are_answered_does_not_open_it(self):
        breaker = Breaker()
        breaker.answered(10.0)
        assert not breaker.failed(9.9, self.error)
        assert not breaker.open
        assert breaker.failed(10.1, self.error)
