"""The worker beside an app under real servers: they are told to end, reload, have several processes, and it breaks."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from typing import TYPE_CHECKING

import pytest

from sync_kit import Jobs
from tests.servers.serving import GRACE, start
from tests.support.ticks import elapsed

if TYPE_CHECKING:
    from tests.servers.serving import Serving

DRAIN, LONG = 1.0, 60.0
"""Seconds that the worker drains, and that a job takes which is handed back then."""
SLACK = 4.0
HYPERCORN_ENDS = sys.version_info < (3, 12)
"""Whether hypercorn ends while a stream is open on asyncio's own loop: from 3.12 on that waits for all connections."""


@pytest.fixture
def serve(server, namespace):
    """`serve("uvicorn", ...)` starts a server with the app of these tests and waits until it answers."""
    with contextlib.ExitStack() as stack:

        def begin(name: str, *options: str, **more: str) -> Serving:
            serving = start(name, *options, REDIS_URL=server.url, NAMESPACE=namespace, **more)
            stack.callback(serving.close)
            serving.until(lambda: serving.answers("/live") == 200, "up")
            return serving

        yield begin


@pytest.fixture
def jobs(make_kit):
    """The queue of the app, seen from here."""
    kit = make_kit()
    yield Jobs("beside", kit=kit).blocking
    kit.close()


def send(serving, *seconds: float) -> list[str]:
    """Have the app send jobs; returns their ids."""
    with serving.client() as client:
        ids: list[str] = client.post("/jobs", json=seconds).json()
    return ids


def end_while_jobs_run(serving, jobs, server, *, streams: bool) -> tuple[float, list[str], float]:
    """SIGTERM while one job runs that takes long, others run in a row, and a client listens to a stream.

    Returns:
        Seconds that the server took to end; the ids of the jobs, the long one first; when the signal was sent.
    """
    ids = send(serving, LONG, *[0.1] * 100)
    with contextlib.ExitStack() as stack:
        if streams:
            client = stack.enter_context(serving.client())
            events = stack.enter_context(client.stream("GET", "/stream")).iter_raw()
            assert next(events) == b"data: here\n\n"
        serving.until(lambda: jobs.counts().completed >= 3, "at work")
        with server.client() as redis:
            seconds, micros = redis.time()
        began = elapsed()
        serving.terminate()
        serving.wait()
        return elapsed() - began, ids, seconds + micros / 1e6


@pytest.mark.parametrize(
    ("name", "options", "loop", "quiet", "streams"),
    [
        ("uvicorn", [], "asyncio", False, True),
        ("uvicorn", [], "asyncio", True, True),
        ("uvicorn", [], "uvloop", True, True),
        ("hypercorn", [], "asyncio", False, HYPERCORN_ENDS),
        ("hypercorn", ["--workers", "0"], "asyncio", True, HYPERCORN_ENDS),
        ("hypercorn", ["--workers", "0"], "uvloop", True, True),
        ("granian", [], "uvloop", False, False),  # with an open stream it never ends the lifespan
        ("granian", [], "asyncio", True, True),
        ("granian", [], "uvloop", True, True),
    ],
)
def test_a_server_that_is_told_to_end_drains_in_time_and_nothing_is_lost(
    serve, jobs, server, name, options, loop, quiet, streams
):
    serving = serve(name, *options, loop=loop, QUIET="1" if quiet else "")
    took, ids, told = end_while_jobs_run(serving, jobs, server, streams=streams)
    assert took < GRACE + DRAIN + SLACK
    found = [jobs.get(each) for each in ids]
    assert (found[0].status, found[0].attempts) == ("waiting", 0)  # handed back, as if it had never run
    assert {job.status for job in found} == {"waiting", "completed"}
    assert {(job.status, job.attempts) for job in found[1:]} <= {("completed", 1), ("waiting", 0)}
    assert jobs.workers() == []
    if quiet:
        assert max(job.started_at.timestamp() for job in found[1:] if job.started_at) < told + 0.5


def test_a_reload_leaves_one_worker_and_the_jobs_go_on(serve, jobs, tmp_path):
    code = tmp_path / "reloaded.py"
    code.write_text("from tests.servers.app import app\n")
    options = ["--reload", "--reload-dir", str(tmp_path), "--app-dir", str(tmp_path)]
    serving = serve("uvicorn", *options, app="reloaded:app")
    ids = send(serving, *[0.1] * 40)
    seen = {worker.pid for worker in jobs.workers()}
    for number in (1, 2):
        code.write_text(f"from tests.servers.app import app\nNUMBER = {number}\n")
        serving.until(lambda: {worker.pid for worker in jobs.workers()} - seen, "reloaded")
        (worker,) = jobs.workers()
        seen.add(worker.pid)
    assert len(seen) == 3
    ids += send(serving, 0)
    serving.until(lambda: all(jobs.get(each).status == "completed" for each in ids), "done")
    assert {jobs.get(each).attempts for each in ids} == {1}
    assert serving.answers("/ready") == 200


def test_four_processes_have_a_worker_each_and_a_schedule_runs_once_for_each_slot(serve, jobs):
    serving = serve("uvicorn", "--workers", "4", TICKS="1")
    serving.until(lambda: len({worker.pid for worker in jobs.workers()}) == 4, "with four workers")
    serving.until(lambda: len(jobs.list(status="completed", task="tick")) >= 4, "ticking")
    serving.terminate()
    serving.wait()
    slots = sorted(job.scheduled_at.timestamp() for job in jobs.list(status="completed", task="tick"))
    assert {round(later - earlier, 3) for earlier, later in itertools.pairwise(slots)} == {1}
    assert jobs.workers() == []


def test_a_worker_that_crashes_turns_readiness_red_and_the_app_goes_on(serve, jobs):
    serving = serve("uvicorn")
    assert serving.answers("/ready") == 200
    with serving.client() as client:
        client.post("/crash")
        serving.until(lambda: serving.answers("/ready") == 503, "red")
        assert client.get("/ready").json()["checks"]["workers"] == {"status": "failing", "crashed": 1}
    assert serving.answers("/live") == 200
    assert len(send(serving, 0)) == 1
    assert "the worker of queue 'beside' has crashed: it is started again in 5 s" in serving.said
    assert "LookupError: an internal error" in serving.said
    assert "not ready: workers" in serving.said


def test_a_server_that_sends_no_lifespan_is_red_and_says_what_to_do(serve, jobs):
    serving = serve("uvicorn", "--lifespan", "off")
    with serving.client() as client:
        answer = client.get("/ready")
    assert answer.status_code == 503
    assert "let the server send lifespan" in answer.json()["checks"]["workers"]["remedy"]
    assert "the worker of queue 'beside' is never started" in serving.said


def test_the_line_at_the_start_is_seen_under_a_server(serve, jobs, server):
    serving = serve("uvicorn")
    (line,) = [line for line in serving.said.splitlines() if line.startswith("sync-kit: ")]
    assert line.startswith(f"sync-kit: worker of queue 'beside' on 127.0.0.1:{server.port}/0 (namespace ")
    (worker,) = jobs.workers()
    assert line.endswith(f"concurrency 2, process {worker.pid}")
    assert worker.pid != os.getpid()
