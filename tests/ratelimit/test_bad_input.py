"""Wrong configuration fails at construction, with the fix; a wrong key or cost fails before anything is sent."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sync_kit import ConfigurationError, RateLimiter
from sync_kit.ratelimit import Rule

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("limit", [0, -1, NAN, INF, 1.5, True, False, "10", 2**31, 2**64, [1]], ids=repr)
def test_a_limit_is_a_whole_number_of_at_least_one(limit):
    with pytest.raises(ConfigurationError, match="limit must be"):
        RateLimiter("api", limit=limit, window=60)


@pytest.mark.parametrize(
    "window", [0, -1, 0.05, NAN, INF, -INF, True, False, "60", 367 * 86400, timedelta(0), timedelta(days=-1)], ids=repr
)
def test_a_window_is_from_a_tenth_of_a_second_to_a_year(window):
    with pytest.raises(ConfigurationError, match="window must be"):
        RateLimiter("api", limit=1, window=window)


@pytest.mark.parametrize(
    "rule",
    [
        *["", "100", "100/", "/minute", "100/fortnight", "100/Minute", "ten/minute", "-1/minute", "1.5/minute"],
        *["100 per minute", "1/minute; 2/hour", "1/2/minute", "\u0661/minute", "9" * 5000 + "/minute"],
        *[100, b"1/minute", True],
    ],
    ids=lambda rule: repr(rule)[:20],
)
def test_a_bad_rule_is_refused_with_an_example_of_a_good_one(rule):
    with pytest.raises(ConfigurationError, match=r'write a number, "/" and one of .*100/minute'):
        RateLimiter("api", rule)


def test_a_rule_of_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="limit must be"):
        RateLimiter("api", "0/minute")


@pytest.mark.parametrize("given", [{}, {"limit": 1}, {"window": 1}])
def test_half_a_rule_is_refused(given):
    with pytest.raises(ConfigurationError, match="needs limit= and window="):
        RateLimiter("api", **given)


def test_two_rules_are_refused():
    with pytest.raises(ConfigurationError, match="not both"):
        RateLimiter("api", "1/minute", limit=1)


def test_an_unknown_option_comes_with_a_suggestion():
    with pytest.raises(ConfigurationError, match="RateLimiter has no option 'windw': did you mean 'window'"):
        RateLimiter("api", limit=1, windw=60)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", " ", None, 7, b"api"], ids=repr)
def test_a_name_is_required(name):
    with pytest.raises(ConfigurationError, match="name of a limiter"):
        RateLimiter(name, "1/minute")


@pytest.mark.parametrize("policy", ["ignore", "", None, True])
def test_an_unknown_policy_is_refused(policy):
    with pytest.raises(ConfigurationError, match="on_error must be one of 'raise', 'allow', 'deny'"):
        RateLimiter("api", "1/minute", on_error=policy)


@pytest.mark.parametrize("deadline", [0, -1, NAN, True, "1", 61])
def test_a_bad_deadline_is_refused(deadline):
    with pytest.raises(ConfigurationError, match="deadline must be"):
        RateLimiter("api", "1/minute", deadline=deadline)


@pytest.mark.parametrize("key", ["", None, b"u", True, 1.5, ("a", "b")], ids=repr)
def test_a_bad_key_is_refused_before_anything_is_sent(kit, client, key):
    limiter = RateLimiter("api", "1/minute", kit=kit).blocking
    for verb in (limiter.check, limiter.check_or_raise, limiter.peek, limiter.reset):
        with pytest.raises(ConfigurationError, match="part of a key"):
            verb(key)
    assert client.dbsize() == 0


@pytest.mark.parametrize("cost", [-1, True, False, 1.0, 1.5, NAN, "1", None, 2**31], ids=repr)
def test_a_bad_cost_is_refused_before_anything_is_sent(kit, client, cost):
    limiter = RateLimiter("api", "1/minute", kit=kit).blocking
    with pytest.raises(ConfigurationError, match="cost must be"):
        limiter.check("u", cost=cost)
    assert client.dbsize() == 0


@pytest.mark.anyio
async def test_the_blocking_twin_refuses_to_stop_a_loop_and_names_what_to_await(kit):
    twin = RateLimiter("api", "1/minute", kit=kit).blocking
    for verb in ("check", "peek", "reset"):
        with pytest.raises(ConfigurationError, match=rf"await limiter\.{verb}\("):
            getattr(twin, verb)("u")


def test_a_rule_is_a_value():
    assert Rule.parse(" 100 / minute ") == Rule(100, 60) == Rule(100, timedelta(minutes=1))
    assert [Rule.parse(f"1/{unit}").window for unit in ("second", "minute", "hour", "day")] == [1, 60, 3600, 86400]


@pytest.mark.parametrize("window", [0.1, 0.101, 1, 59.999, 60, 86400])
def test_the_buckets_are_never_shorter_than_the_window(window):
    assert Rule(1, window).bucket_ms * 20 >= window * 1000


@pytest.mark.parametrize(
    "options", [{"limit": 1, "window": 10**400}, {"limit": 10**5000, "window": 1}], ids=["window", "limit"]
)
def test_huge_numbers_are_refused_in_few_words(options):
    with pytest.raises(ConfigurationError) as raised:
        RateLimiter("api", **options)
    assert len(str(raised.value)) < 250
