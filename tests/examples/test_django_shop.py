"""The Django shop, under gunicorn with a worker beside it, and under uvicorn with one inside; asked over HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

SETTINGS = {"DJANGO_SETTINGS_MODULE": "shop_site.settings"}
ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "example_apps" / "django_shop"
FORM = {"email": "ann@example.com", "password1": "long enough 1", "password2": "long enough 1"}
GUNICORN = ["-m", "gunicorn", "shop_site.wsgi", "--workers", "2", "--bind", "127.0.0.1:0"]
UVICORN = ["-m", "uvicorn", "shop_site.asgi:application", "--port", "0"]


def until(condition, seconds: float = 30.0):
    ends = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < ends
        time.sleep(0.05)
    return seen


class Shop:
    """The shop as processes, on a port that the system picks."""

    def __init__(self, where: Path, server: list[str], *, worker: bool, debug: bool = False) -> None:
        self.where, self.log = where, where / "log"
        self.environment = {
            **os.environ,
            **SETTINGS,
            "SHOP_DATA": str(where / "data"),
            "DEBUG": str(int(debug)),
            "REDIS_URL": f"embedded://{where / 'valkey'}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]),
        }
        self.run("manage.py", "migrate", "-v", "0")
        self.processes = [self.start(*server)]
        if worker:
            self.processes.append(self.start("manage.py", "runworker", "--noreload"))
        self.url = until(self._announced)
        self.http = httpx.Client(base_url=self.url, timeout=30, follow_redirects=True)

    def run(self, *arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, *arguments], cwd=HERE, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, *arguments], cwd=HERE, env=self.environment, stdout=log, stderr=log
            )

    def _announced(self) -> str | None:
        assert all(process.poll() is None for process in self.processes), self.log.read_text()
        found = re.search(r"(?:running on|Listening at:) (http://\S+)", self.log.read_text())
        return found[1] if found else None

    def post(self, path: str, fields: dict[str, str], page: str | None = None) -> httpx.Response:
        """Fill a form in, as a browser does: with the token of its page."""
        form = self.http.get(page or path).text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
        assert token is not None, form
        return self.http.post(path, data={**fields, "csrfmiddlewaretoken": token[1]})

    def mails(self) -> str:
        return "\n".join(path.read_text() for path in self.where.glob("data/mails/*.log"))

    def close(self) -> None:
        self.http.close()
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.fixture(scope="module", params=["gunicorn", "uvicorn"])
def shop(request, tmp_path_factory):
    with ExitStack() as stack:
        beside = request.param == "gunicorn"
        made = Shop(tmp_path_factory.mktemp("shop"), GUNICORN if beside else UVICORN, worker=beside)
        stack.callback(made.close)
        yield made


@pytest.mark.timeout(120)
def test_from_the_sign_up_to_the_invoice(shop):
    assert shop.post("/sign-up/", {**FORM, "username": "ann"}).status_code == 200
    until(lambda: "Subject: Welcome" in shop.mails())
    home = shop.post("/order/", {"cents": "900"}, page="/")
    assert "900 cents" in home.text
    until(lambda: "Total 9.00 EUR" in shop.mails())
    assert "To: ann@example.com" in shop.mails()
    until(lambda: "mailed" in shop.http.get("/").text)


@pytest.mark.timeout(120)
def test_signing_up_is_limited_and_looking_at_the_form_is_not(shop):
    codes = [shop.post("/sign-up/", {"username": "x"}).status_code for _ in range(6)]
    assert codes[-1] == 429
    refused = shop.post("/sign-up/", {"username": "x"})
    assert re.search(r"Please try again in \d+ seconds", refused.text)
    assert 1 <= int(refused.headers["retry-after"]) <= 63
    assert shop.http.get("/sign-up/").status_code == 200


def test_started_as_its_docs_say_it_lets_the_admin_in_who_finds_it_styled(tmp_path, monkeypatch):
    monkeypatch.setenv("PORT", "0")
    made = Shop(tmp_path, ["serve.py"], worker=False, debug=True)
    try:
        page = made.post("/admin/login/", {"username": "admin", "password": "admin", "next": "/admin/"})
        assert "Background jobs" in page.text
        styles = re.findall(r'href="(/static/[^"]+\.css)"', page.text)
        assert {path: made.http.get(path).status_code for path in styles} == dict.fromkeys(styles, 200)
        assert styles
    finally:
        made.close()


@pytest.mark.timeout(120)
def test_guessing_passwords_is_limited(shop):
    guess = {"username": "admin", "password": "guess"}
    codes = [shop.post("/admin/login/", guess).status_code for _ in range(6)]
    assert codes == [200] * 5 + [429]


def test_the_report_is_one_at_a_time_and_adds_up(shop):
    year = time.gmtime().tm_year
    answers = [shop.http.get(f"/reports/{year}/") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["year"] == year


def test_an_async_view_is_limited_too(shop):
    answer = shop.http.get("/status/")
    assert answer.json()["unmailed"] >= 0
    assert '"status' in answer.headers["ratelimit-policy"] or "q=10;w=1" in answer.headers["ratelimit-policy"]


def test_nothing_went_wrong_on_the_way(shop):
    assert "Traceback" not in shop.log.read_text()


def test_its_setup_is_checked():
    environment = {**os.environ, **SETTINGS, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "manage.py", "check", "--tag", "sync_kit"]
    ran = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=50)
    assert "no issues" in ran.stdout, ran.stdout + ran.stderr


def test_the_tests_of_the_shop_itself_pass(server, tmp_path):
    environment = {**os.environ, **SETTINGS, "PYTHONPATH": str(ROOT), "REDIS_URL": server.url, "VALKEY_URL": ""}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "sync_kit.pytest_plugin"]
    ran = subprocess.run(
        command, cwd=HERE, env={**environment, "SHOP_DATA": str(tmp_path)}, capture_output=True, text=True, timeout=50
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 5 passed" in ran.stdout
