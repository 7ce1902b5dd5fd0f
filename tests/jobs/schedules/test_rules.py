"""Which slots there are, and which of those that are due fire."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_kit import ConfigurationError
from sync_kit.jobs.schedules.plan import Firing, Plan, draft, fires, read_plan, read_timing
from sync_kit.jobs.schedules.rules import Interval, make_interval

NOW = 1_800_000_000_000
times = st.integers(NOW, NOW + 10**12)
intervals = st.integers(50, 10**9)


def plan(missed="newest", overlap=False, every=1000):
    return Plan("p", "task", b'{"retries":0}\n', Interval(every), missed, overlap, False, "")


@given(anchor=times, after=times, every=intervals)
def test_slots_of_an_interval_are_whole_intervals_from_the_anchor(anchor, after, every):
    slot = Interval(every).following(after, anchor)
    assert (slot - anchor) % every == 0
    assert after < slot <= after + every


@given(anchor=times, count=st.integers(0, 1000), late=st.integers(0, 10**10), every=intervals)
def test_the_newest_slot_of_an_interval_is_the_last_one_that_is_due(anchor, count, late, every):
    slot = anchor + count * every
    newest = Interval(every).newest(slot, slot + late, anchor)
    assert slot <= newest <= slot + late < newest + every
    assert (newest - anchor) % every == 0


@pytest.mark.parametrize(
    ("missed", "overlap", "late", "busy", "expected"),
    [
        ("newest", False, 0, False, Firing([NOW], NOW + 1000)),
        ("newest", False, 3500, False, Firing([NOW + 3000], NOW + 4000)),
        ("newest", False, 3500, True, None),
        ("all", True, 2000, False, Firing([NOW, NOW + 1000, NOW + 2000], NOW + 3000)),
        ("all", False, 2000, False, Firing([NOW], NOW + 1000)),
        ("all", False, 2000, True, None),
        ("all", True, 10**9, False, Firing([NOW + 1000 * n for n in range(100)], NOW + 100_000)),
        ("skip", False, 0, False, Firing([NOW], NOW + 1000)),
        ("skip", False, 3500, False, Firing([NOW + 3000], NOW + 4000)),
        ("skip", False, 0, True, Firing([], NOW + 1000)),
    ],
)
def test_what_fires_of_the_slots_that_are_due(missed, overlap, late, busy, expected):
    assert fires(plan(missed, overlap), NOW, NOW, NOW + late, busy=busy) == expected


@pytest.mark.parametrize(("late", "slots"), [(60_000, [NOW]), (60_001, [])])
def test_skip_passes_over_a_slot_that_is_a_minute_late(late, slots):
    hourly = plan("skip", every=3_600_000)
    assert fires(hourly, NOW, NOW, NOW + late, busy=False) == Firing(slots, NOW + 3_600_000)


@pytest.mark.parametrize("interval", [0, 0.049, -1, float("nan"), "5", True, timedelta(milliseconds=10)])
def test_a_wrong_interval_is_refused(interval):
    with pytest.raises(ConfigurationError, match="interval must be"):
        make_interval(interval)


def test_an_interval_may_be_a_timedelta():
    assert make_interval(timedelta(minutes=1)) == make_interval(60) == Interval(60_000)


def test_a_plan_that_was_stored_reads_the_same():
    timing = read_timing("x", {"cron": "0 3 * * *", "tz": "Europe/Berlin", "missed": "all", "overlap": True})
    assert timing is not None
    made = draft(timing, "task", b'{"retries":1}\n', b"{}", b"{}", declared=True).plan
    assert read_plan("task", made.write()) == made


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"task\n{}\n{}",
        b"task\nnonsense\n{}",
        b'task\n{"every":1,"missed":"twice","overlap":true,"declared":true,"digest":""}\n{}',
    ],
)
def test_a_plan_that_cannot_be_read_is_none(stored):
    assert read_plan("task", stored) is None


def test_a_plan_of_a_time_zone_that_is_not_known_here_is_none():
    stored = (
        b'task\n{"cron":"* * * * *","tz":"Mars/North","missed":"all","overlap":true,"declared":true,"digest":""}\n{}'
    )
    assert read_plan("task", stored) is None
