"""The second try after a stall: pytest runs small test files, in some of which the process is stopped for a while."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.stalls import PERIOD, Watch

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import os, signal, subprocess, sys, time
from pathlib import Path
import pytest

TRIES, DONE = (Path(__file__).with_name(name) for name in ("tries", "done"))

def stand_still():
    child = "kill -STOP $PPID; sleep 0.4; kill -CONT $PPID"
    subprocess.run(["sh", "-c", child], check=True)

def count():
    TRIES.touch()
    TRIES.write_text(TRIES.read_text() + "x")
    return len(TRIES.read_text())
"""


@pytest.fixture
def run(tmp_path):
    """`run(text, *options)` runs a test file with the plugin: what pytest said, and how many tries were counted."""

    def run(text, *options):
        (tmp_path / "test_it.py").write_text(HEAD + text)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-p", "tests.support.stalls", "-p", "no:cacheprovider", "-rA"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for name in [name for name in environment if name.startswith("PYTEST_")]:
            del environment[name]  # such as those that a worker of pytest-xdist has
        done = subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True)
        tries = tmp_path / "tries"
        return done.stdout + done.stderr, len(tries.read_text()) if tries.exists() else 0

    return run


def the_note(said):
    """The length of the stall in the only line of the summary about a second try."""
    (seconds,) = re.findall(r"ran again after the machine stood still for (\d\.\d\d) s", said)
    return float(seconds)


def test_a_failure_without_a_stall_is_final(run):
    said, tries = run("def test_it():\n    count()\n    assert False")
    assert "1 failed in" in said
    assert "ran again" not in said
    assert tries == 1


def test_a_success_with_a_stall_is_not_repeated(run):
    said, tries = run("def test_it():\n    count()\n    stand_still()")
    assert "1 passed in" in said
    assert "ran again" not in said
    assert tries == 1


BREAK = "stand_still()\n        assert False, 'too late'"
SETUP = "@pytest.fixture\ndef made():\n    {}\n\ndef test_it(made):\n    count()\n"
WIDE = SETUP.replace("fixture", "fixture(scope='session')")
LATER = """
@pytest.fixture(scope="session")
def later():
    if not DONE.exists():
        DONE.touch()
        BREAK

def test_it(request):
    count()
    request.getfixturevalue("later")

def test_other(later):
    pass
"""
FAILS_ONCE = {
    "call": f"def test_it():\n    if count() == 1:\n        {BREAK}",
    "setup": SETUP.format(f"if count() == 1:\n        {BREAK}"),
    "teardown": SETUP.format(f"yield\n    if len(TRIES.read_text()) == 1:\n        {BREAK}"),
    "wide": WIDE.format(f"if count() == 1:\n        {BREAK}"),
    "asked": LATER.replace("BREAK", BREAK),
}


@pytest.mark.parametrize("where", FAILS_ONCE)
@pytest.mark.parametrize("options", [[], ["-n", "1"]], ids=["one process", "xdist"])
def test_a_failure_with_a_stall_has_a_second_try(run, where, options):
    said, tries = run(FAILS_ONCE[where], *options)
    assert re.search("[12] passed in", said)
    assert "failed" not in said.rpartition("\n=")[2]
    assert 0.3 < the_note(said) < 10
    assert "too late" in said
    assert tries >= 2


def test_a_second_failure_counts(run):
    said, tries = run("def test_it():\n    print('said', count())\n    stand_still()\n    assert False")
    assert "1 failed in" in said
    assert 0.3 < the_note(said) < 10
    assert "said 2" in said
    assert "said 1" not in said, "only the second try is reported"
    assert tries == 2


def test_a_timeout_has_no_second_try(run):
    said, tries = run("def test_it():\n    count()\n    stand_still()\n    time.sleep(30)", "--timeout", "1")
    assert "1 failed in" in said
    assert tries == 1


FIXTURES = """
made = []

@pytest.fixture(scope="session")
def whole():
    made.append("whole")
    yield made
    made.append("whole ends")

@pytest.fixture(scope="module")
def anyio_backend():
    made.append("backend")
    return "asyncio"

@pytest.fixture
async def fresh(whole):
    made.append("fresh")
    yield []
    made.append("fresh ends")

@pytest.mark.anyio
async def test_it(fresh):
    assert fresh == []
    fresh.append(1)
    if count() == 1:
        stand_still()
        assert False

def test_other(whole):
    assert whole == ["whole", "backend", *["fresh", "fresh ends"] * 2]
"""


def test_only_the_fixtures_of_the_test_are_made_again(run):
    """Also those of anyio; the wider ones stay."""
    said, tries = run(FIXTURES)
    assert "2 passed in" in said
    assert tries == 2


def test_the_last_test_of_all_may_run_again_too(run):
    """Nothing comes after it: the wider fixtures have ended, and are made again."""
    said, tries = run(FIXTURES.partition("def test_other")[0])
    assert "1 passed in" in said
    assert tries == 2


def test_the_watch_sees_a_stall_of_the_process():
    watch = Watch()
    time.sleep(10 * PERIOD)
    watch.begin()
    child = f"kill -STOP {os.getpid()}; sleep 0.3; kill -CONT {os.getpid()}"
    subprocess.run(["sh", "-c", child], check=True)
    assert watch.longest() > 0.25
    time.sleep(5 * PERIOD)
    assert watch.longest() > 0.25, "and remembers it"


def test_the_watch_forgets():
    watch = Watch()
    watch._longest = 5.0
    watch.begin()
    assert watch.longest() < 5
