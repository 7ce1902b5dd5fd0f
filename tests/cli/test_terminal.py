"""The command line in a real terminal."""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from tests.cli.conftest import APP, Terminal, wait_for

NAME = "schedule_with_a_name_of_forty_three_letters"
LONG = f"""{APP}
@jobs.every(3600)
async def {NAME}() -> None: ...
"""


def test_a_worker_runs_jobs_and_drains_on_ctrl_c(terminal, tasks):
    terminal.run("worker", "tasks:jobs")
    terminal.sees("started")
    job = tasks.send("long", seconds=1)
    terminal.sees("begins long")
    terminal.press("C-c")
    terminal.sees("code=0")
    assert "wrote long" in terminal.screen
    assert "Traceback" not in terminal.screen
    assert tasks.status(job) == "completed"


def test_a_second_ctrl_c_hands_back_under_reload_too(terminal, tasks):
    terminal.run("worker", "tasks:jobs", "--reload")
    terminal.sees("started")
    job = tasks.send("endless", seconds=1000)
    terminal.sees("begins endless")
    terminal.press("C-c")
    terminal.sees("draining")
    terminal.press("C-c")
    terminal.sees("code=0")
    assert tasks.status(job) == "waiting"


def test_status_is_a_table_in_colour(terminal, tasks):
    tasks.send("hello")
    tasks.jobs.blocking.pause()
    terminal.run("status", "tasks:jobs")
    terminal.sees("code=0")
    assert re.search(r"Queue +Waiting +Delayed", terminal.screen)
    assert re.search(r"notes +1 +0", terminal.screen)
    assert "paused" in terminal.screen
    assert "\x1b[33m" in terminal.colours


def test_no_color_is_respected(terminal, tasks):
    terminal.type("export NO_COLOR=1")
    terminal.run("status", "tasks:jobs")
    terminal.sees("code=0")
    assert not re.search(r"\x1b\[3[0-7]m", terminal.colours)


def test_watching_shows_what_changes_and_leaves_on_ctrl_c(terminal, tasks):
    terminal.run("status", "tasks:jobs", "--every", "0.2")
    terminal.sees("Ctrl-C to leave")
    assert re.search(r"notes +0 +0", terminal.screen)
    for number in range(41):
        tasks.send(str(number))
    terminal.sees("41")
    assert terminal.screen.count("notes") == 1
    terminal.press("C-c")
    screen = terminal.sees("code=0")
    assert "41" in screen, "the last picture stays"
    assert "Traceback" not in screen
    terminal.type("echo still; echo here")
    terminal.sees("still\nhere")


def test_watching_outlives_an_outage(terminal, app, own_server):
    server = own_server()
    terminal.type(f"export REDIS_URL={server.url}")
    terminal.run("status", "tasks:jobs", "--every", "0.2")
    terminal.sees("notes")
    server.kill()
    terminal.sees("is not reachable")
    server.start()
    terminal.sees("notes")
    terminal.press("C-c")
    terminal.sees("code=0")


def test_sigterm_gives_the_terminal_back_while_watching(terminal, tasks):
    terminal.type("echo before")
    terminal.run("status", "tasks:jobs", "--every", "0.2")
    terminal.sees("Ctrl-C to leave")
    assert (terminal.mode("alternate_on"), terminal.mode("cursor_flag")) == ("1", "0")
    terminal.end_what_runs()
    terminal.sees("code=143")
    assert (terminal.mode("alternate_on"), terminal.mode("cursor_flag")) == ("0", "1")
    assert "Traceback" not in terminal.screen


def narrow(app, columns):
    return Terminal(app, columns=columns)


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_a_table_says_which_columns_had_no_room(app, tasks, columns):
    job = tasks.send("hello", tag="a-long-tag-of-somebody")
    with closing(narrow(app, columns)) as terminal:
        terminal.sees("$")
        terminal.run("jobs", "list", "tasks:jobs")
        screen = "".join(terminal.sees("code=0").split())
        assert job[:30] in screen
        assert job[-3:] in screen, "at 40 columns it is folded"
        assert "write" in screen
        assert ("noroomfor:" in screen) == (columns < 100)
        terminal.run("status", "tasks:jobs")
        screen = terminal.sees("code=0")
        assert re.search(r"notes +1 ", screen)
        assert all(title in screen for title in ("Waiting", "Failed"))
        assert ("no room for: Cancelled" in screen) == (columns < 80)


def test_a_long_error_is_cut_where_it_is_seen_and_takes_no_column_with_it(app, tasks):
    with app.start("worker", "tasks:jobs") as worker:
        worker.says("started")
        tasks.reach(tasks.send("bad", tag="t"), "failed")
    with closing(narrow(app, 80)) as terminal:
        terminal.sees("$")
        terminal.run("jobs", "list", "tasks:jobs")
        screen = terminal.sees("code=0")
        assert "with two lines" not in screen
        assert re.search(r"write +failed .*ValueErr.*[^ ]$", screen, re.MULTILINE)


@pytest.mark.parametrize("columns", [80, 60])
def test_schedules_with_long_names_are_shown_whole(app, tasks, columns):
    app.write("long.py", LONG)
    with app.start("worker", "long:jobs") as worker:
        worker.says("started")
        wait_for(lambda: NAME in app.run("schedules", "list", "long:jobs").stdout, "the schedule")
    with closing(narrow(app, columns)) as terminal:
        terminal.sees("$")
        terminal.run("schedules", "list", "long:jobs")
        screen = terminal.sees("code=0")
        assert "no room for: " in screen
        assert "Next" in screen
        assert "UTC" in screen
        assert columns < 80 or NAME in screen


def test_doctor_is_in_colour(terminal, tasks):
    terminal.run("doctor", "tasks:jobs")
    terminal.sees("code=0")
    assert "\x1b[32mok" in terminal.colours
    assert "\x1b[33mwarn" in terminal.colours


def test_what_others_wrote_into_an_error_is_shown_and_not_obeyed(terminal, app, tasks):
    with app.start("worker", "tasks:jobs") as worker:
        worker.says("started")
        tasks.reach(tasks.send("bad"), "failed")
    terminal.run("jobs", "list", "tasks:jobs")
    terminal.sees("code=0")
    assert r"a bad \x1b[31mnote" in terminal.screen.replace("…", "")


def test_long_work_has_a_progress_bar_that_goes_away(terminal, app, tasks):
    ids = [job.id for job in tasks.write.blocking.send_many([{"text": "x"}] * 2000)]
    app.write("ids", "\n".join(ids))
    terminal.run("jobs", "cancel", "tasks:jobs", "$(cat ids)", ">", "out")
    terminal.sees("/2000")
    assert "cancelling" in terminal.screen
    terminal.sees("code=0")
    assert "cancelling" not in terminal.screen
    assert (app.folder / "out").read_text().count("is cancelled") == 2000


def test_deleting_all_of_a_status_asks_first(terminal, tasks):
    for number in range(3):
        tasks.jobs.blocking.cancel(tasks.send(str(number)))
    terminal.run("jobs", "delete", "tasks:jobs", "--status", "cancelled")
    terminal.sees("delete 3 cancelled jobs of 'notes'? [y/N]:")
    terminal.type("n")
    terminal.sees("code=1")
    assert tasks.jobs.blocking.counts().cancelled == 3
    terminal.run("jobs", "delete", "tasks:jobs", "--status", "cancelled")
    terminal.sees("[y/N]:")
    terminal.type("y")
    terminal.sees("3 jobs deleted")
    assert tasks.jobs.blocking.counts().cancelled == 0
