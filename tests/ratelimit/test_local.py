"""The stand-in while Redis is away decides as the real one would, for its share of the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_kit.ratelimit import Rule, local
from sync_kit.ratelimit.decision import decide
from sync_kit.ratelimit.local import LocalCounters
from sync_kit.ratelimit.rules import Rules
from tests.ratelimit.counters import Model, answer
from tests.ratelimit.test_algorithms import costs, every_set, pauses

START = 1_000_000_000


@every_set
@given(calls=st.lists(st.tuples(pauses, costs), min_size=1, max_size=30))
def test_every_answer_is_the_one_of_the_model(rules, calls):
    read, counters, now = Rules(rules), LocalCounters(1), START
    model = Model(read.all)
    for pause, cost in calls:
        now += pause
        reply = counters.take("u", read, cost, True, now / 1000)
        allowed, expected = model.check(now, cost)
        got = answer(decide(reply, read, "api", "u", cost, by="local"))
        assert got[0] == allowed
        if allowed:
            got = (True, [part._replace(retry_after=0.0) for part in got[1]])
        assert got == (allowed, expected)


@pytest.mark.parametrize(
    ("rule", "replicas", "share"),
    [(Rule(100, 60), 3, 33), (Rule(2, 60), 5, 1), (Rule(100, 60, burst=9), 3, 3), (Rule(5, 60, burst=1), 9, 1)],
    ids=str,
)
def test_a_limit_is_divided_by_the_replicas_and_never_to_nothing(rule, replicas, share):
    rules, counters = Rules([rule]), LocalCounters(replicas)
    allowed = [counters.take("u", rules, 1, True, START / 1000)[0] == b"ok" for _ in range(50)]
    assert sum(allowed) == share


def test_a_look_spends_nothing():
    rules, counters = Rules([Rule(1, 60)]), LocalCounters(1)
    for _ in range(3):
        assert counters.take("u", rules, 1, False, START / 1000)[0] == b"ok"
    counters.take("u", rules, 1, True, START / 1000)
    assert counters.take("u", rules, 1, False, START / 1000)[0] == b"limited"


def test_other_rules_begin_anew():
    counters = LocalCounters(1)
    assert counters.take("u", Rules([Rule(1, 60)]), 1, True, START / 1000)[0] == b"ok"
    assert counters.take("u", Rules([Rule(2, 60)]), 1, True, START / 1000)[0] == b"ok"


def test_it_is_bounded(monkeypatch):
    monkeypatch.setattr(local, "MOST", 3)
    rules, counters = Rules([Rule(1, 60)]), LocalCounters(1)
    for key in "abcdef":
        counters.take(key, rules, 1, True, START / 1000)
    assert len(counters._counters) == 3
    assert counters.take("f", rules, 1, True, START / 1000)[0] == b"limited"
    assert counters.take("a", rules, 1, True, START / 1000)[0] == b"ok"
