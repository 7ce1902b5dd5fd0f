"""Rules as values: what may be written, what it means, and where a mistake is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_kit import ConfigurationError, RateLimiter
from sync_kit.ratelimit import Rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("100/minute", Rule(100, 60)),
        (" 100 / Minute ", Rule(100, timedelta(minutes=1))),
        ("100 per minute", Rule(100, 60)),
        ("5 per 10 seconds", Rule(5, 10)),
        ("5/10s", Rule(5, 10)),
        ("1/2 hours", Rule(1, 7200)),
        ("5/0.5 seconds", Rule(5, 0.5)),
        ("5/1.5 hrs", Rule(5, 5400)),
        ("5/2 mins", Rule(5, 120)),
        ("7/day", Rule(7, 86400)),
        ("7/week", Rule(7, 7 * 86400)),
        ("1/sec", Rule(1, 1)),
        ("1/min", Rule(1, 60)),
        ("1000/hour/burst=50", Rule(1000, 3600, burst=50)),
        ("1000/hour/algorithm=token-bucket", Rule(1000, 3600, algorithm="token-bucket")),
        ("1000/hour/algorithm=fixed-window/name=hourly", Rule(1000, 3600, algorithm="fixed-window", name="hourly")),
        ("9/minute / precision = 60 / name = my search", Rule(9, 60, precision=60, name="my search")),
    ],
)
def test_what_may_be_written(text, rule):
    read = Rule.parse(text)
    assert (read, hash(read)) == (rule, hash(rule))


MISTAKES = [
    ("", "expected a whole number", 0),
    ("100", 'expected "/" or "per"', 3),
    ("100/", "expected one of second, minute, hour, day, week", 4),
    ("/minute", "expected a whole number", 0),
    ("100/huor", "unknown unit 'huor', did you mean 'hour'?", 4),
    ("100/fortnight", "unknown unit 'fortnight'", 4),
    ("100/m", "unknown unit 'm'", 4),
    ("ten/minute", "expected a whole number", 0),
    ("-1/minute", "expected a whole number", 0),
    ("1.5/minute", 'expected "/" or "per"', 1),
    ("1/minute; 2/hour", "expected the end", 8),
    ("1/2/minute", "expected one of", 3),
    ("\u0661/minute", "expected a whole number", 0),
    ("9" * 100 + "/minute", "expected a whole number", 0),
    ("1/minute/burts=3", "unknown option 'burts', did you mean 'burst'?", 9),
    ("1/minute/burst", 'expected "="', 14),
    ("1/minute/burst=x", "expected a whole number for burst", 15),
    ("1/minute/burst=1/burst=2", "burst is given twice", 24),
    ("1/minute/name=", "expected a value for name", 14),
    ("1/\0minute", "expected one of", 2),
]


@pytest.mark.parametrize(("text", "why", "at"), MISTAKES, ids=[repr(text)[:25] for text, _, _ in MISTAKES])
def test_a_mistake_is_pointed_at(text, why, at):
    with pytest.raises(ConfigurationError) as raised:
        RateLimiter("api", text)
    first, line, pointer = str(raised.value).split("\n")
    assert why in first
    assert repr(text) in first
    assert ("at the end" in first) == (at == len(text))
    assert ("at the end" in first) or (f"at character {at + 1}" in first)
    assert pointer == " " * (4 + at) + "^"
    assert len(line) == 4 + len(text)


@pytest.mark.parametrize("text", [100, b"1/minute", True, None, ["1/minute"], "9" * 5000], ids=lambda t: repr(t)[:20])
def test_what_is_no_text_is_refused_in_few_words(text):
    with pytest.raises(ConfigurationError, match="is not a rate limit: write a text such as") as raised:
        RateLimiter("api", "1/second", text)
    assert len(str(raised.value)) < 250


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_a_configuration_error(text):
    try:
        Rule.parse(text)
    except ConfigurationError:
        pass


rules = st.builds(
    Rule, st.integers(1, 10**6), st.sampled_from([1, 7, 60, 90.5, 3600, 86400]), precision=st.integers(3, 200)
) | st.builds(Rule, st.integers(1, 10**6), st.sampled_from([1, 60, 3600]), burst=st.integers(1, 10**6))


@given(rules)
def test_the_text_of_a_rule_says_it_all(rule):
    assert Rule.parse(str(rule)) == rule
    assert rule.name == str(rule)


@pytest.mark.parametrize("window", [0.1, 0.101, 1, 59.999, 60, 86400])
def test_the_buckets_are_never_shorter_than_the_window(window):
    rule = Rule(1, window)
    assert window * 1000 <= rule.width_ms * rule.buckets < window * 1000 + 20


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"precision": 2}, "precision must be from 3 to 200"),
        ({"precision": 201}, "precision must be from 3 to 200"),
        ({"precision": 2.5}, "precision must be a whole number"),
        ({"burst": 0}, "burst must be from 1"),
        ({"algorithm": "leaky"}, "algorithm must be one of 'sliding-window', 'token-bucket', 'fixed-window'"),
        ({"algorithm": "fixed-window", "burst": 3}, "burst=3 belongs to 'token-bucket', not to 'fixed-window'"),
        ({"burst": 3, "precision": 5}, "precision=5 belongs to 'sliding-window', not to 'token-bucket'"),
        ({"name": ""}, "the name of a rule"),
    ],
    ids=str,
)
def test_options_out_of_bounds_are_refused(options, why):
    with pytest.raises(ConfigurationError, match=why):
        Rule(10, 60, **options)


def test_a_precision_too_fine_for_the_window_is_refused():
    with pytest.raises(
        ConfigurationError, match=r"precision must leave 5 ms to a bucket: at most 100 in 0.5 s, not 101"
    ):
        Rule(1, 0.5, precision=101)
    assert Rule(1, 0.5, precision=100).width_ms == 5


def test_a_token_bucket_beyond_exact_numbers_is_refused():
    with pytest.raises(ConfigurationError, match="can hold at most"):
        Rule(1, 366 * 86400, burst=10**9)


def test_rules_are_sorted_by_their_window():
    assert [str(rule) for rule in RateLimiter("api", "9/day", "1/second", "5/minute").rules or ()] == [
        "1/second",
        "5/minute",
        "9/day",
    ]


@pytest.mark.parametrize("pair", [("1/minute", "2/60 seconds"), ("1/minute/burst=3", "5/minute/burst=9")])
def test_two_rules_of_one_window_are_refused(pair):
    with pytest.raises(ConfigurationError, match="have the same window: keep one"):
        RateLimiter("api", *pair)


def test_two_rules_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="the same name"):
        RateLimiter("api", "1/minute/name=a", "2/hour/name=a")


def test_a_number_out_of_its_bounds_names_the_text():
    with pytest.raises(
        ConfigurationError, match=r"'5/minute/precision=1' is not a rate limit: precision must be from 3"
    ):
        RateLimiter("api", "5/minute/precision=1")


def test_the_name_may_be_a_keyword():
    assert RateLimiter(name="api", limit=1, window=60).name == "api"


def test_too_many_rules_are_refused():
    with pytest.raises(ConfigurationError, match="from 1 to 10 rules, not 11"):
        RateLimiter("api", *(f"1/{n} seconds" for n in range(1, 12)))


def test_a_name_of_ones_own_is_shown(kit):
    rule = Rule(1, 60, name="sign-up")
    assert repr(rule) == "<Rule 'sign-up' 1/minute>"
    assert RateLimiter("api", rule, kit=kit).blocking.check("u").rule.name == "sign-up"
