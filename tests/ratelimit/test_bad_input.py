"""Wrong configuration fails at construction, with the fix; a wrong key or cost fails before anything is sent."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import timedelta

import pytest

from sync_kit import ConfigurationError, RateLimiter, RateLimitError

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
    with pytest.raises(ConfigurationError, match=r"burst= can be written in the text"):
        RateLimiter("api", "1/minute", burst=1)
    with pytest.raises(ConfigurationError, match="no other rate limit"):
        RateLimiter("api", "1/minute", rules=lambda key: "2/minute")


def test_replicas_without_local_counting_are_refused():
    with pytest.raises(ConfigurationError, match='replicas=3 belongs to on_error="local"'):
        RateLimiter("api", "1/minute", replicas=3)
    with pytest.raises(ConfigurationError, match="replicas must be from 1"):
        RateLimiter("api", "1/minute", on_error="local", replicas=0)


@pytest.mark.parametrize("exempt", ["admin", b"admin", 7], ids=repr)
def test_an_exemption_that_is_no_collection_is_refused(exempt):
    with pytest.raises(ConfigurationError, match="exempt must be a function of the key or a collection"):
        RateLimiter("api", "1/minute", exempt=exempt)


def test_an_exempt_key_that_is_no_text_is_refused():
    with pytest.raises(ConfigurationError, match="compared as text: write '7', not 7"):
        RateLimiter("api", "1/minute", exempt={7})  # type: ignore[arg-type]


def test_an_observer_that_cannot_be_called_is_refused():
    with pytest.raises(ConfigurationError, match="observers must be functions"):
        RateLimiter("api", "1/minute", observers=["print"])  # type: ignore[list-item]


def test_an_error_does_not_repeat_a_key_of_a_megabyte(kit):
    limiter = RateLimiter("api", "1/hour", kit=kit).blocking
    limiter.check("x" * 2**20)
    with pytest.raises(RateLimitError) as raised:
        limiter.check_or_raise("x" * 2**20)
    assert len(str(raised.value)) < 400
    assert raised.value.key == "x" * 2**20


def test_errors_and_decisions_can_be_pickled(kit):
    limiter = RateLimiter("api", "1/hour", "2/day", kit=kit).blocking
    decision = limiter.check("u")
    assert pickle.loads(pickle.dumps(decision)) == decision
    with pytest.raises(RateLimitError) as raised:
        limiter.check_or_raise("u")
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.retry_after) == (str(raised.value), raised.value.retry_after)
    assert again.decision == raised.value.decision


def test_a_decision_made_by_hand_has_no_states(kit):
    decision = RateLimiter("api", "1/hour", kit=kit).blocking.check("u")
    assert dataclasses.replace(decision, allowed=False).states == ()
    assert dataclasses.replace(decision, allowed=False).receipt is None


def test_check_many_of_one_text_is_refused(kit):
    with pytest.raises(ConfigurationError, match="use check for one"):
        RateLimiter("api", "1/minute", kit=kit).blocking.check_many("user:1")


@pytest.mark.parametrize("timeout", [-1, NAN, "1", True], ids=repr)
def test_a_bad_timeout_is_refused(kit, timeout):
    with pytest.raises(ConfigurationError, match="timeout must be"):
        RateLimiter("api", "1/minute", kit=kit).blocking.wait("u", timeout=timeout)


def test_an_unknown_option_comes_with_a_suggestion():
    with pytest.raises(ConfigurationError, match="RateLimiter has no option 'windw': did you mean 'window'"):
        RateLimiter("api", limit=1, windw=60)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", " ", None, 7, b"api"], ids=repr)
def test_a_name_is_required(name):
    with pytest.raises(ConfigurationError, match="name of a limiter"):
        RateLimiter(name, "1/minute")


@pytest.mark.parametrize("policy", ["ignore", "", None, True])
def test_an_unknown_policy_is_refused(policy):
    with pytest.raises(ConfigurationError, match="on_error must be one of 'raise', 'allow', 'deny', 'local'"):
        RateLimiter("api", "1/minute", on_error=policy)


@pytest.mark.parametrize("deadline", [0, -1, NAN, True, "1", 61])
def test_a_bad_deadline_is_refused(deadline):
    with pytest.raises(ConfigurationError, match="deadline must be"):
        RateLimiter("api", "1/minute", deadline=deadline)


@pytest.mark.parametrize("key", ["", None, b"u", True, 1.5, ("a", "b"), 10**5000], ids=lambda key: str(type(key)))
def test_a_bad_key_is_refused_before_anything_is_sent(kit, client, key):
    limiter = RateLimiter("api", "1/minute", kit=kit).blocking
    for verb in (limiter.check, limiter.check_or_raise, limiter.peek, limiter.reset, limiter.wait):
        with pytest.raises(ConfigurationError, match="part of a key"):
            verb(key)
    with pytest.raises(ConfigurationError, match="part of a key"):
        limiter.check_many(["good", key])
    assert client.dbsize() == 0


@pytest.mark.parametrize("cost", [-1, True, False, 1.0, 1.5, NAN, "1", None, 2**31], ids=repr)
def test_a_bad_cost_is_refused_before_anything_is_sent(kit, client, cost):
    limiter = RateLimiter("api", "1/minute", kit=kit).blocking
    with pytest.raises(ConfigurationError, match="cost must be"):
        limiter.check("u", cost=cost)
    with pytest.raises(ConfigurationError, match="cost must be"):
        limiter.check_many({"u": 1, "v": cost})
    assert client.dbsize() == 0


@pytest.mark.anyio
async def test_the_blocking_twin_refuses_to_stop_a_loop_and_names_what_to_await(kit):
    twin = RateLimiter("api", "1/minute", kit=kit).blocking
    for verb in ("check", "check_many", "peek", "wait", "reset"):
        with pytest.raises(ConfigurationError, match=rf"await limiter\.{verb}\("):
            getattr(twin, verb)(["u"] if verb == "check_many" else "u")


@pytest.mark.parametrize(
    "options", [{"limit": 1, "window": 10**400}, {"limit": 10**5000, "window": 1}], ids=["window", "limit"]
)
def test_huge_numbers_are_refused_in_few_words(options):
    with pytest.raises(ConfigurationError) as raised:
        RateLimiter("api", **options)
    assert len(str(raised.value)) < 250


def test_a_limiter_that_is_made_for_every_request_is_warned_of_once(kit, caplog):
    for _ in range(250):
        RateLimiter("api", "1000/minute", kit=kit).blocking.check("u")
    (record,) = caplog.records
    assert "limiter 'api' was made 100 times: make it once" in record.message


def test_a_limiter_for_every_user_is_warned_of(kit, caplog):
    for user in range(1001):
        RateLimiter(f"user-{user}", "5/minute", kit=kit).blocking.peek("u")
    (record,) = caplog.records
    assert "give the user as the key" in record.message
