"""`sync-kit status`, `pause` and `resume`."""

from __future__ import annotations

import json
import signal

import pytest


def test_it_tells_how_many_jobs_there_are_as_aligned_plain_text(app, tasks):
    for number in range(12):
        tasks.send(str(number))
    tasks.send("later", delay=60)
    tasks.events.blocking.send(1)
    ran = app.run("status", "tasks:jobs", "tasks:events")
    assert ran.returncode == 0, ran.stderr
    assert "\x1b" not in ran.stdout
    heads, notes, events, nobody = ran.stdout.splitlines()
    assert heads.split() == "QUEUE WAITING DELAYED ACTIVE COMPLETED FAILED CANCELLED PARKED OLDEST".split()
    assert notes.split()[:8] == "notes 12 1 0 0 0 0 0".split()
    assert events.split()[:8] == "events 1 0 0 0 0 0 0".split()
    assert nobody == "no worker is there"
    assert notes.index("12") + 2 == events.index("1") + 1 == heads.index("WAITING") + len("WAITING")


def test_json_tells_it_all(app, tasks):
    tasks.send("now")
    tasks.jobs.blocking.pause()
    ran = app.run("status", "tasks:jobs", "--json")
    (queue,) = json.loads(ran.stdout)["queues"]
    assert (queue["queue"], queue["target"], queue["kind"]) == ("notes", "tasks:jobs", "jobs")
    assert (queue["waiting"], queue["paused"], queue["workers"], queue["suspects"]) == (1, True, [], 0)
    assert 0 <= queue["oldest"] < 30


def test_it_shows_workers(app, tasks):
    with app.start("worker", "tasks:jobs", "--concurrency", "3") as worker:
        worker.says("started")
        tasks.reach(tasks.send("hello"), "completed")
        ran = app.run("status", "tasks:jobs")
        told = json.loads(app.run("status", "tasks:jobs", "--json").stdout)["queues"][0]["workers"]
    assert str(worker.process.pid) in ran.stdout
    assert "0 of 3" in ran.stdout
    assert [(each["pid"], each["concurrency"], each["healthy"]) for each in told] == [(worker.process.pid, 3, True)]


def test_watching_through_a_pipe_prints_block_after_block_until_ctrl_c(app, tasks):
    with app.start("status", "tasks:jobs", "--every", "0.1") as watching:
        watching.says("QUEUE", times=2)
        tasks.send("one")
        watching.says("notes        1")
        watching.process.send_signal(signal.SIGINT)
        assert watching.ends() == 0
    assert "Traceback" not in watching.said
    assert "\x1b" not in watching.said


def test_watching_as_json_prints_one_object_a_line(app, tasks):
    with app.start("status", "tasks:jobs", "--every", "0.1", "--json") as watching:
        watching.says('"waiting"', times=3)
        watching.process.send_signal(signal.SIGINT)
        assert watching.ends() == 0
    assert [json.loads(line)["queues"][0]["waiting"] for line in watching.said.splitlines()][:2] == [0, 0]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_watching_through_a_pipe_outlives_an_outage(app, own_server, form):
    server = own_server()
    app.environment["REDIS_URL"] = server.url
    with app.start("status", "tasks:jobs", "--every", "0.1", *form) as watching:
        watching.says("notes")
        server.kill()
        watching.says("is not reachable")
        server.start()
        before = watching.said.count("notes")
        watching.says("notes", times=before + 2)
        watching.process.send_signal(signal.SIGINT)
        assert watching.ends() == 0


def test_a_queue_is_paused_and_goes_on(app, tasks):
    first, again = app.run("pause", "tasks:jobs", "tasks:events"), app.run("pause", "tasks:jobs")
    assert first.stdout == (
        "queue notes is paused; undo it with: sync-kit resume tasks:jobs\n"
        "queue events is paused; undo it with: sync-kit resume tasks:events\n"
    )
    assert again.stdout.startswith("queue notes was paused already")
    assert "paused" in app.run("status", "tasks:jobs").stdout
    assert app.run("resume", "tasks:jobs").stdout == "queue notes goes on\n"
    assert app.run("resume", "tasks:jobs").stdout == "queue notes was not paused\n"
    assert app.run("resume", "tasks:events").stdout == "queue events goes on\n"
    assert "paused" not in app.run("status", "tasks:jobs").stdout
