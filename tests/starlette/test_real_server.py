"""Limits under a real server, with real HTTP and WebSocket clients."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def served(server, namespace, limit, *options):
    """The app under uvicorn: the address of it."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "REDIS_URL": server.url,
        "NAMESPACE": namespace,
        "LIMIT": str(limit),
    }
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening, tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "uvicorn", "tests.starlette.limited_app:app", "--fd", str(listening.fileno())]
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, env=environment, stdout=log, stderr=log, pass_fds=[listening.fileno()]
        )
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            log.seek(0)
            said = log.read()
    assert not re.search("Traceback|ERROR", said), said


@pytest.fixture
def client(server, namespace, request):
    # uvicorn's other implementation of WebSockets logs an error for every handshake that is answered
    serving = served(server, namespace, getattr(request, "param", 1000), "--ws", "wsproto")
    with serving as address, httpx.Client(base_url=f"http://{address}", timeout=20) as made:
        yield made


def test_the_limit_is_exact_over_processes_and_simultaneous_requests(server, namespace):
    with served(server, namespace, 50, "--workers", "2") as address:
        clients = [httpx.Client(base_url=f"http://{address}", timeout=20) for _ in range(12)]
        with ThreadPoolExecutor(12) as pool:
            codes = list(pool.map(lambda number: clients[number % 12].get("/").status_code, range(180)))
        for one in clients:
            one.close()
    assert codes.count(200) == 50
    assert codes.count(429) == 130


def test_bodies_of_every_kind_arrive_whole_and_carry_the_fields(client):
    stream = client.get("/stream")
    assert stream.text == "".join(f"{number}," for number in range(100))
    file = client.get("/file")
    assert file.content == (ROOT / "tests/starlette/limited_app.py").read_bytes()
    unchanged = client.get("/file", headers={"range": "bytes=0-3"})
    assert (unchanged.status_code, len(unchanged.content)) == (206, 4)
    head = client.head("/file")
    assert (head.content, int(head.headers["content-length"])) == (b"", len(file.content))
    for response in (stream, file, unchanged, head, client.get("/missing")):
        assert response.headers.get_list("ratelimit-policy") == ['"1000/minute";q=1000;w=60']


@pytest.mark.parametrize("client", [25], indirect=True)
def test_a_handlers_limit_and_the_apps_are_told_together(client):
    admitted = client.get("/few")
    assert admitted.headers["ratelimit-policy"] == '"25/minute";q=25;w=60, "20/minute";q=20;w=60'
    refused = [client.get("/few") for _ in range(30)]
    codes = [answer.status_code for answer in refused]
    assert codes.count(200) == 19
    assert refused[20].json()["violated-policies"] == ["20/minute"]
    assert refused[-1].json()["violated-policies"] == ["25/minute"], "the app's own is asked first"


@pytest.mark.parametrize("client", [2], indirect=True)
def test_a_websocket_is_admitted_or_answered_with_429(client):
    address = f"ws://{client.base_url.host}:{client.base_url.port}/ws"
    with connect(address) as session:
        session.send("hello")
        assert session.recv() == "hello"
    assert client.get("/").status_code == 200
    with pytest.raises(InvalidStatus) as refused:
        connect(address)
    response = refused.value.response
    assert response.status_code == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 63
    assert b"quota-exceeded" in (response.body or b"")


@pytest.mark.parametrize("client", [1], indirect=True)
def test_a_refused_upload_is_answered_and_the_connection_lives_on(client):
    assert client.get("/").status_code == 200
    for _ in range(3):
        assert client.post("/", content=b"x" * 300_000).status_code == 429


def test_an_open_stream_does_not_hold_up_others(client):
    began = time.monotonic()
    with client.stream("GET", "/stream") as slow:
        parts = slow.iter_text()
        assert next(parts).startswith("0,")
        assert client.get("/").status_code == 200
        assert "".join(parts).endswith("99,")
    assert time.monotonic() - began < 15
