"""Records in Redis that cannot be read cost their own line, and not the whole answer."""

from __future__ import annotations

import json

import pytest

ODD = [b"{}", b"[]", b"null", b"\xff", b"{", b'{"host": 1}']
HEADERS = [b"no json\n{}", b"[]\n{}", b'{"retries": "many"}\n{}', b"", b'{"slot": 99999999999999999999}\n{}']


@pytest.mark.parametrize("said", ODD)
def test_a_worker_record_that_cannot_be_read_is_left_out(app, tasks, said):
    kit, engine = tasks.jobs.kit, tasks.jobs.engine
    kit.run_blocking(engine.attend_flow("odd", said), "attend")
    assert tasks.jobs.blocking.workers() == []
    shown = app.run("status", "tasks:jobs")
    assert shown.returncode == 0
    assert "no worker is there" in shown.stdout
    assert "what worker 'odd' says of itself cannot be read" in shown.stderr
    for words in (["doctor", "tasks:jobs"], ["worker", "tasks:jobs", "--check"]):
        ran = app.run(*words)
        assert ran.returncode == (1 if "--check" in words else 0)
        assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("body", HEADERS)
def test_a_job_that_cannot_be_read_says_so_and_the_others_are_there(app, tasks, server, body):
    good, bad = tasks.send("good"), tasks.send("bad")
    server.client().hset(tasks.jobs.engine.layout.body, bad, b"write\n" + body)
    first, second = tasks.jobs.blocking.list(status="waiting")
    assert (first.id, first.data.text) == (good, "good")
    assert (second.id, second.task, second.data, second.status) == (bad, "write", None, "waiting")
    assert second.error.startswith("unreadable record: ")
    assert tasks.jobs.blocking.get(bad) == second
    assert {job["id"] for job in json.loads(app.run("jobs", "list", "tasks:jobs", "--json").stdout)["jobs"]} == {
        good,
        bad,
    }
    assert "unreadable record" in app.run("jobs", "show", "tasks:jobs", bad).stdout


def test_a_job_with_odd_progress_can_be_looked_at(tasks, server):
    job = tasks.send("good")
    server.client().hset(tasks.jobs.engine.layout.progress, job, b"{")
    assert tasks.jobs.blocking.get(job).error.startswith("unreadable record: ")


def test_what_nobody_foresaw_is_one_line_and_exit_code_2(app, tasks, server):
    job = tasks.send("good")
    server.client().hset(tasks.jobs.engine.layout.state, job, b"one two three four five six seven -")
    ran = app.run("jobs", "show", "tasks:jobs", job)
    assert ran.returncode == 2
    assert ran.stderr.startswith("sync-kit: unexpected ValueError: ")
    assert ran.stderr.count("\n") == 1
