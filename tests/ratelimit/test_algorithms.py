"""Each algorithm against a plain model, on the real scripts with a clock that the test sets."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sync_kit import RateLimiter
from sync_kit.ratelimit import Rule
from tests.ratelimit.counters import Model, answer, image

LIMIT, WINDOW = 10, 60
SPAN = 60_000

thorough = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SLIDING = Rule(LIMIT, WINDOW)
COARSE = Rule(7, 45, precision=3)
FIXED = Rule(LIMIT, WINDOW, algorithm="fixed-window")
TOKENS = Rule(LIMIT, WINDOW, burst=4)
DEEP = Rule(3, 10, burst=9)
EACH = {"sliding": [SLIDING], "coarse": [COARSE], "fixed": [FIXED], "tokens": [TOKENS], "deep tokens": [DEEP]}
MIXED = {
    "two windows": [Rule(3, 5), SLIDING],
    "window and tokens": [SLIDING, DEEP],
    "all three": [Rule(5, 20, algorithm="fixed-window"), TOKENS, Rule(12, 300)],
}
every_algorithm = pytest.mark.parametrize("rules", EACH.values(), ids=EACH)
every_set = pytest.mark.parametrize("rules", [*EACH.values(), *MIXED.values()], ids=[*EACH, *MIXED])

pauses = st.one_of(
    st.integers(0, 200),
    st.integers(0, 6000),
    st.integers(0, SPAN + 6000),
    st.sampled_from([2999, 3000, 14_999, 15_000, 20_000, SPAN - 1, SPAN, SPAN + 3000]),
)
costs = st.integers(0, LIMIT + 1)
calls = st.lists(st.tuples(pauses, costs), min_size=1, max_size=30)
numbers = itertools.count()


@pytest.fixture
def limit(kit, clock):
    """`limit(rules)` is a blocking limiter; its deny cache is off, because it knows no clock but the real one."""
    return lambda rules, **options: RateLimiter("api", *rules, kit=kit, deny_cache=False, **options).blocking


def most(admitted, span):
    """The most units in any span of that many milliseconds, its ends included."""
    return max((sum(c for t, c in admitted if end - span <= t <= end) for end, _ in admitted), default=0)


def within_the_bound_of_a_token_bucket(admitted, rule):
    """No span admitted more than the burst and what leaked meanwhile; spans may as well end where units are spent."""
    for (start, _), (end, _) in itertools.combinations_with_replacement(admitted, 2):
        spent = sum(cost for at, cost in admitted if start <= at <= end)
        if spent > rule.burst + rule.limit * (end - start) / (rule.window * 1000):
            return False
    return True


def admitted_by(limiter, clock, calls, key):
    """Make the calls; returns time and cost of those that were admitted."""
    admitted = []
    for pause, cost in calls:
        clock.step(pause)
        if limiter.check(key, cost=cost).allowed:
            admitted.append((clock.now, cost))
    return admitted


@every_set
@thorough
@given(calls=calls)
def test_every_answer_is_the_one_of_the_model(limit, clock, rules, calls):
    limiter, key = limit(rules), next(numbers)
    model = Model(limiter._limiter.rules)
    for pause, cost in calls:
        clock.step(pause)
        assert answer(limiter.check(key, cost=cost)) == model.check(clock.now, cost)


@pytest.mark.parametrize("rules", [[SLIDING], [COARSE], MIXED["two windows"]], ids=str)
@thorough
@given(calls=calls)
def test_no_window_long_span_admits_more_than_the_limit(limit, clock, rules, calls):
    admitted = admitted_by(limit(rules), clock, calls, next(numbers))
    for rule in rules:
        assert most(admitted, rule.window * 1000) <= rule.limit


@pytest.mark.parametrize("rule", [TOKENS, DEEP], ids=str)
@thorough
@given(calls=calls)
def test_no_span_admits_more_than_the_burst_and_what_leaked_meanwhile(limit, clock, rule, calls):
    admitted = admitted_by(limit([rule]), clock, calls, next(numbers))
    assert within_the_bound_of_a_token_bucket(admitted, rule)


@thorough
@given(calls=calls)
def test_no_aligned_window_admits_more_than_the_limit_of_a_fixed_window(limit, clock, calls):
    admitted = admitted_by(limit([FIXED]), clock, calls, next(numbers))
    for window in {at // SPAN for at, _ in admitted}:
        assert sum(cost for at, cost in admitted if at // SPAN == window) <= LIMIT
    assert most(admitted, SPAN) <= 2 * LIMIT


WHAT_EACH_ADMITS = {  # the table of the README: the most units in one window-long span, all asked for at the worst time
    SLIDING: 10,
    FIXED: 20,
    TOKENS: 14,
    Rule(LIMIT, WINDOW, algorithm="token-bucket"): 20,
}


@pytest.mark.parametrize(("rule", "expected"), WHAT_EACH_ADMITS.items(), ids=str)
def test_what_each_algorithm_admits_at_most(limit, clock, rule, expected):
    limiter, admitted = limit([rule]), []
    clock.set(30_000_000 * SPAN + 55_000)
    for _ in range(200):
        if limiter.check("u").allowed:
            admitted.append((clock.now, 1))
        else:
            clock.step(1000)
    assert most(admitted, SPAN) == expected


edges = st.sampled_from([0, 1, 2999, 3000, SPAN - 3000, SPAN - 1, SPAN])
steps = st.one_of(st.sampled_from([0, 0, -1]), st.integers(-6000, 0), st.integers(-(10**7), 0))


@pytest.mark.parametrize("rules", [[SLIDING], [COARSE], MIXED["two windows"]], ids=str)
@thorough
@given(calls=st.lists(st.tuples(edges, st.sampled_from([1, 3, 5, LIMIT - 1]), steps), min_size=4, max_size=30))
@example(calls=[(2999, LIMIT - 1, 0), (1, 1, 0), (0, 1, -1), (SPAN - 2, 2, 0)])
def test_a_server_clock_that_steps_back_frees_nothing(limit, clock, rules, calls):
    limiter, key, admitted, true_time = limit(rules), next(numbers), [], 0
    for pause, cost, step in calls:
        true_time += pause
        clock.step(pause)
        clock.step(step)
        if limiter.check(key, cost=cost).allowed:
            admitted.append((true_time, cost))
    for rule in rules:
        assert most(admitted, rule.window * 1000) <= rule.limit


@every_set
@thorough
@given(calls=calls, step=st.one_of(st.integers(1, 6000), st.integers(1, 10**8)))
def test_right_after_a_step_back_nothing_is_free_that_was_not_before(limit, clock, rules, calls, step):
    limiter, key = limit(rules), next(numbers)
    admitted_by(limiter, clock, calls, key)
    before = [state.remaining for state in limiter.peek(key).states]
    clock.step(-step)
    after = [state.remaining for state in limiter.peek(key).states]
    assert all(left <= right for left, right in zip(after, before, strict=True))


@every_set
def test_a_clock_that_steps_far_back_locks_nobody_out(limit, clock, rules):
    limiter = limit(rules)
    for _ in range(3):
        limiter.check("u")
    clock.step(-(10**9))
    wait = limiter.check("u", cost=min(rule.capacity for rule in rules)).retry_after
    assert wait <= 2 * max(max(rule.window, rule.burst * rule.window / rule.limit) for rule in rules)
    clock.step(round(wait * 1000))
    assert limiter.check("u", cost=min(rule.capacity for rule in rules)).allowed


def test_a_step_back_inside_a_bucket_does_not_free_the_bucket_before_it_early(limit, clock):
    limiter = limit([SLIDING])
    clock.set(600_000 * 3000 - 1)
    limiter.check("u", cost=LIMIT - 1)
    clock.step(1)
    limiter.check("u")
    clock.step(-1)
    assert limiter.check("u").limited
    clock.step(SPAN - 1)
    assert limiter.check("u", cost=2).limited, "59.999 s after it was spent nothing is free"


def test_a_fixed_window_does_not_begin_twice(limit, clock):
    limiter = limit([FIXED])
    clock.set(30_000_000 * SPAN)
    assert limiter.check("u", cost=LIMIT).allowed
    clock.step(-1)
    assert limiter.check("u").limited
    clock.step(1)
    assert limiter.check("u").limited
    clock.step(SPAN)
    assert limiter.check("u").allowed


@every_set
@thorough
@given(calls=calls, cost=st.integers(1, LIMIT))
def test_waiting_exactly_retry_after_admits_and_a_millisecond_less_does_not(limit, clock, rules, calls, cost):
    limiter, key = limit(rules), next(numbers)
    admitted_by(limiter, clock, calls, key)
    refused = limiter.check(key, cost=cost)
    if refused.limited and math.isfinite(refused.retry_after):
        clock.step(round(refused.retry_after * 1000) - 1)
        assert limiter.check(key, cost=cost).retry_after == 0.001
        clock.step(1)
        assert limiter.check(key, cost=cost).allowed


@every_set
@thorough
@given(calls=calls)
def test_after_reset_in_the_whole_rule_is_there_and_a_millisecond_earlier_it_is_not(limit, clock, rules, calls):
    limiter, key = limit(rules), next(numbers)
    admitted_by(limiter, clock, calls, key)
    for i, state in enumerate(limiter.peek(key).states):
        if state.reset_in:
            at = clock.now
            clock.step(round(state.reset_in * 1000) - 1)
            assert limiter.peek(key).states[i].reset_in == 0.001
            clock.step(1)
            assert limiter.peek(key).states[i].remaining == state.rule.capacity
            clock.set(at)


@every_set
@thorough
@given(calls=calls, cost=st.integers(1, LIMIT + 1), pause=pauses)
def test_a_refused_call_and_a_look_change_nothing(limit, clock, client, rules, calls, cost, pause):
    limiter, key = limit(rules), next(numbers)
    admitted_by(limiter, clock, calls, key)
    clock.step(pause)
    before = image(client)
    limiter.peek(key)
    limiter.check(key, cost=0)
    assert image(client) == before
    if limiter.check(key, cost=cost).limited:
        assert image(client) == before
    client.delete(*client.keys("*:rl:*") or ["none"])


def test_a_full_limit_comes_back_no_later_than_one_bucket_after_the_window(limit, clock):
    limiter = limit([SLIDING])
    for offset in (0, 1, 1500, 2999):
        clock.set(1_900_000_000_000 // 3000 * 3000 + offset)
        limiter.check(offset, cost=LIMIT)
        wait = limiter.check(offset).retry_after
        assert SPAN < wait * 1000 <= SPAN + 3000


@every_set
def test_a_cost_above_a_limit_never_fits(limit, clock, rules):
    limiter, most_at_once = limit(rules), min(rule.capacity for rule in rules)
    decision = limiter.check("u", cost=most_at_once + 1)
    assert (decision.limited, decision.retry_after, decision.remaining) == (True, math.inf, most_at_once)
    assert limiter.check("u", cost=most_at_once).allowed, "it has cost nothing"


@every_set
@thorough
@given(calls=calls, lower=st.integers(1, 4))
def test_a_limit_lowered_on_live_data_holds_at_once(limit, clock, rules, calls, lower):
    limiter, key = limit(rules), next(numbers)
    model = Model(limiter._limiter.rules)
    for pause, cost in calls:
        clock.step(pause)
        limiter.check(key, cost=cost)
        model.check(clock.now, cost)
    lowered = limit([with_capacity(rule, lower) for rule in rules])
    for part, rule in zip(model.parts, lowered._limiter.rules, strict=True):
        part.capacity = rule.capacity
    assert answer(lowered.check(key)) == model.check(clock.now, 1)


def with_capacity(rule, units):
    """The rule with another limit; for a token bucket another burst, because its limit is its rate."""
    if rule.algorithm == "token-bucket":
        return Rule(rule.limit, rule.window, burst=units)
    options = {"precision": rule.precision} if rule.algorithm == "sliding-window" else {"algorithm": rule.algorithm}
    return Rule(units, rule.window, **options)


@thorough
@given(calls=calls, order=st.permutations(list(EACH.values()) + list(MIXED.values())))
def test_switching_rules_on_live_data_never_raises_and_never_locks_out(limit, clock, calls, order):
    key = next(numbers)
    for rules in order:
        for pause, cost in calls:
            clock.step(pause)
            limit(rules).check(key, cost=min(cost, 2))
    for rules in order:
        clock.step(round(limit(rules).peek(key).retry_after * 1000))
        assert limit(rules).check(key).allowed


@every_set
def test_reset_gives_every_rule_back(limit, clock, rules):
    limiter = limit(rules)
    limiter.check("u", cost=2)
    limiter.reset("u")
    assert [state.remaining for state in limiter.peek("u").states] == [r.capacity for r in limiter._limiter.rules]
