"""Limits and locks in real processes: gunicorn (WSGI, two workers) and uvicorn (ASGI)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sync_kit import Mutex
from tests.servers import serving

MODULE = "tests.on_django.limits_server"
GUNICORN = [
    *("gunicorn", "--bind", "unix:{socket}", "--workers", "2", "--threads", "4", "--graceful-timeout", "1"),
    *("--worker-tmp-dir", "/dev/shm"),
]


@pytest.fixture(params=["gunicorn", "uvicorn"])
def served(request, server, namespace, tmp_path, monkeypatch):
    """A server of the project; gives it, ready."""
    monkeypatch.setitem(serving.COMMANDS, "gunicorn", GUNICORN)
    app = f"{MODULE}:application" if request.param == "gunicorn" else f"{MODULE}:asgi"
    started = serving.start(
        request.param,
        app=app,
        TEST_URL=server.url,
        TEST_NAMESPACE=namespace,
        TEST_FOLDER=str(tmp_path),
        TEST_URLCONF="tests.on_django.limits_urls",
    )
    try:
        started.until(lambda: started.answers() == 200, "ready")
        yield started
    finally:
        started.close()


@pytest.fixture
def mutex(kit):
    return Mutex("exclusive", kit=kit).blocking


def until(condition, seconds: float = 10):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("path", ["/limited/", "/limited-later/"])
def test_no_more_than_the_limit_is_admitted_by_all_processes_together(served, path):
    with served.client() as client, ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: client.get(path, headers={"x-client": path}).status_code, range(20)))
    assert (codes.count(200), codes.count(429)) == (3, 17)
    assert "Traceback" not in served.said


@pytest.mark.parametrize("path", ["/reports/7/", "/reports-later/7/"])
def test_one_request_at_a_time_whatever_process_has_it(served, path):
    with served.client() as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.get(f"{path}?takes=1"), range(4)))
        codes = [answer.status_code for answer in answers]
        assert (codes.count(200), codes.count(409)) == (1, 3)
        assert client.get(path).status_code == 200
    assert "Traceback" not in served.said


@pytest.mark.parametrize("path", ["/stream/", "/stream-later/"])
def test_a_stream_holds_its_lease_until_the_last_byte_or_until_the_client_goes_away(request, served, mutex, path):
    name = request.node.callspec.params["served"]
    with served.client() as client:
        assert len(client.get(path).content) == 3000
        assert client.get(path).status_code == 200, "it has ended when the client knows that this was all"
    with served.client() as client, client.stream("GET", f"{path}?parts=60") as answer:
        assert answer.status_code == 200
        if (name, path) != ("gunicorn", "/stream-later/"):  # Django reads it to its end before it begins to send
            assert mutex.holder("stream") is not None
    until(lambda: mutex.holder("stream") is None, 20)


@pytest.mark.parametrize("served", ["uvicorn"], indirect=True)
def test_a_client_that_goes_away_ends_an_async_view_and_its_lease(served, mutex):
    with served.client() as client, pytest.raises(httpx.ReadTimeout):
        client.get("/reports-later/7/?takes=30", timeout=0.5)
    until(lambda: mutex.holder("report:7") is None, 10)
