"""What a schedule is made of, and which of its slots fire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sync_kit.errors import ConfigurationError
from sync_kit.jobs.schedules.rules import Interval, Rule, make_calendar, make_interval, read_rule
from sync_kit.jobs.versions import read_kind
from sync_kit.options import choice, name_sent, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

Missed = Literal["newest", "all", "skip"]

MISSED = ("newest", "all", "skip")
LATE = 60_000
"""Milliseconds after which a slot is missed, for `missed="skip"`."""
MOST_NAME = 200
MOST = 100
"""Slots that fire in one call at most, for `missed="all"`."""
TIMING = ("interval", "cron", "tz", "start_immediately", "missed", "overlap")


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule is due, and what becomes of slots that are missed or come too early."""

    rule: Rule
    missed: str = "newest"
    overlap: bool = False
    start_immediately: bool = False
    name: str | None = None


def read_timing(where: str, given: Mapping[str, Any], once: Mapping[str, Any] | None = None) -> Timing | None:
    """Check the options of a schedule (those of `TIMING`, `name`); None if there are none.

    `once`: options of a job that is sent a single time. Raises `ConfigurationError`.
    """
    said = {name: value for name, value in given.items() if value is not None}
    if not said:
        return None
    if any(value is not None for value in (once or {}).values()):
        raise ConfigurationError(f"{where} takes delay= or at= for one job, interval= or cron= for many, not both")
    if ("interval" in said) == ("cron" in said):
        raise ConfigurationError(f"{where} takes interval= or cron= for a schedule (not both), with {', '.join(said)}")
    if "tz" in said and "cron" not in said:
        raise ConfigurationError(f"{where} takes tz= with cron= only: an interval knows no time zone")
    return Timing(
        make_interval(said["interval"]) if "interval" in said else make_calendar(said["cron"], said.get("tz")),
        choice("missed", said.get("missed", "newest"), MISSED),
        _flag("overlap", said),
        _flag("start_immediately", said),
        _name(said["name"]) if "name" in said else None,
    )


def _name(given: object) -> str:
    name = name_sent("the name of a schedule", given)
    if len(name) > MOST_NAME or not name.isprintable():
        raise ConfigurationError(f"the name of a schedule must be one line of at most {MOST_NAME} characters")
    return name


def _flag(name: str, said: Mapping[str, Any]) -> bool:
    value = said.get(name, False)
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {shown(value)}")
    return value


@dataclass(frozen=True, slots=True)
class Plan:
    """What is stored of a schedule, beside the payload.

    Attributes:
        kind: what the engine calls the task.
        header: the line of the jobs that are sent.
        declared: made by a decorator, and to go when no code has it any more.
        digest: differs when anything of it differs, the payload included.
    """

    name: str
    kind: str
    header: bytes
    rule: Rule
    missed: str
    overlap: bool
    declared: bool
    digest: str

    @property
    def priority(self) -> int:
        """Of the jobs that are sent."""
        return int(json.loads(self.header).get("priority", 0))

    @property
    def interval(self) -> float | None:
        """Seconds between two slots; None for a calendar."""
        return self.rule.every / 1000 if isinstance(self.rule, Interval) else None

    def write(self) -> bytes:
        """As it is stored: the kind, a line of JSON, the header of the jobs."""
        line = json.dumps(self.terms() | {"digest": self.digest}, separators=(",", ":"))
        return b"%b\n%b\n%b" % (self.kind.encode(), line.encode(), self.header)

    def terms(self) -> dict[str, Any]:
        """The rule and its options as plain values."""
        return {
            **self.rule.write(),
            "missed": self.missed,
            "overlap": self.overlap,
            "declared": self.declared,
        }

    def head(self, slot: int | None) -> bytes:
        """What comes before the payload in the record of a job of this schedule, but for its kind."""
        named = json.loads(self.header) | {"schedule": self.name}
        more = {"slot": slot, "interval": self.interval}
        named |= {name: value for name, value in more.items() if value is not None}
        return json.dumps(named, separators=(",", ":")).encode() + b"\n"


@lru_cache(maxsize=1024)
def read_plan(name: str, stored: bytes) -> Plan | None:
    """A plan as it is stored; None if a newer sync_kit wrote it, or it needs a time zone that is not known here."""
    try:
        kind, line, header = stored.split(b"\n", 2)
        said = json.loads(line)
        terms = [said[term] for term in ("missed", "overlap", "declared", "digest")]
        plan = Plan(name, kind.decode(), header, read_rule(said), *terms)
        is_sound = plan.rule.following(0, 0) > 0 and plan.head(0) and plan.priority is not None
        return plan if is_sound and plan.missed in MISSED else None
    except Exception:  # whatever is odd about it
        return None


class Draft(NamedTuple):
    """A schedule on its way into Redis."""

    plan: Plan
    payload: bytes
    start_immediately: bool


def draft(timing: Timing, kind: str, header: bytes, payload: bytes, identity: bytes, *, declared: bool) -> Draft:
    """A schedule as it is to be stored. It is named after its task if it is declared, else after the payload, too.

    `identity` is what tells payloads apart: the payload itself may be written in more than one way.
    """
    task = read_kind(kind)[0]
    name = timing.name or (task if declared else f"{task}:{_digest(identity)}")
    bare = Plan(name, kind, header, timing.rule, timing.missed, timing.overlap, declared, "")
    digest = _digest(bare.write(), identity)
    plan = Plan(name, kind, header, timing.rule, timing.missed, timing.overlap, declared, digest)
    return Draft(plan, payload, timing.start_immediately)


def _digest(*parts: bytes) -> str:
    return blake2b(b"\0".join(parts), digest_size=8).hexdigest()


class Turn(NamedTuple):
    """What is known of the turns of a schedule (milliseconds, 0 for none).

    Attributes:
        revision: replaced by every change of the schedule.
        anchor: from when intervals are counted.
        last: the last slot that fired.
        runs: how many did.
        job: the last job, `-` for none.
    """

    revision: str
    anchor: int
    last: int
    runs: int
    paused: bool
    job: str

    @classmethod
    def read(cls, stored: bytes) -> Turn:
        """From what a script answers."""
        revision, anchor, last, runs, paused, job = stored.decode().split()
        return cls(revision, int(anchor), int(last), int(runs), paused == "1", job)


class Firing(NamedTuple):
    """Slots that fire, if any, and the next one."""

    slots: list[int]
    following: int


def fires(plan: Plan, anchor: int, slot: int, now: int, *, busy: bool) -> Firing | None:
    """What becomes of a slot that is due, and of later ones that are; None: it stays due until the last run ended."""
    rule = plan.rule
    if busy and plan.missed != "skip":
        return None
    if plan.missed == "all":
        slots = _each(plan, anchor, slot, now)
        return Firing(slots, rule.following(slots[-1], anchor))
    newest = rule.newest(slot, now, anchor)
    passes = plan.missed == "skip" and (busy or now - newest > LATE)
    return Firing([] if passes else [newest], rule.following(newest, anchor))


def _each(plan: Plan, anchor: int, slot: int, now: int) -> list[int]:
    """The slots that are due, the oldest first; only that one if the next has to wait until its run ended."""
    slots: list[int] = []
    while slot <= now and len(slots) < (MOST if plan.overlap else 1):
        slots.append(slot)
        slot = plan.rule.following(slot, anchor)
    return slots
