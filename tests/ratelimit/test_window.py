"""The strict window against a plain model, on the real script with a clock that the test sets."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sync_kit import RateLimiter
from tests.ratelimit.counters import Answer, Model, image

LIMIT, WINDOW = 10, 60
WIDTH, SPAN = 3000, 60_000

thorough = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
pauses = st.one_of(
    st.integers(0, 200),
    st.integers(0, 2 * WIDTH),
    st.integers(0, SPAN + 2 * WIDTH),
    st.sampled_from([WIDTH - 1, WIDTH, SPAN - 1, SPAN, SPAN + WIDTH]),
)
calls = st.lists(st.tuples(pauses, st.integers(0, LIMIT + 1)), min_size=1, max_size=40)
edges = st.sampled_from([0, 1, WIDTH - 1, WIDTH, SPAN - WIDTH, SPAN - 1, SPAN])
steps = st.one_of(st.sampled_from([0, 0, -1]), st.integers(-2 * WIDTH, 0))
numbers = itertools.count()


@pytest.fixture
def limiter(kit):
    return RateLimiter("api", limit=LIMIT, window=WINDOW, kit=kit).blocking


def check(limiter, key, cost):
    decision = limiter.check(key, cost=cost)
    return Answer(decision.allowed, decision.remaining, decision.retry_after, decision.reset_in)


def most_in_a_window(admitted):
    """The most units in any span of a window, its ends included; spans may as well end where a unit is spent."""
    return max((sum(c for t, c in admitted if end - SPAN <= t <= end) for end, _ in admitted), default=0)


@thorough
@given(calls=calls)
def test_every_answer_is_the_one_of_the_model(limiter, clock, calls):
    key, model = next(numbers), Model(LIMIT, WIDTH)
    for pause, cost in calls:
        clock.step(pause)
        assert check(limiter, key, cost) == model.check(clock.now, cost)


@thorough
@given(calls=calls)
def test_no_window_long_span_admits_more_than_the_limit(limiter, clock, calls):
    key, admitted = next(numbers), []
    for pause, cost in calls:
        clock.step(pause)
        if limiter.check(key, cost=cost).allowed:
            admitted.append((clock.now, cost))
    assert most_in_a_window(admitted) <= LIMIT


@thorough
@given(calls=st.lists(st.tuples(edges, st.sampled_from([1, LIMIT // 2, LIMIT - 1]), steps), min_size=4, max_size=40))
@example(calls=[(WIDTH - 1, LIMIT - 1, 0), (1, 1, 0), (0, 1, -1), (SPAN - 2, 2, 0)])
def test_a_server_clock_that_steps_back_frees_nothing(limiter, clock, calls):
    key, admitted, true_time = next(numbers), [], 0
    for pause, cost, step in calls:
        true_time += pause
        clock.step(pause)
        clock.step(step)
        if limiter.check(key, cost=cost).allowed:
            admitted.append((true_time, cost))
    assert most_in_a_window(admitted) <= LIMIT


def test_a_step_back_inside_a_bucket_does_not_free_the_bucket_before_it_early(limiter, clock):
    clock.set(600 * WIDTH - 1)
    limiter.check("u", cost=LIMIT - 1)
    clock.step(1)
    limiter.check("u")
    clock.step(-1)
    assert limiter.check("u").limited
    clock.step(SPAN - 1)
    assert limiter.check("u", cost=2).limited, "59.999 s after it was spent nothing is free"


@thorough
@given(calls=calls, cost=st.integers(1, LIMIT))
def test_waiting_exactly_retry_after_admits_and_a_millisecond_less_does_not(limiter, clock, calls, cost):
    key = next(numbers)
    for pause, spent in calls:
        clock.step(pause)
        limiter.check(key, cost=spent)
    refused = limiter.check(key, cost=cost)
    if refused.limited:
        clock.step(round(refused.retry_after * 1000) - 1)
        assert limiter.check(key, cost=cost).retry_after == 0.001
        clock.step(1)
        assert limiter.check(key, cost=cost).allowed


@thorough
@given(calls=calls)
def test_after_reset_in_the_whole_limit_is_there_and_a_millisecond_earlier_it_is_not(limiter, clock, calls):
    key = next(numbers)
    for pause, spent in calls:
        clock.step(pause)
        limiter.check(key, cost=spent)
    reset_in = round(limiter.peek(key).reset_in * 1000)
    if reset_in:
        clock.step(reset_in - 1)
        assert limiter.check(key, cost=LIMIT).limited
        clock.step(1)
    assert limiter.check(key, cost=LIMIT).allowed


@thorough
@given(calls=calls, cost=st.integers(1, LIMIT + 1), pause=pauses)
def test_a_refused_call_and_a_look_change_nothing(limiter, clock, client, calls, cost, pause):
    key = next(numbers)
    for wait, spent in calls:
        clock.step(wait)
        limiter.check(key, cost=spent)
    clock.step(pause)
    before = image(client)
    limiter.peek(key)
    limiter.check(key, cost=0)
    assert image(client) == before
    if limiter.check(key, cost=cost).limited:
        assert image(client) == before
    client.delete(*client.keys("*:rl:*") or ["none"])


def test_a_full_limit_comes_back_no_later_than_one_bucket_after_the_window(limiter, clock):
    for offset in (0, 1, WIDTH // 2, WIDTH - 1):
        clock.set(1_900_000_000_000 // WIDTH * WIDTH + offset)
        limiter.check(offset, cost=LIMIT)
        wait = limiter.check(offset).retry_after
        assert SPAN < wait * 1000 <= SPAN + WIDTH


def test_a_cost_above_the_limit_never_fits(limiter, clock):
    decision = limiter.check("u", cost=LIMIT + 1)
    assert (decision.limited, decision.retry_after, decision.remaining) == (True, math.inf, LIMIT)
    assert limiter.check("u", cost=LIMIT).allowed, "it has cost nothing"


@thorough
@given(calls=calls, lower=st.integers(1, LIMIT))
def test_a_limit_lowered_on_live_data_holds_at_once(kit, limiter, clock, calls, lower):
    key, model = next(numbers), Model(LIMIT, WIDTH)
    for pause, cost in calls:
        clock.step(pause)
        limiter.check(key, cost=cost)
        model.check(clock.now, cost)
    model.limit = lower
    lowered = RateLimiter("api", limit=lower, window=WINDOW, kit=kit).blocking
    assert check(lowered, key, 1) == model.check(clock.now, 1)
