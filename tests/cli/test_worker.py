"""`sync-kit worker`: signals, the check for containers, and starting again when code changes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import APP, ROOT, wait_for

RELOADER = """
import sys
from pathlib import Path
from sync_kit.cli import reload
"""
IMPATIENT = f"""{RELOADER}
reload.GRACE = 0.2
sys.exit(reload.Reloader(["worker", *sys.argv[1:]], 0.2).run())
"""
DYING = f"""{RELOADER}
class Dying(reload.Reloader):
    def _changed(self, seen):
        assert not Path("die").exists()
sys.exit(Dying(["worker", *sys.argv[1:]], 20).run())
"""
BOTH = ["tasks:jobs", "tasks:other"]


def test_it_says_loudly_what_it_is_and_never_a_password(app, own_server):
    server = own_server(password="hush-hush")
    app.environment["REDIS_URL"] = server.url
    with app.start("worker", "tasks:jobs", "tasks:handled", "--concurrency", "3") as worker:
        said = worker.says("started")
    place = f"127.0.0.1:{server.port}/0 (namespace '{app.environment['NAMESPACE']}')"
    assert f"sync-kit: worker on {place}, concurrency 3: notes (block, write), events (messages)\n" in said
    assert "hush" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_runs_jobs_and_messages_of_several_queues(app, tasks, loop):
    with app.start("worker", "tasks:jobs", "tasks:handled", "--loop", loop) as worker:
        worker.says("started")
        tasks.send("hello")
        tasks.events.blocking.send(7)
        worker.says("wrote hello")
        worker.says("event 7")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_runs_end(app, tasks, number):
    with app.start("worker", "tasks:jobs") as worker:
        worker.says("started")
        job, later = tasks.send("long", seconds=1), None
        worker.says("begins long")
        worker.process.send_signal(number)
        worker.says("draining")
        later = tasks.send("later")
        assert worker.ends() == 0
        assert "wrote long" in worker.said
    assert tasks.status(job) == "completed"
    assert tasks.status(later) == "waiting"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_second_signal_hands_back_what_runs(app, tasks, loop):
    with app.start("worker", "tasks:jobs", "--loop", loop) as worker:
        worker.says("started")
        job = tasks.send("endless", seconds=1000)
        worker.says("begins endless")
        worker.process.send_signal(signal.SIGINT)
        worker.says("draining")
        worker.process.send_signal(signal.SIGINT)
        assert worker.ends() == 0
        assert "Traceback" not in worker.said
    assert tasks.status(job) == "waiting"
    assert tasks.jobs.blocking.get(job).attempts == 0


def test_a_third_signal_ends_a_process_that_waits_for_a_thread(app, tasks):
    with app.start("worker", "tasks:jobs") as worker:
        worker.says("started")
        tasks.block.blocking.send(text="thread", seconds=1000)
        worker.says("begins thread")
        worker.process.send_signal(signal.SIGINT)
        worker.says("draining")
        worker.process.send_signal(signal.SIGINT)
        worker.says("handed back")
        worker.process.send_signal(signal.SIGINT)
        assert worker.ends() == -signal.SIGINT


def test_the_check_is_0_with_a_worker_of_this_host_and_1_without(app, tasks):
    without = app.run("worker", "tasks:jobs", "--check")
    with app.start("worker", "tasks:jobs") as worker:
        worker.says("started")
        tasks.reach(tasks.send("hello"), "completed")
        wait_for(lambda: tasks.jobs.blocking.workers(), "the record of the worker")
        with_one, for_two = (app.run("worker", *targets, "--check") for targets in (["tasks:jobs"], BOTH))
    after = app.run("worker", "tasks:jobs", "--check")
    assert without.returncode == 1
    assert without.stderr.startswith("sync-kit: queue 'notes': no worker of host")
    assert (with_one.returncode, with_one.stderr) == (0, "")
    assert with_one.stdout.startswith("ok: ")
    assert for_two.returncode == 1
    assert "queue 'other'" in for_two.stderr
    assert "queue 'notes'" not in for_two.stderr
    assert after.returncode == 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"host": "elsewhere"}, "no worker of host .*; 1 on other hosts"),
        ({"healthy": False}, "has a thread that is stuck"),
        ({"lag": 31.0}, "event loop that did not run for 31 s"),
        ({}, None),
    ],
)
def test_the_check_minds_host_health_and_lag(app, tasks, said, reason):
    from sync_kit.queue.info import record

    usual = record(running=[], tasks=[], concurrency=1, lag=0.0, healthy=True, started_at=0.0)
    told = {**json.loads(usual), **said}
    kit = tasks.jobs.kit
    kit.run_blocking(tasks.jobs.engine.attend_flow("w", json.dumps(told).encode()), "attend")
    ran = app.run("worker", "tasks:jobs", "--check")
    assert ran.returncode == (1 if reason else 0)
    assert re.search(reason or "^$", ran.stderr)


def test_the_check_is_1_when_redis_is_away(app):
    ran = app.run("worker", "tasks:jobs", "--check", REDIS_URL="redis://127.0.0.1:1/0")
    assert ran.returncode == 1
    assert "not reachable" in ran.stderr


def test_reload_starts_again_when_code_changes_and_lets_jobs_end(app, tasks):
    with app.start("worker", "tasks:jobs", "--reload") as worker:
        worker.says("started")
        tasks.send("old", seconds=1.5)
        worker.says("begins old")
        app.write("tasks.py", APP.replace("wrote", "newly wrote"))
        worker.says("tasks.py changed")
        worker.says("started", times=2)
        assert "wrote old" in worker.said
        tasks.send("new")
        worker.says("newly wrote new")
        worker.process.terminate()
        assert worker.ends() == 0
    assert worker.said.count("stopped") == 2


def test_reload_waits_for_the_next_change_while_the_code_is_broken(app, tasks):
    app.write("tasks.py", "1 / 0\n")
    with app.start("worker", "tasks:jobs", "--reload") as worker:
        worker.says("ended with exit code 2: waiting for a change")
        assert "ZeroDivisionError" in worker.said
        app.write("tasks.py", APP)
        worker.says("started")
        app.write("tasks.py", "import nothing_like_this\n")
        worker.says("waiting for a change", times=2)
        app.write("tasks.py", APP + "# better\n")
        worker.says("started", times=2)


def test_reload_passes_both_signals_on(app, tasks):
    with app.start("worker", "tasks:jobs", "--reload") as worker:
        worker.says("started")
        job = tasks.send("endless", seconds=1000)
        worker.says("begins endless")
        worker.process.send_signal(signal.SIGINT)
        worker.says("draining")
        worker.process.send_signal(signal.SIGINT)
        assert worker.ends() == 0
    assert tasks.status(job) == "waiting"


def test_reload_says_that_a_change_waits_and_then_hands_back_and_kills(app, tasks):
    app.write("impatient.py", IMPATIENT)
    command = [sys.executable, "impatient.py", "tasks:jobs", "--drain-timeout", "1000"]
    with app.start_other(command) as worker:
        worker.says("started")
        tasks.block.blocking.send(text="thread", seconds=1000)
        worker.says("begins thread")
        app.write("tasks.py", APP + "# better\n")
        worker.says("tasks.py changed")
        worker.says("has not ended in 0.4 s: what still runs is handed back")
        worker.says("in 0.2 s more and is killed")
        worker.says("started", times=2)


def test_reload_leaves_no_child_behind_when_it_dies(app, tasks):
    app.write("dying.py", DYING)
    with app.start_other([sys.executable, "dying.py", "tasks:jobs"]) as worker:
        worker.says("started")
        (app.folder / "die").touch()
        assert worker.ends() != 0
        assert worker.said.count("stopped") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--concurrency", "0"], "concurrency must be from 1"),
        (["--poll-interval", "0"], "poll_interval must be"),
        (["--drain-timeout", "-1"], "drain_timeout must be"),
        (["--loop", "trio"], "--loop must be one of"),
        (["--log-level", "loud"], "--log-level must be one of"),
        (["tasks.py:jobs"], "did you mean 'tasks:jobs'"),
        (["tasks"], "'tasks' names no attribute"),
    ],
)
def test_reload_does_not_wait_when_no_change_of_code_can_help(app, words, said):
    ran = app.run("worker", "tasks:jobs", "--reload", *words)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "watching" not in ran.stderr


def test_files_whose_time_cannot_be_seen_are_passed_over(tmp_path):
    from sync_kit.cli.reload import _python_files

    (tmp_path / "good.py").touch()
    (tmp_path / "round.py").symlink_to("round.py")
    (tmp_path / "nowhere.py").symlink_to("not-there.py")
    assert [path.name for path, _ in _python_files(tmp_path)] == ["good.py"]


def test_the_check_is_1_when_redis_refuses(app, own_server):
    server = own_server("--user", "app", "on", ">hush-hush", "~*", "+@all", "-eval", "-evalsha")
    ran = app.run("worker", "tasks:jobs", "--check", REDIS_URL=f"redis://app:hush-hush@127.0.0.1:{server.port}/0")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "refused" in ran.stderr
    assert "hush" not in ran.stderr


def test_files_of_virtual_environments_and_hidden_folders_are_not_watched(tmp_path):
    from sync_kit.cli.reload import _python_files

    for name in ("app/a.py", "env/pyvenv.cfg", "env/lib/b.py", ".git/c.py", "__pycache__/d.py", "app/e.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [path.name for path, _ in _python_files(tmp_path)] == ["a.py"]


def test_it_works_as_a_console_script_too(app, tasks):
    code = "import sys; sys.argv = ['sync-kit', 'status', 'tasks:jobs']; from sync_kit.cli import main; main()"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    ran = subprocess.run(command, cwd=app.folder, env=app.environment, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    assert "notes" in ran.stdout
