"""What is given back: once, where it was spent, and never more than that."""

from __future__ import annotations

import itertools
import os
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_kit import ConfigurationError, RateLimiter
from sync_kit.ratelimit import Rule
from tests.ratelimit.counters import Model, answer, image
from tests.ratelimit.test_algorithms import (
    COARSE,
    DEEP,
    EACH,
    FIXED,
    LIMIT,
    MIXED,
    SLIDING,
    TOKENS,
    every_set,
    most,
    pauses,
    thorough,
    within_the_bound_of_a_token_bucket,
)

numbers = itertools.count()
calls = st.lists(st.tuples(pauses, st.integers(1, 5), st.booleans()), min_size=1, max_size=25)


@pytest.fixture
def limit(kit, clock):
    return lambda rules, **options: RateLimiter("api", *rules, kit=kit, deny_cache=False, **options).blocking


def spend_and_refund(limiter, clock, calls, key):
    """Check, and at some calls refund the oldest decision that is left; yields what happens."""
    spent: list[Any] = []
    for pause, cost, give_back in calls:
        clock.step(pause)
        if give_back and spent:
            yield "refund", *spent.pop(0)
        decision = limiter.check(key, cost=cost)
        if decision.allowed:
            spent.append((clock.now, decision))
            yield "spend", clock.now, decision


@pytest.mark.parametrize("rules", [[SLIDING], [COARSE], [FIXED], MIXED["two windows"]], ids=str)
@thorough
@given(calls=calls)
def test_after_a_refund_a_window_is_as_if_nothing_had_been_spent(limit, clock, rules, calls):
    limiter, key = limit(rules), next(numbers)
    model = Model(limiter._limiter.rules)
    for what, at, decision in spend_and_refund(limiter, clock, calls, key):
        if what == "spend":
            model.check(at, decision.cost)
        else:
            limiter.refund(decision)
            for part in model.parts:
                part.unspend(at, decision.cost)
        assert [s[:1] for s in answer(limiter.peek(key))[1]] == [s[:1] for s in model.check(clock.now, 0)[1]]


def what_is_kept(limiter, clock, calls):
    """After each step, time and cost of every admitted call that was not given back."""
    kept: dict[str, tuple[int, int]] = {}
    for what, at, decision in spend_and_refund(limiter, clock, calls, next(numbers)):
        if what == "spend":
            kept[decision.receipt.id] = (at, decision.cost)
        elif limiter.refund(decision):
            del kept[decision.receipt.id]
        yield list(kept.values())


@pytest.mark.parametrize("rules", [[SLIDING], [COARSE], MIXED["two windows"]], ids=str)
@thorough
@given(calls=calls)
def test_a_refund_never_breaks_the_bound_of_a_window(limit, clock, rules, calls):
    for kept in what_is_kept(limit(rules), clock, calls):
        for rule in rules:
            assert most(kept, rule.window * 1000) <= rule.limit


@pytest.mark.parametrize("rule", [TOKENS, DEEP], ids=str)
@thorough
@given(calls=calls)
def test_a_refund_never_breaks_the_bound_of_a_token_bucket(limit, clock, rule, calls):
    for kept in what_is_kept(limit([rule]), clock, calls):
        assert within_the_bound_of_a_token_bucket(kept, rule)


@every_set
def test_what_was_just_spent_comes_back_whole(limit, clock, rules):
    limiter = limit(rules)
    limiter.check("u")
    before = [state.remaining for state in limiter.peek("u").states]
    assert limiter.refund(limiter.check("u", cost=2))
    assert [state.remaining for state in limiter.peek("u").states] == before


@every_set
def test_a_refund_happens_once(limit, clock, client, rules):
    limiter = limit(rules)
    limiter.check("u")
    decision = limiter.check("u", cost=2)
    assert limiter.refund(decision)
    before = image(client)
    assert not limiter.refund(decision)
    assert image(client) == before


@pytest.mark.parametrize("rules", [*EACH.values(), MIXED["all three"]], ids=str)
def test_what_is_free_already_is_not_given_back_again(limit, clock, rules):
    limiter = limit(rules)
    old = limiter.check("u")
    clock.step(max(round(1000 * rule.window) for rule in rules) * 3 // 2)
    limiter.check("u", cost=2)
    before = [state.remaining for state in limiter.peek("u").states]
    limiter.refund(old)
    assert [state.remaining for state in limiter.peek("u").states] == before


@every_set
def test_a_refund_from_before_a_reset_is_void(limit, clock, client, rules):
    limiter = limit(rules)
    old = limiter.check("u", cost=2)
    limiter.reset("u")
    assert not limiter.refund(old), "there is no counter"
    clock.step(1)
    limiter.check("u", cost=2)
    before = image(client)
    assert not limiter.refund(old), "the counter is another one"
    assert image(client) == before


@pytest.mark.parametrize("step", [1, 2999, 3000, 50_000])
@pytest.mark.parametrize("rules", [[SLIDING], [TOKENS], [FIXED]], ids=str)
def test_a_refund_across_a_clock_that_stepped_back_never_frees_too_much(limit, clock, rules, step):
    limiter = limit(rules)
    old = limiter.check("u", cost=2)
    clock.step(-step)
    newer = limiter.check("u", cost=2)
    limiter.refund(old)
    limiter.refund(newer)
    at_most = LIMIT if rules != [TOKENS] else TOKENS.burst
    assert at_most - 4 <= limiter.peek("u").remaining <= at_most
    clock.step(step)
    assert limiter.peek("u").remaining <= at_most


def test_a_rate_that_was_changed_meanwhile_frees_no_more_than_was_spent(limit, clock):
    fast, slow = Rule(600, 60, burst=300), Rule(6, 60, burst=300)
    spent = [limit([fast]).check("u", cost=1) for _ in range(297)]
    clock.step(30)
    before = limit([slow]).peek("u").remaining
    limit([slow]).refund(spent[-1])
    assert before <= limit([slow]).peek("u").remaining <= before + 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_decision_is_refunded_once_by_parent_child_and_whoever_unpickles_it(limit, clock):
    limiter = limit([SLIDING])
    limiter.check("u", cost=4)
    decision = limiter.check("u", cost=2)
    assert limiter.refund(decision)
    child = os.fork()
    if child == 0:
        try:
            os._exit(1 if limiter.refund(decision) else 0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not limiter.refund(pickle.loads(pickle.dumps(decision)))
    assert limiter.peek("u").remaining == LIMIT - 4


def test_a_refund_of_what_has_left_says_so(limit, clock):
    limiter = limit([SLIDING])
    old = limiter.check("u")
    clock.step(64_000)
    limiter.check("u")
    assert not limiter.refund(old)


def test_refused_and_exempt_calls_have_nothing_to_give_back(limit, clock):
    limiter = limit([Rule(1, 60)], exempt=["admin"])
    limiter.check("u")
    assert not limiter.refund(limiter.check("u"))
    assert not limiter.refund(limiter.peek("u"))
    assert not limiter.refund(limiter.check("u", cost=0))
    assert not limiter.refund(limiter.check("admin"))
    assert limiter.check("u").limited


def test_the_decision_of_another_limiter_is_refused(kit, limit):
    decision = RateLimiter("web", "1/minute", kit=kit).blocking.check("u")
    with pytest.raises(ConfigurationError, match="one of limiter 'web': give it to that one, not to 'api'"):
        limit([SLIDING]).refund(decision)


@pytest.mark.anyio
async def test_a_refund_works_in_every_mode_and_repeated_after_a_lost_reply(kit, face, proxy, namespace):
    from sync_kit import SyncKit

    limiter = face(RateLimiter("api", "3/hour", kit=kit))
    decision = await limiter.check("u", cost=3)
    assert (await limiter.check("u")).limited
    async with SyncKit(proxy.url, namespace=namespace) as behind:
        other = face(RateLimiter("api", "3/hour", kit=behind))
        await other.peek("u")
        proxy.drop_replies = True
        with pytest.raises(Exception, match="did not answer|not reachable"):
            await other.refund(decision)
        proxy.heal()
        proxy.cut()
        await other.refund(decision)
    assert (await limiter.peek("u")).remaining == 3
    assert not await limiter.refund(decision)
