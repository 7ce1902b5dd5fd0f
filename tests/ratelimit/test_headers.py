"""What HTTP clients are told."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_kit import RateLimiter
from sync_kit.ratelimit import Rule
from sync_kit.ratelimit.decision import decide
from sync_kit.ratelimit.headers import header_fields, problem_body, retry_after_field
from sync_kit.ratelimit.rules import Rules

ITEM = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)";(\w)=(\d{1,15});(\w)=(\d{1,15})')


def made(rules, *parts, by="redis", word=b"limited"):
    """A decision that says of each rule: remaining, retry_after_ms, reset_in_ms."""
    reply = [word, 1, 2, *(number for part in parts for number in part)]
    return decide(reply, Rules(rules), "api", "u", 1, by=by)


def test_the_fields_of_a_refusal(kit):
    limiter = RateLimiter("api", Rule(100, 60, name="burst"), kit=kit).blocking
    assert header_fields(limiter.check("u", cost=50))["RateLimit-Policy"] == '"burst";q=100;w=60'
    limiter.check("u", cost=50)
    fields = header_fields(limiter.check("u"))
    assert set(fields) == {"Retry-After", "RateLimit-Policy", "RateLimit"}
    assert re.fullmatch(r'"burst";r=0;t=6[0-3]', fields["RateLimit"])
    assert 60 <= int(fields["Retry-After"]) <= 63


def test_an_admitted_request_is_not_told_to_wait():
    decision = made([Rule(100, 60, name="burst")], (50, 0, 29_001), word=b"ok")
    assert header_fields(decision) == {
        "RateLimit-Policy": '"burst";q=100;w=60',
        "RateLimit": '"burst";r=50;t=30',
    }


def test_every_rule_is_an_item():
    rules = [Rule(10, 1, name="burst"), Rule(1000, 3600, burst=50, name="steady")]
    fields = header_fields(made(rules, (0, 51, 1000), (7, 0, 3_000_001)))
    assert fields["RateLimit-Policy"] == '"burst";q=10;w=1, "steady";q=50;w=3600'
    assert fields["RateLimit"] == '"burst";r=0;t=1, "steady";r=7;t=3001'
    assert fields["Retry-After"] == "1"


def test_the_older_fields_on_request():
    fields = header_fields(made([Rule(10, 60)], (0, 1500, 2500)), legacy=True)
    assert (fields["X-RateLimit-Limit"], fields["X-RateLimit-Remaining"], fields["X-RateLimit-Reset"]) == (
        "10",
        "0",
        "3",
    )


@pytest.mark.parametrize(
    ("seconds", "field"), [(0, "1"), (0.001, "1"), (1.0, "1"), (1.001, "2"), (59.999, "60"), (math.inf, None)]
)
def test_retry_after_is_whole_seconds_rounded_up_and_at_least_one(seconds, field):
    assert retry_after_field(seconds) == field


def test_a_wait_without_end_has_no_retry_after():
    decision = made([Rule(10, 60)], (10, -1, 0))
    assert "Retry-After" not in header_fields(decision)
    assert "more than is ever allowed" in problem_body(decision)["detail"]


@pytest.mark.parametrize("by", ["on_error", "exempt"])
def test_what_was_not_counted_names_no_numbers(by):
    assert header_fields(made([Rule(10, 60)], (10, 0, 0), by=by, word=b"ok"), legacy=True) == {}
    assert set(header_fields(made([Rule(10, 60)], (0, 1000, 1000), by=by))) == {"Retry-After"}


@given(st.text(min_size=1, max_size=30).filter(str.strip))
def test_any_name_makes_a_field_that_can_be_read(name):
    fields = header_fields(made([Rule(10, 60, name=name)], (0, 1000, 1000)))
    for field in ("RateLimit-Policy", "RateLimit"):
        assert ITEM.fullmatch(fields[field])
        assert fields[field].isascii()


def test_the_numbers_fit_into_a_structured_field():
    rule = Rule(2**31 - 1, 366 * 86400)
    assert ITEM.fullmatch(header_fields(made([rule], (2**31 - 1, 10**17, 10**17)))["RateLimit"])


def test_the_body_names_the_policies_that_are_violated():
    rules = [Rule(10, 1, name="burst"), Rule(20, 60, name="minute"), Rule(1000, 3600, name="steady")]
    body = problem_body(made(rules, (0, 51, 1000), (0, 4000, 5000), (7, 0, 3_000_001)))
    assert body == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "The limit of 20 is reached. Try again in 4.0 seconds.",
        "violated-policies": ["burst", "minute"],
    }


def test_policies_have_one_name_in_fields_and_body():
    decision = made([Rule(10, 60, name="Größe")], (0, 1000, 1000))
    assert problem_body(decision)["violated-policies"] == ["Gr??e"]
    assert '"Gr??e"' in header_fields(decision)["RateLimit"]


def test_a_refusal_without_redis_does_not_blame_the_client():
    body = problem_body(made([Rule(10, 60)], (0, 1000, 1000), by="on_error"))
    assert body["type"] == "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
    assert "violated-policies" not in body
