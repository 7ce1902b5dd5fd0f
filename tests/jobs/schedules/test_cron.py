"""When a cron expression is due, the changes of the clocks included."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_kit import ConfigurationError
from sync_kit.jobs.schedules.rules import Calendar, make_calendar
from tests.jobs.schedules.brute import changes, due, seconds

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
every_zone = pytest.mark.parametrize("zone", ZONES)
NOW = 1_800_000_000_000


def slots(cron: str, zone: str, since: int, until: int) -> list[int]:
    """What the rule says of [since, until), in epoch seconds."""
    rule, found, last = Calendar(cron, zone), [], since * 1000 - 1
    while (last := rule.following(last, 0)) < until * 1000:
        found.append(last // 1000)
    return found


def at(*moment: int, zone: str = "UTC", fold: int = 0) -> int:
    return int(datetime(*moment, tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)  # type: ignore[arg-type,misc]


@every_zone
@pytest.mark.parametrize("cron", ["30 2 * * *", "15 1,2,3 28-31 * 0"])
def test_five_years_minute_by_minute(zone, cron):
    since, until = seconds(2026), seconds(2031)
    assert slots(cron, zone, since, until) == [*due(cron, zone, since, until)]


@every_zone
@pytest.mark.parametrize(
    "cron",
    [
        "0 * * * *",
        "*/15 * * * *",
        "*/30 1-3 * * *",
        "0,30 2-3 * * *",
        "10 */2 * * *",
        "5 2 * * *",
        "59 1 * * *",
        "0-9 3 * * *",
    ],
)
def test_every_change_of_the_clocks_from_2026_to_2030(zone, cron):
    found = changes(zone, 2026, 2030)
    assert len(found) == 10
    for change in found:
        since, until = change - 14400, change + 14400
        assert slots(cron, zone, since, until) == [*due(cron, zone, since, until)]


@every_zone
@pytest.mark.parametrize("cron", ["30 15 2 * * *", "0,20 30 1 * * *", "*/20 */10 * * * *", "59 59 1,2 * * *"])
def test_expressions_with_seconds_do_the_same(zone, cron):
    for change in changes(zone, 2026, 2027):
        since, until = change - 4500, change + 4500
        assert slots(cron, zone, since, until) == [*due(cron, zone, since, until, step=1)]


def test_a_time_that_is_skipped_runs_right_after_the_gap():
    before = at(2026, 3, 28, 12)
    assert Calendar("30 2 * * *", "Europe/Berlin").following(before, 0) == at(2026, 3, 29, 1)
    assert Calendar("15 30 2 * * *", "Europe/Berlin").following(before, 0) == at(2026, 3, 29, 1)


def test_a_time_that_comes_twice_runs_once():
    rule = Calendar("30 2 * * *", "Europe/Berlin")
    first = rule.following(at(2026, 10, 24, 12), 0)
    assert first == at(2026, 10, 25, 2, 30, zone="Europe/Berlin")
    assert rule.following(first, 0) == at(2026, 10, 26, 2, 30, zone="Europe/Berlin")


@every_zone
@pytest.mark.parametrize("cron", ["45 2 * * *", "0 45 1 * * *", "*/7 * * * *", "@hourly"])
def test_the_next_slot_is_always_later(zone, cron):
    rule = make_calendar(cron, zone)
    for change in changes(zone, 2026, 2028):
        for second in range(change - 7200, change + 7200, 101):
            assert rule.following(second * 1000 + 500, 0) > second * 1000 + 500


@given(start=st.integers(NOW, NOW + 10**11), late=st.integers(0, 10**10), zone=st.sampled_from(ZONES))
def test_the_newest_slot_is_the_last_one_that_is_due(start, late, zone):
    rule = Calendar("7 3 * * 1", zone)
    slot = rule.following(start, 0)
    newest = rule.newest(slot, slot + late, 0)
    assert slot <= newest <= slot + late < rule.following(newest, 0)


def test_the_newest_of_a_hundred_million_slots_is_found_at_once():
    rule, years = Calendar("* * * * * *", "UTC"), 100_000_000_000
    assert rule.newest(NOW, NOW + years + 1, 0) == NOW + years


def test_a_day_that_comes_every_four_years_is_found():
    assert Calendar("* 5 29 2 *", "Europe/Berlin").following(at(2028, 3, 1), 0) == at(2032, 2, 29, 4)


@pytest.mark.parametrize(
    ("nickname", "cron"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ],
)
def test_nicknames(nickname, cron):
    since, until = seconds(2026), seconds(2027, 1, 9)
    assert slots(nickname, "Europe/Berlin", since, until) == slots(cron, "Europe/Berlin", since, until) != []


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4 *", "0 0 31 2,4,6 *", "0 0 0 30 2 *"])
def test_a_date_that_never_comes_is_refused_at_once(cron):
    with pytest.raises(ConfigurationError, match="cannot be used"):
        make_calendar(cron, None)


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "a * * * *",
        "@often",
        "*/0 * * * *",
        "5-1 * * * *",
        "* * * * MON#1/2",
    ],
)
def test_a_wrong_expression_is_refused_at_once(cron):
    with pytest.raises(ConfigurationError, match="five fields"):
        make_calendar(cron, None)


@pytest.mark.parametrize("tz", ["Europe/Atlantis", "../etc/passwd", "", "Berlin\0"])
def test_an_unknown_time_zone_is_refused_at_once(tz):
    with pytest.raises(ConfigurationError, match="tzdata"):
        make_calendar("* * * * *", tz)


@pytest.mark.parametrize("tz", [ZoneInfo("Europe/Berlin"), "Europe/Berlin"])
def test_a_time_zone_is_a_name_or_a_zone(tz):
    assert make_calendar("0 3 * * *", tz) == Calendar("0 3 * * *", "Europe/Berlin")


def test_without_a_time_zone_it_is_utc():
    assert make_calendar("0 3 * * *", None) == make_calendar("0 3 * * *", timezone.utc)


@pytest.mark.parametrize("tz", [2, timezone(timedelta(hours=1))])
def test_what_is_no_time_zone_is_refused(tz):
    with pytest.raises(ConfigurationError, match="tz must be"):
        make_calendar("0 3 * * *", tz)
