"""`manage.py runworker` in a real terminal."""

from __future__ import annotations

import shutil

import pytest

from tests.cli.conftest import Tasks
from tests.on_django.sites import Site, SiteTerminal


@pytest.fixture
def folder(server, namespace, tmp_path) -> Site:
    return Site(tmp_path, server.url, namespace)


@pytest.fixture
def tasks(kit) -> Tasks:
    return Tasks(kit)


@pytest.fixture
def terminal(folder):
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux")
    made = SiteTerminal(folder)
    try:
        made.sees("$")
        yield made
    finally:
        made.close()


def test_the_banner_is_in_colour(terminal, tasks, namespace):
    terminal.run("runworker")
    terminal.sees("started")
    assert "\x1b[1m\x1b[36mWorker on 127.0.0.1:" in terminal.colours
    assert "\x1b[33mno tasks" in terminal.colours
    terminal.press("C-c")
    terminal.sees("code=0")
    assert "\x1b[32mStopped; jobs run: 0." in terminal.colours


def test_no_color_is_respected(terminal, tasks):
    terminal.run("runworker", "--drain", "--no-color")
    terminal.sees("code=0")
    assert "\x1b[3" not in terminal.colours


@pytest.mark.parametrize("words", [[], ["--reload"]])
def test_a_ctrl_c_drains_and_a_second_one_hands_back(terminal, tasks, words):
    terminal.run("runworker", *words)
    terminal.sees("started")
    long = tasks.send("long", seconds=1)
    terminal.sees("begins long")
    terminal.press("C-c")
    terminal.sees("code=0")
    assert "wrote long" in terminal.screen
    assert tasks.status(long) == "completed"

    terminal.run("runworker", *words)
    terminal.sees("started")
    endless = tasks.send("endless", seconds=1000)
    terminal.sees("begins endless")
    terminal.press("C-c")
    terminal.sees("draining")
    terminal.press("C-c")
    terminal.sees("code=0")
    assert "handed back" in terminal.screen
    assert "Traceback" not in terminal.screen
    assert tasks.status(endless) == "waiting"


def test_a_third_ctrl_c_ends_the_process(terminal, tasks):
    terminal.run("runworker", "--noreload")
    terminal.sees("started")
    tasks.block.blocking.send(text="thread", seconds=1000)
    terminal.sees("begins thread")
    terminal.press("C-c")
    terminal.sees("draining")
    terminal.press("C-c")
    terminal.sees("handed back")
    terminal.press("C-c")
    terminal.sees("\n$")  # the shell gives the rest of its line up
    terminal.type("echo it was $?")
    terminal.sees("it was 130")


def test_what_others_wrote_is_shown_and_not_obeyed(terminal, tasks):
    jobs = tasks.jobs
    jobs.task(schema=str, name="odd\x1b[2Jname")(lambda text: None)
    terminal.run("runworker", "--drain")
    terminal.sees("code=0")
    job = jobs.named("odd\x1b[2Jname").blocking.send("x")
    terminal.run("runworker", "--drain")
    screen = terminal.sees("code=0")
    assert "odd\\x1b[2Jname" in "".join(screen.splitlines())
    assert tasks.status(job.id) == "parked"
