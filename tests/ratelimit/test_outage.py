"""Redis does not answer: the declared policy decides, and an outage costs one deadline."""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio
import pytest

from sync_kit import RateLimiter, SyncKit, Unavailable
from sync_kit.ratelimit.breaker import PAUSE, Breaker

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
    asked = time.monotonic()
    try:
        return (await limiter.check(key)).decided_by
    except Unavailable:
        return "raised"
    finally:
        assert time.monotonic() - asked < 0.25 + SLACK


async def until_answered(limiter, patience=5.0):
    """Ask until Redis decides again."""
    until = time.monotonic() + patience
    while await outcome(limiter, "after") not in ("redis", "cache"):
        assert time.monotonic() < until
        await anyio.sleep(0.02)


async def test_an_outage_costs_one_deadline(kit, face, paused):
    limiter = face(RateLimiter("api", "10/hour", kit=kit))
    await paused(limiter)
    asked = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer in time"):
        await limiter.check("u")
    assert 0.2 < time.monotonic() - asked < 0.25 + SLACK
    asked = time.monotonic()
    for verb in (limiter.check, limiter.peek, limiter.check_or_raise) * 3:
        with pytest.raises(Unavailable, match="was not asked, because .* did not answer in time"):
            await verb("u")
    assert time.monotonic() - asked < 0.2, "nothing was sent"


async def test_the_breaker_is_shared_by_the_limiters_of_a_kit(kit, face, paused):
    limiter, other = (face(RateLimiter(name, "10/hour", kit=kit)) for name in ("api", "web"))
    await paused(limiter)
    assert await outcome(limiter) == "raised"
    asked = time.monotonic()
    assert await outcome(other) == "raised"
    assert time.monotonic() - asked < 0.2


async def test_a_deadline_of_ones_own_is_kept(kit, face, paused):
    limiter = face(RateLimiter("api", "10/hour", deadline=0.05, kit=kit))
    await paused(limiter)
    asked = time.monotonic()
    with pytest.raises(Unavailable):
        await limiter.check("u")
    assert time.monotonic() - asked < 0.05 + SLACK


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
        await limiter.check("u")
    assert [record.getMessage() for record in caplog.records[1:]] == ["limiter 'api': Redis answers again"]


async def test_local_counts_in_this_process_its_share_of_every_limit(kit, face, paused, server):
    limiter = face(RateLimiter("api", "9/hour", "100/day/burst=30", on_error="local", replicas=3, kit=kit))
    await paused(limiter)
    decisions = [await limiter.check("u") for _ in range(5)]
    assert [decision.allowed for decision in decisions] == [True, True, True, False, False]
    assert {decision.decided_by for decision in decisions} == {"local"}
    assert [state.remaining for state in decisions[2].states] == [0, 7]
    assert decisions[4].rule.limit == 9
    assert 3600 < decisions[4].retry_after <= 3780
    assert (await limiter.check("v")).allowed
    server.resume()
    await until_answered(limiter)
    left = (await limiter.check("u")).remaining
    assert left in (7, 8), "what was counted here is over; the call that got no answer may have been counted"


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
    asked = time.monotonic()
    with pytest.raises(Unavailable):
        await limiter.check("u")
    assert time.monotonic() - asked < SLACK
    server.start()
    asked = time.monotonic()
    await until_answered(limiter)
    assert time.monotonic() - asked < PAUSE + SLACK


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
    assert breaker == [{"limiter": "api", "state": "open"}, {"limiter": "api", "state": "closed"}]


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
