"""The verbs of a limiter, async and blocking, on the real script and the server's own clock."""

from __future__ import annotations

import math
import time
from datetime import timedelta

import anyio
import pytest

from sync_kit import RateLimiter, RateLimitError, ServerError, SyncKit
from sync_kit.ratelimit import Rule
from tests.ratelimit.counters import image, shift, the_counter

pytestmark = pytest.mark.anyio


@pytest.fixture
def hourly(kit, face):
    """Three an hour: buckets are so long (180 s) that none ends during a test. Every call goes to Redis."""
    return face(RateLimiter("api", "3/hour", kit=kit, deny_cache=False))


async def test_a_decision_says_it_all(hourly):
    first = await hourly.check("user:1")
    assert (first.allowed, first.limited, first.limit, first.remaining) == (True, False, 3, 2)
    assert (first.retry_after, first.key, first.checked) == (0, "user:1", True)
    assert 3600 < first.reset_in <= 3780
    second = await hourly.check("user:1", cost=2)
    assert (second.allowed, second.remaining) == (True, 0)
    third = await hourly.check("user:1")
    assert (third.allowed, third.limited, third.remaining) == (False, True, 0)
    assert 3600 < third.retry_after == third.reset_in <= 3780


async def test_keys_and_limiters_do_not_share_units(kit, face, hourly):
    await hourly.check("user:1", cost=3)
    assert (await hourly.check("user:2", cost=3)).allowed
    assert (await face(RateLimiter("web", "3/hour", kit=kit)).check("user:1", cost=3)).allowed
    assert (await face(RateLimiter("api", "3/day", kit=kit)).check("user:1", cost=3)).allowed
    assert (await face(RateLimiter("api", limit=3, window=timedelta(hours=1), kit=kit)).check("user:1")).limited


async def test_the_number_and_its_text_are_one_key(hourly):
    assert (await hourly.check(7)).key == "7"
    assert (await hourly.check("7")).remaining == 1


async def test_check_or_raise_carries_the_decision(hourly):
    assert (await hourly.check_or_raise("user:1", cost=3)).remaining == 0
    with pytest.raises(
        RateLimitError, match=r"rate limit 'api' of 3 reached for 'user:1': try again in 3\d\d\d"
    ) as info:
        await hourly.check_or_raise("user:1")
    error = info.value
    assert (error.key, error.remaining) == ("user:1", 0)
    assert (error.retry_after, error.reset_in) == (error.decision.retry_after, error.decision.reset_in)


async def test_peek_spends_nothing_and_says_what_a_check_would(hourly, client):
    assert (await hourly.peek("user:1")).remaining == 3
    assert image(client) == []
    await hourly.check("user:1", cost=3)
    looked = await hourly.peek("user:1")
    assert (looked.allowed, looked.remaining) == (False, 0)
    assert looked.retry_after > 3600


async def test_reset_gives_the_whole_limit_back(hourly, client):
    await hourly.check("user:1", cost=3)
    await hourly.reset("user:1")
    assert image(client) == []
    assert (await hourly.check("user:1", cost=3)).allowed
    await hourly.reset("never seen")


async def test_a_cost_of_nothing_is_admitted_and_leaves_no_key(hourly, client):
    assert (await hourly.check("user:1", cost=0)).remaining == 3
    assert image(client) == []
    await hourly.check("user:1", cost=3)
    assert (await hourly.check("user:1", cost=0)).allowed


async def test_a_cost_above_the_limit_asks_to_wait_for_ever(hourly):
    assert (await hourly.check("user:1", cost=4)).retry_after == math.inf
    with pytest.raises(RateLimitError):
        await hourly.check_or_raise("user:1", cost=4)


async def test_what_is_spent_counts_for_the_window_and_its_own_bucket(hourly, client):
    await hourly.check("user:1", cost=3)
    shift(client, 20)
    assert (await hourly.check("user:1")).limited
    shift(client, 1)
    assert (await hourly.check("user:1", cost=3)).allowed


@pytest.mark.parametrize("ahead", [1, 5, 10_000])
async def test_a_stored_head_in_the_future_frees_nothing_and_is_brought_back(hourly, client, ahead):
    await hourly.check("user:1", cost=3)
    shift(client, -ahead)
    assert 3600 < (await hourly.check("user:1")).retry_after <= 3960
    shift(client, 21)
    assert (await hourly.check("user:1")).limited
    shift(client, 1)
    assert (await hourly.check("user:1")).allowed


async def test_a_refused_call_changes_neither_value_nor_expiry(hourly, client):
    await hourly.check("user:1", cost=3)
    shift(client, 3)
    before = image(client)
    for _ in range(3):
        assert (await hourly.check("user:1")).limited
    assert image(client) == before


async def test_waiting_retry_after_admits(kit, face):
    quick = face(RateLimiter("quick", limit=2, window=0.2, kit=kit))
    await quick.check("u", cost=2)
    refused = await quick.check("u")
    due = time.monotonic() + refused.retry_after
    assert refused.retry_after <= 0.21
    await anyio.sleep(due - time.monotonic())
    assert (await quick.check("u")).allowed


RULES_AND_LIVES = [
    (Rule(5, 60), 63, 120),
    (Rule(5, 60, precision=3), 80, 120),
    (Rule(5, 60, precision=200), 60.3, 120),
    (Rule(5, 60, algorithm="fixed-window"), 120, 120),
    (Rule(5, 60, algorithm="token-bucket"), 60, 120),
    (Rule(5, 60, burst=20), 240, 480),
]


@pytest.mark.parametrize(("rule", "least", "most"), RULES_AND_LIVES, ids=lambda value: str(value))
async def test_every_key_lives_longer_than_it_counts_and_at_most_twice_as_long(kit, face, client, rule, least, most):
    limiter = face(RateLimiter("api", rule, kit=kit))
    await limiter.check("new")
    await limiter.check("again")
    await limiter.check("again")
    await limiter.check("refused", cost=5)
    await limiter.check("refused", cost=5)
    await limiter.refund(await limiter.check("refunded"))
    lives = [client.pttl(key) / 1000 for key in client.keys("*:rl:*")]
    assert len(lives) == 5, "four counters and the marker of a refund"
    assert all(least - 1 <= life <= most for life in lives)


async def test_memory_does_not_depend_on_the_limit(kit, face, client):
    for limit in (3, 100_000):
        limiter = face(RateLimiter(f"to-{limit}", limit=limit, window=3600, kit=kit))
        for _ in range(3):
            await limiter.check("u", cost=limit // 3)
    used = [client.memory_usage(key) for key in client.keys("*:rl:*")]
    assert len({client.strlen(key) for key in client.keys("*:rl:*")}) == 1
    assert max(used) <= 256


async def test_a_key_of_another_type_is_a_server_error_that_names_it(hourly, client):
    await hourly.check("user:1")
    key = the_counter(client)
    client.delete(key)
    client.rpush(key, "not", "a", "counter")
    client.pexpire(key, 60_000)
    with pytest.raises(ServerError, match=r"WRONGTYPE.*delete it") as info:
        await hourly.check("user:1")
    assert key in str(info.value)
    client.set(key, "too short", px=60_000)
    with pytest.raises(ServerError, match="not a counter of this limiter"):
        await hourly.check("user:1")
    await hourly.reset("user:1")
    assert (await hourly.check("user:1")).allowed


async def test_scripts_that_the_server_forgot_are_sent_again(hourly, client):
    await hourly.check("user:1")
    client.script_flush()
    assert (await hourly.check("user:1")).remaining == 1
    client.script_flush()
    await hourly.reset("user:1")
    assert (await hourly.check("user:1")).remaining == 2


async def test_strange_keys_are_keys(hourly, client):
    strange = [
        "a" * 1_000_000,
        "a" * 999_999 + "b",
        "nul\0",
        "nul",
        "\ud800",
        "\udfff",
        " ",
        "a:b",
        "{a}",
        "%00",
        "ü" * 161,
    ]
    for key in strange:
        decision = await hourly.check(key)
        assert (decision.remaining, decision.key) == (2, key)
    stored = client.keys("*:rl:*")
    assert len(stored) == len(strange), "every key has a counter of its own"
    assert max(map(len, stored)) < 700


@pytest.mark.parametrize("junk", [b"", b"x", b"too short", b"x" * 20, b"\x00" * 300, b"\xff" * 300], ids=repr)
@pytest.mark.parametrize("rules", [["3/hour"], ["3/hour/burst=3"], ["3/hour", "3/day/burst=2"]], ids=str)
async def test_a_counter_of_another_program_is_a_named_error(kit, face, client, junk, rules):
    limiter = face(RateLimiter("api", *rules, kit=kit, deny_cache=False))
    spent = await limiter.check("u")
    key = the_counter(client)
    client.set(key, junk, px=60_000)
    with pytest.raises(ServerError, match="not a counter of this limiter.*delete it"):
        await limiter.check("u")
    with pytest.raises(ServerError, match="not a counter of this limiter"):
        await limiter.peek("u")
    assert not await limiter.refund(spent)
    assert client.get(key) == junk


async def test_many_tasks_admit_exactly_the_limit(kit, face):
    limiter, allowed = face(RateLimiter("api", "50/hour", kit=kit)), []

    async def ask():
        allowed.append((await limiter.check("u")).allowed)

    async with anyio.create_task_group() as group:
        for _ in range(120):
            group.start_soon(ask)
    assert (len(allowed), sum(allowed)) == (120, 50)


async def test_scripts_forgotten_in_the_middle_of_batches_lose_and_repeat_nothing(kit, face, client):
    limiter = face(RateLimiter("api", "150/hour", "150/day", kit=kit, deny_cache=False))
    allowed: list[bool] = []

    async def ask(number):
        if number % 10 == 0:
            await anyio.to_thread.run_sync(client.script_flush)
        many = [await limiter.check("u"), *await limiter.check_many(["u"] * 3)]
        allowed.extend(decision.allowed for decision in many)

    async with anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(ask, number)
    assert (len(allowed), sum(allowed)) == (240, 150)


async def test_namespaces_do_not_share_units(server, kit, face, hourly):
    await hourly.check("u", cost=3)
    other = SyncKit(server.url, namespace="another")
    assert (await face(RateLimiter("api", "3/hour", kit=other)).check("u", cost=3)).allowed
    await other.aclose()


async def test_it_shows_what_it_is(kit):
    assert repr(RateLimiter("api", "3/hour", "1/second", kit=kit)) == "<RateLimiter 'api' 1/second, 3/hour>"
