"""The shop, started under uvicorn beside a real SMTP server, and asked over HTTP."""

from __future__ import annotations

import importlib.util
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

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "example_apps" / "fastapi_shop"
ANN, BOB = {"x-api-key": "key-of-ann"}, {"x-api-key": "key-of-bob"}
ORDER = {"email": "bob@example.com", "items": [{"name": "tea", "quantity": 2, "cents": 450}]}


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"fastapi_shop_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def until(condition, seconds: float = 20.0):
    ends = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < ends
        time.sleep(0.03)
    return seen


class Shop:
    """The shop as a process, on a port that the system picks."""

    def __init__(self, where: Path, smtp: str) -> None:
        self.log = where / "uvicorn.log"
        settings = {"SHOP_DB": str(where / "shop.db"), "SMTP": smtp, "REDIS_URL": f"embedded://{where / 'data'}"}
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(HERE), "--port", "0"]
        with self.log.open("w") as log:
            environment = {**os.environ, **settings, "PYTHONPATH": path}
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.url = until(self._announced)
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def _announced(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"running on (http://\S+)", self.log.read_text())
        return found[1] if found else None

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture(scope="module")
def post():
    with load("post_office").open_post_office() as office:
        yield office


@pytest.fixture(scope="module")
def shop(post, tmp_path_factory):
    with ExitStack() as stack:
        made = Shop(tmp_path_factory.mktemp("shop"), post.address)
        stack.callback(made.close)
        yield made


def test_an_order_is_mailed_by_the_worker_in_the_web_process(shop, post):
    order = shop.http.post("/orders", json=ORDER, headers=BOB)
    assert order.status_code == 201
    assert order.headers["ratelimit-policy"] == '"1000/minute";q=1000;w=60, "100/minute";q=100;w=60'
    mail = until(lambda: next((m for m in post.mails if f"Invoice {order.json()['id']}" == m["Subject"]), None))
    assert mail["To"] == "bob@example.com"
    assert "Total 9.00 EUR" in mail.get_payload()


def test_plans_have_limits(shop):
    codes = [shop.http.get("/orders/1", headers=ANN).status_code for _ in range(7)]
    assert codes == [404] * 5 + [429] * 2
    refused = shop.http.get("/orders/1", headers=ANN)
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 63


def test_the_report_is_streamed_under_a_lease(shop):
    shop.http.post("/orders", json=ORDER, headers=BOB)
    year = time.gmtime().tm_year
    answer = shop.http.get(f"/reports/{year}")
    assert answer.text.startswith("order,customer,cents\r\n")
    assert ",bob,900" in answer.text
    # the lease ends right after the last line has been sent, and the client may be quicker than that
    assert until(lambda: shop.http.get(f"/reports/{year}").status_code == 200), "the lease ended with the last line"


def test_probes_are_green_and_never_limited(shop):
    assert shop.http.get("/live").json() == {"status": "ok"}
    ready = shop.http.get("/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert "ratelimit" not in ready.headers


def test_refusals_are_in_the_schema(shop):
    paths = shop.http.get("/openapi.json").json()["paths"]
    assert set(paths["/orders"]["post"]["responses"]) == {"201", "401", "422", "429"}
    assert set(paths["/reports/{year}"]["get"]["responses"]) == {"200", "409", "422", "429", "503"}


@pytest.mark.timeout(120)
def test_nothing_that_the_schema_allows_is_answered_with_500(shop, tmp_path):
    """Schemathesis makes up requests, right and wrong ones, from the schema of the app."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{shop.url}/openapi.json"),
        *("--checks", "not_a_server_error,content_type_conformance,response_schema_conformance"),
        *("-H", "x-api-key: key-of-eve", "--max-examples", "25", "--seed", "7", "--no-color"),
        *("--suppress-health-check", "all"),
    ]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in shop.log.read_text()


def test_the_app_is_short():
    assert len((HERE / "app.py").read_text().splitlines()) < 180


def test_the_tests_of_the_app_itself_pass(server):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": server.url, "VALKEY_URL": ""}
    command = [sys.executable, "-m", "pytest", "-p", "sync_kit.pytest_plugin", "-p", "no:cacheprovider"]
    ran = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 7 passed" in ran.stdout
