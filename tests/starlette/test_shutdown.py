"""What an app leaves behind under a real server: nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_app_that_only_uses_the_middleware_closes_its_clients_at_shutdown(server, namespace, loop):
    command = [
        sys.executable,
        "-X",
        "dev",
        "-m",
        "uvicorn",
        "tests.starlette.clean_app:app",
        "--port",
        "0",
        "--loop",
        loop,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": server.url, "NAMESPACE": namespace}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        url, said = _announced(process)
        with server.client() as redis:
            before = _connections(redis)
            assert httpx.get(url).status_code == 200
            assert len(_connections(redis) - before) == 1
            process.send_signal(signal.SIGINT)  # after SIGTERM uvicorn dies by it, without a last word
            said += process.communicate(timeout=20)[0]
            assert _connections(redis) <= before
            assert all(redis.ttl(key) > 0 for key in redis.keys(f"{namespace}:*"))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert "threads left: []" in said
    assert "ResourceWarning" not in said
    assert "Traceback" not in said


def _announced(process) -> tuple[str, str]:
    said, until = "", time.monotonic() + 20
    while time.monotonic() < until:
        said += process.stdout.readline()
        if found := re.search(r"running on (http://\S+)", said):
            return found[1], said
    raise AssertionError(said)


def _connections(redis) -> set[str]:
    """The ids of the connections to the server."""
    return {client["id"] for client in redis.client_list()}
