"""A decision in the words of HTTP: header fields and the body of a refusal. Knows no framework.

Sources: `Retry-After` RFC 9110 section 10.2.3, structured fields RFC 9651, problem details RFC 9457, and
`RateLimit`, `RateLimit-Policy` and the problem types draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit.ratelimit.decision import Decision
    from sync_kit.ratelimit.rule import Rule

__all__ = ["FIELDS", "PROBLEM_TYPE", "header_fields", "joined_fields", "problem_body", "retry_after_field"]

PROBLEM_TYPE = "application/problem+json"
"""The media type of `problem_body`."""

FIELDS = (
    *("Retry-After", "RateLimit-Policy", "RateLimit"),
    *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
)
"""Every field that there may be."""

_TYPES = "https://iana.org/assignments/http-problem-types#"
_MOST = 999_999_999_999_999
"""The biggest integer of a structured field."""
_UNCOUNTED = ("on_error", "exempt")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def header_fields(decision: Decision, *, legacy: bool = False) -> dict[str, str]:
    """The response fields that tell a client of its limits.

    Always `RateLimit-Policy` (what is allowed: `"burst";q=100;w=60`) and `RateLimit` (what is left:
    `"burst";r=50;t=30`), with an item for each rule; on a refusal `Retry-After`. A decision that was made
    without counting (`on_error`, `exempt`) knows no numbers: then there is at most `Retry-After`.

    Args:
        legacy: also `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds from now) of the deciding rule.
    """
    return joined_fields((decision,), legacy=legacy)


def joined_fields(decisions: Sequence[Decision], *, legacy: bool = False) -> dict[str, str]:
    """The `header_fields` of several decisions on one request, in one: an item for each rule of each of them.

    Numbers that have room for one decision only are those of a refusal, else of the one with the least left.
    """
    policies, left, counted, times = [], [], [], _Times()
    fields: dict[str, str] = _refused(decisions)
    for decision in decisions:
        if decision.decided_by not in _UNCOUNTED:
            counted.append(decision)
            for rule, remaining, reset in decision.left():
                name, policy = _texts(rule, times.more(rule.name))
                policies.append(policy)
                left.append(f"{name};r={min(remaining, _MOST)};t={min(-(-reset // 1000), _MOST)}")
    if counted:
        fields["RateLimit-Policy"], fields["RateLimit"] = ", ".join(policies), ", ".join(left)
        if legacy:
            fields.update(_legacy(counted))
    return fields


def _refused(decisions: Sequence[Decision]) -> dict[str, str]:
    waits = [decision.retry_after for decision in decisions if not decision.allowed]
    after = retry_after_field(max(waits)) if waits else None
    return {} if after is None else {"Retry-After": after}


def _legacy(decisions: Sequence[Decision]) -> dict[str, str]:
    tightest = min(decisions, key=lambda decision: (decision.allowed, decision.remaining))
    return {
        "X-RateLimit-Limit": str(tightest.limit),
        "X-RateLimit-Remaining": str(tightest.remaining),
        "X-RateLimit-Reset": _integer(tightest.reset_in),
    }


class _Times(dict[str, int]):
    """How often a name has come: in one field each item has a name of its own."""

    def more(self, name: str) -> int:
        number = self[name] = self.get(name, 0) + 1
        return number


@functools.lru_cache(maxsize=1000)
def _texts(rule: Rule, number: int) -> tuple[str, str]:
    """What the `number`th rule of its name is called, and its item in `RateLimit-Policy`."""
    name = _string(_numbered(rule.name, number))
    return name, f"{name};q={_integer(rule.capacity)};w={_integer(rule.window)}"


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} ({number})"


def retry_after_field(seconds: float) -> str | None:
    """`Retry-After` for a wait: whole seconds, rounded up, at least 1; None for a wait without end."""
    return str(max(1, math.ceil(seconds))) if math.isfinite(seconds) else None


def problem_body(decision: Decision, *, before: Sequence[Decision] = ()) -> dict[str, Any]:
    """The problem (RFC 9457) to answer a refused request with, under status 429 and `PROBLEM_TYPE`.

    Args:
        before: decisions that come before it in `joined_fields`: rules are called here what they are called there.
    """
    if decision.decided_by == "on_error":
        return {
            "type": f"{_TYPES}temporary-reduced-capacity",
            "title": "Too Many Requests",
            "status": 429,
            "detail": f"Limits cannot be counted at the moment. {_again(decision)}",
        }
    times = _Times()
    for other in before:
        for rule, *_ in other.left() if other.decided_by not in _UNCOUNTED else ():
            times.more(rule.name)
    named = [(state, _numbered(state.rule.name, times.more(state.rule.name))) for state in decision.states]
    violated = [_plain(name) for state, name in named if state.retry_after > 0]
    return {
        "type": f"{_TYPES}quota-exceeded",
        "title": "Too Many Requests",
        "status": 429,
        "detail": f"The limit of {decision.limit} is reached. {_again(decision)}",
        "violated-policies": violated,
    }


def _again(decision: Decision) -> str:
    if math.isinf(decision.retry_after):
        return "The request asks for more than is ever allowed."
    return f"Try again in {decision.retry_after:.1f} seconds."


def _string(text: str) -> str:
    """A string of structured fields: printable ASCII in quotes."""
    return '"' + _plain(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(name: str) -> str:
    return _UNPRINTABLE.sub("?", name)


def _integer(number: float) -> str:
    """An integer of structured fields, rounded up: a client that waits so long waits long enough."""
    return str(min(math.ceil(number), _MOST))
