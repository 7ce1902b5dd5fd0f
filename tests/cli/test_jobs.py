"""`sync-kit jobs ...` through pipes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.conftest import APP, wait_for


@pytest.fixture
def fail(app, tasks):
    """`fail(3)` makes three failed jobs, by a worker of the app; answers their ids."""

    def make(count, **using):
        with app.start("worker", "tasks:jobs") as worker:
            worker.says("started")
            ids = [tasks.send("bad", **using) for _ in range(count)]
            wait_for(lambda: all(tasks.status(job) == "failed" for job in ids), "failed jobs")
        return ids

    return make


def listed(app, *words):
    ran = app.run("jobs", "list", "tasks:jobs", "--json", *words)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_list_holds_the_jobs_of_every_status(app, tasks, fail):
    (failed,) = fail(1)
    waiting, delayed = tasks.send("now", tag="first"), tasks.send("later", delay=60)
    ran = app.run("jobs", "list", "tasks:jobs")
    assert "\x1b" not in ran.stdout
    heads, *rows = ran.stdout.splitlines()
    assert heads.split() == "ID TASK STATUS ATTEMPTS WHEN TAG ERROR".split()
    assert [row.split()[:4] for row in rows] == [
        [waiting, "write", "waiting", "0"],
        [delayed, "write", "delayed", "0"],
        [failed, "write", "failed", "1"],
    ]
    assert rows[2].endswith(r"ValueError: a bad \x1b[31mnote")


def test_a_list_is_narrowed_by_status_task_and_tag(app, tasks):
    first, second = tasks.send("one", tag="red"), tasks.send("two")
    third = tasks.block.blocking.send(text="three").id

    def ids(*words):
        return [job["id"] for job in listed(app, *words)["jobs"]]

    assert ids("--status", "waiting") == [first, second, third]
    assert ids("--status", "delayed") == []
    assert ids("--task", "block") == [third]
    assert ids("--tag", "red") == [first]


def test_pages_are_linked_by_their_cursor(app, tasks):
    ids = [tasks.send(str(number)) for number in range(3)]
    page = listed(app, "--status", "waiting", "--limit", "2")
    rest = listed(app, "--status", "waiting", "--cursor", page["cursor"])
    assert [job["id"] for job in page["jobs"] + rest["jobs"]] == ids
    assert rest["cursor"] is None
    text = app.run("jobs", "list", "tasks:jobs", "--status", "waiting", "--limit", "2").stdout
    assert text.splitlines()[-1] == f"there are more: --status waiting --cursor {page['cursor']}"


def test_a_list_of_every_status_says_that_there_are_more(app, tasks):
    waiting = [tasks.send(str(number)) for number in range(3)]
    delayed = tasks.send("later", delay=60)
    page = listed(app, "--limit", "2")
    assert ([job["id"] for job in page["jobs"]], page["more"], page["cursor"]) == (waiting[:2], True, None)
    text = app.run("jobs", "list", "tasks:jobs", "--limit", "3").stdout
    assert text.splitlines()[-1] == "there are more: narrow with --status"
    whole = listed(app, "--limit", "4")
    assert ([job["id"] for job in whole["jobs"]], whole["more"]) == ([*waiting, delayed], False)


def test_a_filter_finds_what_lies_far_behind(app, tasks):
    tasks.write.blocking.send_many([{"text": "x"}] * 1200)
    wanted = tasks.send("far", tag="rare")
    assert [job["id"] for job in listed(app, "--tag", "rare")["jobs"]] == [wanted]
    assert [job["id"] for job in listed(app, "--tag", "rare", "--status", "waiting")["jobs"]] == [wanted]
    assert listed(app, "--tag", "none")["jobs"] == []


def test_show_tells_all_of_a_job_without_what_a_terminal_would_obey(app, fail):
    (job,) = fail(1)
    said = app.run("jobs", "show", "tasks:jobs", job).stdout
    assert job in said
    assert '{"text": "bad", "seconds": 0.0}' in said
    assert r"ValueError: a bad \x1b[31mnote" in said
    assert "\x1b" not in said
    told = json.loads(app.run("jobs", "show", "tasks:jobs", job, "--json").stdout)
    assert (told["status"], told["data"]) == ("failed", {"text": "bad", "seconds": 0.0})


SECRETIVE = """
from pydantic import SecretStr
class Login(BaseModel):
    user: str
    password: SecretStr

@jobs.task(schema=Login, result_ttl=60)
async def log_in(login: Login, job: Job) -> str:
    await job.progress(0.4, "knocking")
    job.log("first\\x1b[31m line")
    job.log("second line")
    return "welcome " + login.user
"""


def test_secrets_are_masked_whether_their_task_is_known_here_or_not(app, tasks):
    app.write("secretive.py", APP.replace("import Jobs", "import Job, Jobs") + SECRETIVE)
    app.write("send.py", "from secretive import log_in\nlog_in.blocking.send(user='ann', password='hush')\n")
    with app.start("worker", "secretive:jobs") as worker:
        worker.says("started")
        subprocess.run([sys.executable, "send.py"], cwd=app.folder, env=app.environment, check=True)
        wait_for(lambda: tasks.jobs.blocking.counts().completed, "the job")
        wait_for(lambda: tasks.jobs.blocking.list(status="completed")[0].logs, "its log")
    (job,) = tasks.jobs.blocking.list(status="completed")
    shown = [
        app.run("jobs", verb, f"{module}:jobs", *more, *form).stdout
        for module in ("secretive", "tasks")
        for verb, more in (("show", [job.id]), ("list", []))
        for form in ([], ["--json"])
    ]
    assert all(job.id in said and "hush" not in said for said in shown)
    assert '"password": "**********"' in shown[0]
    assert '"user"' not in shown[4]
    assert "40% knocking" in shown[0]
    assert "welcome ann" in shown[0]
    assert "first\\x1b[31m line\n" in shown[0]
    assert json.loads(shown[1])["logs"] == ["first\x1b[31m line", "second line"]


def test_showing_an_unknown_job_is_exit_code_1(app, tasks):
    ran = app.run("jobs", "show", "tasks:jobs", "nobody")
    assert ran.returncode == 1
    assert ran.stderr == "sync-kit: no job nobody in 'notes': it is unknown, or no longer kept\n"


def test_retry_lets_jobs_run_again_and_says_which_were_not_there(app, tasks, fail):
    (job,) = fail(1)
    ran = app.run("jobs", "retry", "tasks:jobs", job, "nobody")
    assert ran.returncode == 1
    assert ran.stdout == f"{job} runs again\n"
    assert ran.stderr == "sync-kit: nobody: neither failed nor cancelled\n"
    assert tasks.status(job) == "waiting"
    assert app.run("jobs", "retry", "tasks:jobs", job).returncode == 1


def test_all_failed_jobs_run_again_or_those_of_a_tag(app, tasks, fail):
    red, plain = fail(2, tag="red"), fail(1)
    assert app.run("jobs", "retry", "tasks:jobs", "--all-failed", "--tag", "red").stdout == "2 jobs run again\n"
    assert [tasks.status(job) for job in red + plain] == ["waiting", "waiting", "failed"]
    assert app.run("jobs", "retry", "tasks:jobs", "--all-failed").stdout == "1 job run again\n"


def test_cancel_ends_jobs_that_wait(app, tasks):
    job = tasks.send("never")
    assert app.run("jobs", "cancel", "tasks:jobs", job).stdout == f"{job} is cancelled\n"
    assert tasks.status(job) == "cancelled"
    ran = app.run("jobs", "cancel", "tasks:jobs", job)
    assert (ran.returncode, ran.stderr) == (1, f"sync-kit: {job}: unknown, or has ended\n")


def test_delete_forgets_jobs_that_have_ended(app, tasks):
    done, waiting = tasks.send("a"), tasks.send("b")
    tasks.jobs.blocking.cancel(done)
    ran = app.run("jobs", "delete", "tasks:jobs", done, waiting)
    assert ran.returncode == 1
    assert ran.stdout == f"{done} is deleted\n"
    assert ran.stderr == f"sync-kit: {waiting}: not among those that have ended\n"
    assert [tasks.status(done), tasks.status(waiting)] == [None, "waiting"]


def test_deleting_all_of_a_status_wants_a_yes(app, tasks):
    ids = [tasks.send(str(number)) for number in range(150)]
    for job in ids:
        tasks.jobs.blocking.cancel(job)
    refused = app.run("jobs", "delete", "tasks:jobs", "--status", "cancelled")
    assert refused.returncode == 2
    assert "Say --yes" in refused.stderr
    assert tasks.jobs.blocking.counts().cancelled == 150
    ran = app.run("jobs", "delete", "tasks:jobs", "--status", "cancelled", "--yes")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "150 jobs deleted\n", "")
    assert tasks.jobs.blocking.counts().cancelled == 0
