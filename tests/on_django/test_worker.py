"""`manage.py runworker` as a process: signals, crashes, changes of code, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command

import sync_kit
from sync_kit_django import _registry
from sync_kit_django._handlers import clean
from tests.cli.conftest import Tasks, wait_for
from tests.on_django.sites import TASKS, Site


@pytest.fixture
def folder(server, namespace, tmp_path) -> Site:
    return Site(tmp_path, server.url, namespace)


@pytest.fixture
def tasks(kit) -> Tasks:
    """The tasks of the site, to send to and to ask."""
    return Tasks(kit)


def test_it_says_what_it_runs_where_and_how_to_stop_it(folder, tasks, server, namespace):
    with folder.start_worker("--concurrency", "3") as worker:
        said = worker.said
    assert f"Worker on 127.0.0.1:{server.port}/0, namespace '{namespace}'\n" in said
    assert "  notes  block, write\n  other  no tasks\n" in said
    assert f"concurrency 3, at most 3 connections to each database, process {worker.process.pid}\n" in said
    assert "settings 'site_settings'" in said
    assert "CONTROL-C or SIGTERM: running jobs have 20 s to end; again hands them back" in said
    assert "starts again when code changes" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_runs_end(folder, tasks, number):
    with folder.start_worker() as worker:
        job = tasks.send("long", seconds=1)
        worker.says("begins long")
        worker.process.send_signal(number)
        worker.says("draining")
        later = tasks.send("later")
        assert worker.ends() == 0
    assert "wrote long" in worker.said
    assert "Stopped; jobs run: 1." in worker.said
    assert tasks.status(job) == "completed"
    assert tasks.status(later) == "waiting"


def test_a_second_signal_hands_back_what_runs(folder, tasks):
    with folder.start_worker() as worker:
        job = tasks.send("endless", seconds=1000)
        worker.says("begins endless")
        for _ in range(2):
            worker.process.send_signal(signal.SIGTERM)
            worker.says("draining")
        assert worker.ends() == 0
    assert "Traceback" not in worker.said
    assert tasks.status(job) == "waiting"
    assert tasks.jobs.blocking.get(job).attempts == 0


def test_a_third_signal_ends_a_process_that_waits_for_a_thread(folder, tasks):
    with folder.start_worker() as worker:
        tasks.block.blocking.send(text="thread", seconds=1000)
        worker.says("begins thread")
        worker.process.send_signal(signal.SIGINT)
        worker.says("draining")
        worker.process.send_signal(signal.SIGINT)
        worker.says("handed back")
        worker.process.send_signal(signal.SIGINT)
        assert worker.ends() == -signal.SIGINT


def test_the_job_of_a_killed_worker_is_run_by_the_next_one_and_is_not_active_for_ever(folder, tasks):
    with folder.start_worker(TEST_LEASE="1") as worker:
        job = tasks.send("long", seconds=1)
        worker.says("begins long")
        worker.process.kill()
        worker.ends()
    assert tasks.status(job) == "active"
    with folder.start_worker(TEST_LEASE="1") as worker:
        tasks.reach(job, "completed")
        worker.says("wrote long")
    assert "begins long" in worker.said


def test_drain_runs_what_is_due_and_then_ends(folder, tasks):
    jobs = [tasks.send(str(number)) for number in range(30)]
    jobs.append(tasks.block.blocking.send(text="last", seconds=0.3).id)
    later = tasks.send("tomorrow", delay=86400)
    ran = folder.run("runworker", "--drain", "--concurrency", "2")
    assert (ran.returncode, ran.stderr.count("Traceback")) == (0, 0)
    assert {tasks.status(job) for job in jobs} == {"completed"}
    assert tasks.status(later) == "delayed"
    assert "Stopped; jobs run: 31." in ran.stdout


def test_drain_does_not_wait_for_a_queue_that_is_paused(folder, tasks):
    job = tasks.send("one")
    tasks.jobs.blocking.pause()
    assert folder.run("runworker", "--drain").returncode == 0
    assert tasks.status(job) == "waiting"


def test_max_jobs_is_exact_and_ends_when_these_jobs_have(folder, tasks):
    jobs = [tasks.send(str(number), seconds=0.1) for number in range(20)]
    ran = folder.run("runworker", "--max-jobs", "7", "--concurrency", "5")
    assert ran.returncode == 0
    assert ran.stdout.count("begins") == ran.stdout.count("wrote") == 7
    assert sorted(map(tasks.status, jobs)) == ["completed"] * 7 + ["waiting"] * 13


def test_the_check_is_0_with_a_worker_of_this_host_and_1_without(folder, tasks):
    assert folder.run("runworker", "--check").returncode == 1
    with folder.start_worker("--queue", "notes"):
        wait_for(lambda: tasks.jobs.blocking.workers(), "the record of the worker")
        [info] = tasks.jobs.blocking.workers()
        assert set(info.tasks) == {"block", "write"}
        with_one, for_two = (folder.run("runworker", "--check", *words) for words in (["--queue", "notes"], []))
    assert (with_one.returncode, with_one.stderr) == (0, "")
    assert with_one.stdout.startswith("ok: a worker of ")
    assert for_two.returncode == 1
    assert "queue 'other': no worker of host" in for_two.stderr
    assert "queue 'notes'" not in for_two.stderr
    away = folder.run("runworker", "--check", TEST_URL="redis://127.0.0.1:1/0")
    assert away.returncode == 1
    assert "not reachable" in away.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--queue", "note"], "CommandError: there is no queue 'note': did you mean 'notes'? There are notes, other"),
        (["--concurrency", "0"], "CommandError: concurrency must be from 1"),
        (["--max-jobs", "0"], "CommandError: max_jobs must be from 1"),
        (["--drain-timeout", "-1"], "CommandError: drain_timeout must be"),
        (["--reload", "--drain"], "CommandError: --reload starts again and again"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_1(folder, words, said):
    ran = folder.run("runworker", *words)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(said)
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("mode", ["record", "inline"])
def test_a_worker_does_not_start_where_jobs_would_reach_none(folder, tasks, mode):
    more = f'SYNC_KIT["JOBS"] = {{"MODE": "{mode}"}}\n'
    folder.write("site_settings.py", (folder.folder / "site_settings.py").read_text() + more)
    job = tasks.send("hello")
    ran = folder.run("runworker", "--drain")
    assert ran.returncode == 1
    assert f"""SYNC_KIT["JOBS"]["MODE"] is '{mode}', which is for tests""" in ran.stderr
    assert tasks.status(job) == "waiting"


def test_what_an_app_before_this_one_sends_when_it_is_ready_goes_where_the_settings_say(folder, tasks):
    folder.write("early/__init__.py", "")
    ready = "def ready(self):\n        from mailing.tasks import write\n        write.send(text='early')\n"
    app = f"from django.apps import AppConfig\nclass Early(AppConfig):\n    name = 'early'\n    {ready}"
    folder.write("early/apps.py", app)
    more = "INSTALLED_APPS = ['early', *INSTALLED_APPS]\n"
    folder.write("site_settings.py", (folder.folder / "site_settings.py").read_text() + more)
    folder.environment["REDIS_URL"] = "redis://127.0.0.1:1"
    ran = folder.run("runworker", "--drain")
    assert ran.returncode == 0, ran.stderr
    assert "wrote early" in ran.stdout


def test_without_a_queue_it_says_what_to_write_and_where(folder):
    folder.write("mailing/tasks.py", "")
    ran = folder.run("runworker")
    assert ran.returncode == 1
    assert 'CommandError: there is no queue to run: write `jobs = Jobs("mail")`' in ran.stderr


def test_drain_does_not_wait_for_a_server_that_is_away(folder):
    ran = folder.run("runworker", "--drain", TEST_URL="redis://127.0.0.1:1/0")
    assert ran.returncode == 1
    assert "CommandError: " in ran.stderr
    assert "not reachable" in ran.stderr


def test_it_starts_while_the_database_is_away(folder, tasks):
    folder.environment["TEST_POSTGRES"] = "/nowhere 5432 shop shop"
    with folder.start_worker() as worker:
        tasks.reach(tasks.send("hello"), "completed")
    assert "wrote hello" in worker.said


def test_it_starts_while_redis_is_away_and_goes_on_when_that_is_back(folder, tasks, own_server):
    server = own_server()
    server.stop()
    folder.environment["TEST_URL"] = server.url
    with folder.start_worker() as worker:
        worker.says("the worker goes on trying")
        server.start()
        from sync_kit import SyncKit

        kit = SyncKit(server.url, namespace=folder.environment["TEST_NAMESPACE"])
        Tasks(kit).send("hello")
        worker.says("wrote hello")
        kit.close()


def test_settings_say_what_options_do_not(folder, tasks):
    more = 'SYNC_KIT["WORKER"] = {"QUEUES": ["notes"], "CONCURRENCY": 4, "DRAIN_TIMEOUT": 3}\n'
    folder.write("site_settings.py", (folder.folder / "site_settings.py").read_text() + more)
    with folder.start_worker() as worker:
        assert "  notes  block, write\n  concurrency 4, at most 4 connections" in worker.said
        assert "have 3 s to end" in worker.said


@pytest.mark.parametrize(("verbosity", "seen"), [("0", ""), ("1", "started"), ("2", "ended well after")])
def test_verbosity_says_how_much_is_told(folder, tasks, verbosity, seen):
    tasks.send("hello")
    ran = folder.run("runworker", "--drain", "-v", verbosity)
    assert seen in ran.stderr
    assert ("Worker on" in ran.stdout) == (verbosity != "0")
    assert ("ended well after" in ran.stderr) == (verbosity == "2")
    assert verbosity != "0" or ran.stderr == ""


def test_logging_of_the_project_is_left_as_it_is(folder, tasks):
    logging = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "OURS %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "loggers": {"sync_kit": {"handlers": ["console"], "level": "INFO"}},
    }
    folder.write("site_settings.py", (folder.folder / "site_settings.py").read_text() + f"LOGGING = {logging}\n")
    ran = folder.run("runworker", "--drain")
    lines = ran.stderr.splitlines()
    assert lines
    assert all(line.startswith("OURS ") for line in lines)


def test_the_other_name_is_the_same_command(folder, tasks):
    job = tasks.send("hello")
    assert folder.run("synckit_worker", "--drain").returncode == 0
    assert tasks.status(job) == "completed"


@pytest.mark.parametrize("on_thread", [False, True])
def test_code_may_call_it_from_any_thread(kit, monkeypatch, on_thread):
    monkeypatch.setattr(_registry, "_queues", [])
    jobs, ran, out = sync_kit.Jobs("called", kit=kit), [], StringIO()
    jobs.task(schema=int, name="note")(clean(lambda number: ran.append(number)))
    _registry.remember(jobs)
    jobs.named("note").blocking.send(7)

    def call() -> None:
        before = signal.getsignal(signal.SIGINT)
        call_command("runworker", queue="called", drain=True, skip_checks=True, stdout=out)
        assert signal.getsignal(signal.SIGINT) is before

    if on_thread:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(call).result(30)
    else:
        call()
    assert ran == [7]
    assert "Stopped; jobs run: 1." in out.getvalue()


async def call_in_a_loop(function) -> None:
    await function("runworker", drain=True, skip_checks=True, stdout=StringIO())


def test_inside_of_an_event_loop_it_says_what_to_write_and_that_works(kit, monkeypatch):
    monkeypatch.setattr(_registry, "_queues", [])
    jobs = sync_kit.Jobs("called", kit=kit)
    _registry.remember(jobs)

    async def call(*words, **options) -> None:
        call_command(*words, **options)

    with pytest.raises(CommandError, match=r"use `await sync_to_async\(call_command\)\(\"runworker\", ...\)` instead"):
        asyncio.run(call_in_a_loop(call))
    asyncio.run(call_in_a_loop(sync_to_async(call_command)))


def test_what_it_says_at_the_start_is_seen_at_the_start(folder, tasks):
    folder.environment.pop("PYTHONUNBUFFERED", None)
    with folder.start_worker() as worker:
        assert "Worker on" in worker.said


def test_a_change_of_code_lets_jobs_end_and_starts_again(folder, tasks):
    with folder.start_worker(TEST_DEBUG="1") as worker:
        assert "It starts again when code changes, once running jobs have ended.\n" in worker.said
        tasks.send("old", seconds=3)
        worker.says("begins old")
        folder.write("mailing/tasks.py", TASKS.replace("wrote", "newly wrote"))
        worker.says("code has changed")
        worker.says("started", times=2)
        assert "\nwrote old" in worker.said
        tasks.send("new")
        worker.says("newly wrote new")
        worker.process.terminate()
        assert worker.ends() == 0
    assert worker.said.count("stopped") == 2


def test_code_that_is_broken_is_waited_for_also_in_a_new_file(folder, tasks):
    with folder.start_worker("--reload") as worker:
        folder.write("mailing/tasks.py", "import mailing.new\n")
        worker.says("waiting for a change")
        folder.write("mailing/new.py", "1 / 0\n")
        worker.says("ZeroDivisionError")
        worker.says("waiting for a change", times=2)
        folder.write("mailing/new.py", "")
        folder.write("mailing/tasks.py", TASKS)
        worker.says("started", times=2)
        worker.process.send_signal(signal.SIGINT)
        assert worker.ends() == 0


def test_signals_are_passed_on_to_the_child_under_reload(folder, tasks):
    with folder.start_worker("--reload") as worker:
        job = tasks.send("endless", seconds=1000)
        worker.says("begins endless")
        worker.process.send_signal(signal.SIGINT)
        worker.says("draining")
        worker.process.send_signal(signal.SIGINT)
        assert worker.ends() == 0
    assert tasks.status(job) == "waiting"


def test_a_signal_while_new_code_is_waited_for_lets_what_runs_end(folder, tasks):
    with folder.start_worker("--reload") as worker:
        job = tasks.send("long", seconds=3)
        worker.says("begins long")
        folder.write("mailing/tasks.py", TASKS + "# better\n")
        worker.says("code has changed")
        worker.process.send_signal(signal.SIGINT)
        assert worker.ends() == 0
    assert "wrote long" in worker.said
    assert worker.said.count("started") == 1
    assert tasks.status(job) == "completed"


def test_a_worker_whose_reloader_was_killed_does_not_go_on_alone(folder, tasks):
    with folder.start_worker("--reload") as worker:
        [child] = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children").read_text().split()
        job = tasks.send("long", seconds=1)
        worker.says("begins long")
        worker.process.kill()
        try:
            wait_for(lambda: not Path(f"/proc/{child}/cmdline").exists(), "the end of the worker", 10)
        finally:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
    assert "the process that reloads this worker is gone" in worker.said
    assert "stopped" in worker.said
    assert tasks.status(job) == "completed"


def test_a_thread_that_does_not_end_does_not_keep_new_code_waiting_for_ever(folder, tasks):
    impatient = "from sync_kit_django.management.commands import runworker\nrunworker.GRACE = 0.5\n"
    folder.write("mailing/tasks.py", TASKS + impatient)
    with folder.start_worker("--reload", "--drain-timeout", "0.5") as worker:
        tasks.block.blocking.send(text="thread", seconds=1000)
        worker.says("begins thread")
        folder.write("mailing/tasks.py", TASKS + impatient + "# better\n")
        worker.says("has not ended in 1 s: what it ran runs again")
        worker.says("started", times=2)


def test_noreload_and_no_debug_watch_nothing(folder, tasks):
    for words, debug in (["--noreload"], "1"), ([], ""):
        with folder.start_worker(*words, TEST_DEBUG=debug) as worker:
            children = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children").read_text()
            assert children == ""


def test_a_child_that_is_left_by_its_parent_is_no_child(folder, tasks):
    """A process that somebody starts in an environment of an other one must not take itself for its child."""
    code = "import os; from sync_kit_django.management.reload import is_child; print(is_child())"
    for parent, answer in ((os.getpid(), "True"), (1, "False")):
        ran = subprocess.run(
            [sys.executable, "-c", code],
            env={**folder.environment, "SYNC_KIT_RELOADS": f"{parent} 0.0", "DJANGO_SETTINGS_MODULE": "site_settings"},
            cwd=folder.folder,
            capture_output=True,
            text=True,
        )
        assert ran.stdout.strip() == answer, ran.stderr
