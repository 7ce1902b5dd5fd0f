"""Redis does not answer: the declared policy decides, within the deadline."""

from __future__ import annotations

import logging
import time

import pytest

from sync_kit import RateLimiter, SyncKit, Unavailable

pytestmark = pytest.mark.anyio

SLACK = 0.3


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


async def test_a_silent_redis_is_unavailable_within_the_deadline(kit, face, paused):
    limiter = face(RateLimiter("api", "10/hour", kit=kit))
    await paused(limiter)
    for verb in (limiter.check, limiter.peek, limiter.check_or_raise):
        asked = time.monotonic()
        with pytest.raises(Unavailable, match="did not answer in time"):
            await verb("u")
        assert 0.2 < time.monotonic() - asked < 0.25 + SLACK


async def test_a_deadline_of_ones_own_is_kept(kit, face, paused):
    limiter = face(RateLimiter("api", "10/hour", deadline=0.05, kit=kit))
    await paused(limiter)
    asked = time.monotonic()
    with pytest.raises(Unavailable):
        await limiter.check("u")
    assert time.monotonic() - asked < 0.05 + SLACK


@pytest.mark.parametrize(("policy", "allowed", "pause"), [("allow", True, 0), ("deny", False, 1)])
async def test_a_policy_decides_and_logs_once(kit, face, paused, server, caplog, policy, allowed, pause):
    limiter = face(RateLimiter("api", "10/hour", on_error=policy, deadline=0.05, kit=kit))
    await paused(limiter)
    with caplog.at_level(logging.WARNING, "sync_kit"):
        for _ in range(3):
            decision = await limiter.check("u")
            assert (decision.allowed, decision.checked, decision.retry_after) == (allowed, False, pause)
        assert len(caplog.records) == 1
        assert f"on_error={policy!r}" in caplog.text
        server.resume()
        await answered(limiter)
        await limiter.check("u")
    assert [record.getMessage() for record in caplog.records[1:]] == ["limiter 'api': Redis answers again"]


async def answered(limiter):
    """Ask until Redis decides again."""
    until = time.monotonic() + 5
    while not (await limiter.check("u")).checked:
        assert time.monotonic() < until


@pytest.mark.parametrize("policy", ["raise", "allow"])
async def test_a_redis_that_is_gone_is_noticed_at_once_and_so_is_its_return(kit, face, server, policy):
    limiter = face(RateLimiter("api", "10/hour", on_error=policy, kit=kit))
    await limiter.check("u")
    server.kill()
    asked = time.monotonic()
    if policy == "allow":
        assert not (await limiter.check("u")).checked
    else:
        with pytest.raises(Unavailable):
            await limiter.check("u")
    assert time.monotonic() - asked < SLACK
    server.start()
    assert (await limiter.check("u")).checked


async def test_reset_raises_whatever_the_policy(kit, face, server):
    limiter = face(RateLimiter("api", "10/hour", on_error="allow", kit=kit))
    await limiter.check("u")
    server.kill()
    with pytest.raises(Unavailable, match="forget"):
        await limiter.reset("u")
    server.start()
