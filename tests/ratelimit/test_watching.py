"""Dry runs, exemptions, rules by key, many keys at once, and what observers are told."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sync_kit import ConfigurationError, RateLimiter
from sync_kit.ratelimit import Rule
from tests.ratelimit.counters import image

pytestmark = pytest.mark.anyio


async def test_a_shadow_refuses_nothing_and_says_what_it_would_have_refused(kit, face):
    limiter = face(RateLimiter("api", "2/hour", shadow=True, kit=kit))
    decisions = [await limiter.check("u") for _ in range(5)]
    assert all(decision.allowed for decision in decisions)
    assert [decision.shadow for decision in decisions] == [False, False, True, True, True]
    assert [decision.remaining for decision in decisions] == [1, 0, 0, 0, 0]
    assert decisions[2].retry_after > 3600
    await limiter.check_or_raise("u")
    assert (await limiter.wait("u", timeout=0)).shadow


async def test_a_shadow_counts_what_the_real_one_would(kit, face):
    shadow, real = (face(RateLimiter("api", "2/hour", shadow=on, kit=kit)) for on in (True, False))
    await shadow.check("u")
    await shadow.check("u")
    await shadow.check("u")
    assert (await real.check("u")).limited
    assert (await real.peek("v")).remaining == 2


@pytest.mark.parametrize(
    "exempt",
    [["admin", "7"], {"admin": 1, "7": 2}, lambda key: key in ("admin", "7")],
    ids=["list", "dict", "function"],
)
async def test_exempt_keys_are_neither_limited_nor_counted(kit, face, client, exempt):
    limiter = face(RateLimiter("api", "1/hour", exempt=exempt, kit=kit))
    for key in ("admin", 7, "admin", 7):
        decision = await limiter.check(key)
        assert (decision.allowed, decision.decided_by, decision.checked) == (True, "exempt", False)
        assert (decision.limit, decision.remaining, decision.retry_after) == (1, 1, 0)
    assert image(client) == []
    assert (await limiter.check("u")).decided_by == "redis"


PLANS: dict[str, Any] = {"free": "2/hour", "pro": ["5/hour", Rule(100, 86400)], "none": Rule(1, 3600)}


async def test_rules_may_depend_on_the_key(kit, face):
    limiter = face(RateLimiter("api", rules=lambda key: PLANS[key.partition(":")[0]], kit=kit))
    admitted = {}
    for user in ("free:1", "pro:1", "none:1", "free:2"):
        admitted[user] = sum([(await limiter.check(user)).allowed for _ in range(7)])
    assert admitted == {"free:1": 2, "pro:1": 5, "none:1": 1, "free:2": 2}
    assert len((await limiter.peek("pro:1")).states) == 2
    await limiter.reset("pro:1")
    assert (await limiter.refund(await limiter.check("pro:1", cost=5))) is True
    assert (await limiter.peek("pro:1")).remaining == 5


async def test_a_better_plan_keeps_what_is_counted_and_holds_at_once(kit, face):
    plan = {"u": "2/hour"}
    limiter = face(RateLimiter("api", rules=plan.__getitem__, kit=kit))
    await limiter.check("u", cost=2)
    assert (await limiter.check("u")).limited
    plan["u"] = "5/hour"
    assert (await limiter.check("u")).remaining == 2


async def test_rules_may_be_given_as_an_option_too(kit, face):
    assert (await face(RateLimiter("api", rules="3/hour", kit=kit)).check("u")).limit == 3
    assert len((await face(RateLimiter("api", rules=["3/hour", "9/day"], kit=kit)).check("u")).states) == 2
    with pytest.raises(ConfigurationError, match="rules= says it all"):
        RateLimiter("api", "1/minute", rules="3/hour")


@pytest.mark.parametrize("given", ["2/huor", [], 7, ["1/hour", None]], ids=repr)
async def test_bad_rules_of_a_key_are_a_configuration_error(kit, face, client, given):
    limiter = face(RateLimiter("api", rules=lambda key: given, kit=kit))
    with pytest.raises(ConfigurationError):
        await limiter.check("u")
    assert image(client) == []


async def test_rules_of_keys_are_read_once_and_not_kept_for_ever(kit, face):
    limiter = RateLimiter("api", rules=lambda key: f"{key}/hour", kit=kit)
    for number in range(1, 1200):
        limiter._settings.rules_for(number)
    assert len(limiter._settings._read) <= 1000
    assert limiter._settings.rules_for(5) is limiter._settings.rules_for(5)


async def test_many_keys_in_one_round_trip_each_on_its_own(kit, face, client):
    limiter = face(RateLimiter("api", "2/hour", exempt=["admin"], kit=kit))
    await limiter.check("full", cost=2)
    await limiter.check("full")
    before = client.info("stats")["total_reads_processed"]
    decisions = await limiter.check_many(["a", "full", "b", "admin", "a", "a"])
    reads = client.info("stats")["total_reads_processed"] - before
    assert [decision.key for decision in decisions] == ["a", "full", "b", "admin", "a", "a"]
    assert [decision.allowed for decision in decisions] == [True, False, True, True, True, False]
    assert [decision.decided_by for decision in decisions] == ["redis", "cache", "redis", "exempt", "redis", "redis"]
    assert reads <= 2, "one for the calls, one for the question"


async def test_many_keys_with_a_cost_each(kit, face):
    limiter = face(RateLimiter("api", "5/hour", kit=kit))
    decisions = await limiter.check_many({"a": 5, "b": 6, "c": 0})
    assert [decision.allowed for decision in decisions] == [True, False, True]
    assert [decision.remaining for decision in await limiter.check_many(["a", "c"], cost=2)] == [0, 3]
    assert await limiter.check_many([]) == []


async def test_many_keys_after_the_server_forgot_its_scripts(kit, face, client):
    limiter = face(RateLimiter("api", "100/hour", kit=kit))
    await limiter.check("u")
    client.script_flush()
    decisions = await limiter.check_many(["u", "v", "u", "w"])
    assert [decision.remaining for decision in decisions] == [98, 99, 97, 99]


async def test_observers_are_told_of_every_decision_with_few_words(kit, face):
    heard: list[Any] = []
    limiter = face(RateLimiter("api", "1/second", "2/hour", exempt=["admin"], observers=[heard.append], kit=kit))
    for key in ("u", "u", "u", "admin"):
        await limiter.check(key)
    await limiter.check_many(["v"])
    assert [event.kind for event in heard] == ["decision"] * 5
    assert [dict(event.labels) for event in heard[:2]] == [
        {"limiter": "api", "outcome": "allowed", "rule": "1/second", "decided_by": "redis"},
        {"limiter": "api", "outcome": "limited", "rule": "1/second", "decided_by": "redis"},
    ]
    assert heard[3].labels["decided_by"] == "exempt"
    assert heard[0].decision.key == "u"
    words = {word for event in heard for word in event.labels.values()}
    assert not words & {"u", "v", "admin"}, "a key is no label"


async def test_a_shadow_tells_observers_so(kit, face):
    heard: list[Any] = []
    limiter = face(RateLimiter("api", "1/hour", shadow=True, observers=[heard.append], kit=kit))
    await limiter.check("u")
    await limiter.check("u")
    assert [event.labels["outcome"] for event in heard] == ["allowed", "shadow"]


async def test_an_observer_that_fails_is_logged_and_changes_nothing(kit, face, caplog):
    def broken(event):
        raise ValueError("boom")

    heard: list[Any] = []
    limiter = face(RateLimiter("api", "1/hour", observers=[broken, heard.append], kit=kit))
    with caplog.at_level(logging.ERROR, "sync_kit"):
        assert (await limiter.check("u")).allowed
    assert len(heard) == 1
    assert "an observer failed" in caplog.text


async def test_the_deciding_rule_is_the_one_to_wait_for_or_the_one_with_the_least_left(kit, face):
    limiter = face(RateLimiter("api", "5/hour/name=hourly", "6/day/name=daily", kit=kit, deny_cache=False))
    assert (await limiter.check("u", cost=4)).rule.name == "hourly"
    refused = await limiter.check("u", cost=3)
    assert refused.rule.name == "daily", "both refuse, and this one for longer"
    assert refused.limit == 6
    assert [state.remaining for state in refused.states] == [1, 2]
    refused = await limiter.check("u", cost=2)
    assert refused.rule.name == "hourly"
    assert refused.retry_after < 3800
