"""How commands begin and end: exit codes, one line for what goes wrong, and what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT

WITHOUT = (
    "import sys; sys.modules[{0!r}] = None; sys.argv[1:] = ['status', 'a:b']; from sync_kit.cli import main; main()"
)
AWAY = "redis://user:hush@127.0.0.1:1/0"
COMMANDS = [
    ["status", "tasks:jobs"],
    ["doctor", "tasks:jobs"],
    ["doctor"],
    ["jobs", "list", "tasks:jobs"],
    ["jobs", "show", "tasks:jobs", "x"],
    ["jobs", "retry", "tasks:jobs", "--all-failed"],
    ["jobs", "cancel", "tasks:jobs", "x"],
    ["jobs", "delete", "tasks:jobs", "x"],
    ["pause", "tasks:jobs"],
    ["resume", "tasks:jobs"],
]


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_it_says_what_to_install(missing):
    ran = subprocess.run([sys.executable, "-c", WITHOUT.format(missing)], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == f"sync-kit: the command line needs {missing}: pip install 'sync-kit[cli]'\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_when_redis_is_away_that_is_one_line_and_exit_code_2(app, command):
    ran = app.run(*command, REDIS_URL=AWAY)
    assert ran.returncode == 2
    assert ran.stderr.startswith("sync-kit: Redis at 127.0.0.1:1/0 is not reachable")
    assert ran.stderr.count("\n") == 1
    assert "hush" not in ran.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["worker", "tasks:jobs", "--loop", "trio"], "--loop must be one of 'asyncio', 'uvloop', not 'trio'"),
        (["worker", "tasks:jobs", "--log-level", "loud"], "--log-level must be one of"),
        (["worker", "tasks:jobs", "--concurrency", "0"], "concurrency must be from 1 to 10000, not 0"),
        (["worker", "tasks:jobs", "tasks:jobs"], "a worker was given the same queue twice"),
        (["jobs", "list", "tasks:jobs", "--status", "lost"], "--status must be one of"),
        (["jobs", "delete", "tasks:jobs", "--status", "active"], "--status must be one of"),
        (["status", "tasks:jobs", "--every", "0"], "--every must be at least 0.1"),
        (["jobs", "list", "tasks:jobs", "--cursor", "1"], "give --status, too"),
        (["jobs", "retry", "tasks:jobs"], "give ids of jobs or --all-failed"),
        (["jobs", "retry", "tasks:jobs", "x", "--all-failed"], "not both"),
        (["jobs", "retry", "tasks:jobs", "x", "--task", "write"], "--task and --tag go with --all-failed"),
        (["jobs", "cancel", "tasks:jobs"], "give ids of jobs"),
        (["jobs", "delete", "tasks:jobs"], "give ids of jobs or --status"),
        (["doctor", "tasks:jobs", "--url", "redis://x"], "not both"),
        (["doctor", "--url", "http://x"], "cannot connect to 'http'"),
        (["doktor"], "No such command 'doktor'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_refused_with_exit_code_2(app, command, said):
    ran = app.run(*command)
    assert ran.returncode == 2
    assert said in " ".join(ran.stderr.replace("│", " ").split())
    assert "Traceback" not in ran.stderr


def test_help_names_every_command(app):
    said = app.run("--help").stdout
    assert all(word in said for word in ("worker", "status", "jobs", "schedules", "doctor", "pause", "resume"))
    assert "\x1b" not in said
    assert all(word in app.run("jobs", "-h").stdout for word in ("list", "show", "retry", "cancel", "delete"))
    assert all(word in app.run("schedules", "-h").stdout for word in ("list", "pause", "resume", "run", "delete"))
