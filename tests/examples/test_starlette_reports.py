"""The example app, started under uvicorn and asked over HTTP."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2] / "example_apps" / "starlette_reports"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("starlette_reports_demo", HERE / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def app(demo, tmp_path_factory):
    with demo.running(tmp_path_factory.mktemp("reports")) as running:
        yield running


@pytest.mark.parametrize("part", ["limit", "report", "email", "failure"])
def test_each_part_of_the_demo_sees_what_it_promises(demo, app, part):
    getattr(demo, part)(app)


def test_an_unknown_report_is_not_found_and_gives_its_lease_back(app):
    assert [app.as_user("eve", "/reports/nonsense").status_code for _ in range(2)] == [404, 404]


def test_the_app_is_short():
    assert len((HERE / "app.py").read_text().splitlines()) < 150


def test_the_tests_of_the_app_itself_pass_with_and_without_a_server_of_their_own(server):
    for url in (server.url, ""):
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "REDIS_URL": url, "VALKEY_URL": ""}
        command = [sys.executable, "-m", "pytest", "-p", "sync_kit.pytest_plugin", "-p", "no:cacheprovider"]
        ran = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=50)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert " 8 passed" in ran.stdout


DELIVER = "import app; app.deliver('1', app.Email(to='ann@example.com', subject='Hi', body='Hello'))"
HANG = "import mailbox, time; mailbox.mbox.add = lambda *_: (print('inside', flush=True), time.sleep(60)); "


def test_who_is_killed_while_he_writes_a_mail_keeps_nobody_from_the_mailbox(tmp_path):
    box = tmp_path / "mail.mbox"
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "MAILBOX": str(box), "PYTHONPATH": path}
    with subprocess.Popen([sys.executable, "-c", HANG + DELIVER], env=environment, stdout=subprocess.PIPE) as writing:
        assert writing.stdout is not None
        assert writing.stdout.readline() == b"inside\n"
        writing.kill()
    ran = subprocess.run([sys.executable, "-c", DELIVER], env=environment, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    assert box.read_text().count("To: ann@example.com") == 1
