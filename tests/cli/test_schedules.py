"""`sync-kit schedules ...`, and schedules in `status` and `doctor`."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import wait_for


@pytest.fixture
def declared(app, tasks):
    """A worker has made the schedules of the app known; it has ended."""
    with app.start("worker", "tasks:rare") as worker:
        worker.says("started")
        wait_for(lambda: len(listed(app)) == 2, "the schedules")


def listed(app):
    ran = app.run("schedules", "list", "tasks:rare", "--json")
    assert ran.returncode == 0, ran.stderr
    return {each["name"]: each for each in json.loads(ran.stdout)["schedules"]}


def test_a_list_tells_rules_and_times(app, declared):
    ran = app.run("schedules", "list", "tasks:rare")
    heads, hourly, nightly = ran.stdout.splitlines()
    assert heads.split() == "NAME TASK RULE RUNS LAST NEXT".split()
    assert hourly.split()[:6] == "hourly hourly every 1 h 0".split()
    assert "(in 59 min" in hourly
    assert "cron 0 3 * * * Europe/Berlin" in nightly
    assert listed(app)["hourly"]["interval"] == 3600
    assert app.run("schedules", "list", "tasks:jobs").stdout.splitlines()[-1] == "there are none"


def test_one_is_paused_and_goes_on(app, declared):
    assert app.run("schedules", "pause", "tasks:rare", "hourly").stdout == "hourly is paused\n"
    assert listed(app)["hourly"]["paused"] is True
    again = app.run("schedules", "pause", "tasks:rare", "hourly")
    assert again.returncode == 1
    assert again.stderr == "sync-kit: hourly: there is no such schedule, or it is paused already\n"
    status = app.run("status", "tasks:rare").stdout.splitlines()
    assert [line.split()[-1] for line in status if line.startswith("hourly")] == ["paused"]
    assert app.run("schedules", "resume", "tasks:rare", "hourly", "nightly").returncode == 1
    assert listed(app)["hourly"]["paused"] is False


def test_one_runs_now_and_its_timetable_stays(app, declared):
    before = listed(app)["hourly"]["next_at"]
    ran = app.run("schedules", "run", "tasks:rare", "hourly")
    assert ran.returncode == 0
    job = ran.stdout.removeprefix("hourly runs now, as job ").strip()
    assert job in app.run("jobs", "list", "tasks:rare", "--status", "waiting").stdout
    assert listed(app)["hourly"]["next_at"] == before


def test_one_is_deleted(app, declared):
    ran = app.run("schedules", "delete", "tasks:rare", "hourly", "nobody")
    assert (ran.returncode, ran.stdout) == (1, "hourly is deleted\n")
    assert ran.stderr == "sync-kit: nobody: there is no such schedule\n"
    assert set(listed(app)) == {"nightly"}


def test_the_doctor_tells_of_one_that_is_late(app, tasks, declared, server, namespace):
    server.client().zadd(f"{namespace}:q:{{rare}}:timetable", {"hourly": 1_000_000_000_000})
    assert "schedule hourly should have run" in app.run("doctor", "tasks:rare").stdout


def test_the_doctor_wants_a_worker_for_schedules_and_fails_when_one_is_overdue(app, tasks, declared, server, namespace):
    ran = app.run("doctor", "tasks:rare")
    assert ran.returncode == 0
    assert "2 scheduled, and no worker" in ran.stdout
    server.client().zadd(f"{namespace}:q:{{rare}}:timetable", {"hourly": 1_000_000_000_000})
    ran = app.run("doctor", "tasks:rare")
    assert ran.returncode == 1
    assert "overdue: schedule hourly, and no worker" in ran.stdout


@pytest.mark.parametrize("stored", [b"hourly\n{}\n{}", b"hourly", b"\xff\n{}\n"])
def test_one_that_cannot_be_read_is_told_by_name(app, tasks, declared, server, namespace, stored):
    server.client().hset(f"{namespace}:q:{{rare}}:schedules", "hourly", stored)
    assert "schedules that cannot be read here: hourly -> " in " ".join(app.run("doctor", "tasks:rare").stdout.split())
    assert app.run("schedules", "list", "tasks:rare").stdout.splitlines()[-1] == "cannot be read here: hourly"
    told = json.loads(app.run("schedules", "list", "tasks:rare", "--json").stdout)
    assert (told["unreadable"], [each["name"] for each in told["schedules"]]) == (["hourly"], ["nightly"])
