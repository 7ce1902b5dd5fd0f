"""What probes are told of a web process."""

from __future__ import annotations

import contextlib
import gc
import json
import threading
import time
import weakref
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from sync_kit import ConfigurationError, Jobs, SyncKit
from sync_kit.queue.courier import Courier
from sync_kit_starlette import RateLimitMiddleware, health_routes, job_worker
from tests.jobs.conftest import Note
from tests.starlette.asgi import asked
from tests.starlette.test_jobs import wait_for
from tests.support.ticks import elapsed


@pytest.fixture(autouse=True)
def unheard(monkeypatch):
    """What other tests have made is forgotten."""
    monkeypatch.setattr("sync_kit_starlette.jobs._made", set())
    monkeypatch.setattr("sync_kit_starlette.jobs._aborted", set())


@pytest.fixture
def jobs(kit):
    return Jobs("notes", kit=kit)


def app_with(*workers, lifespan=None, **options) -> Starlette:
    return Starlette(routes=health_routes(*workers, **options), lifespan=lifespan)


def is_ready(client) -> bool:
    return bool(client.get("/ready").status_code == 200)


def checks(client) -> dict[str, Any]:
    """The checks of a probe."""
    answer = client.get("/ready")
    said: dict[str, Any] = answer.json()
    assert (answer.status_code, said["status"]) in {(200, "ok"), (503, "failing")}
    assert list(said["checks"]) == ["redis", "workers", "loop"]
    found: dict[str, Any] = said["checks"]
    return found


def test_a_process_in_which_all_is_well_is_live_and_ready(ask, jobs, kit):
    worker = job_worker(jobs)
    client = ask(app_with(worker, lifespan=worker))
    assert client.get("/live").json() == {"status": "ok"}
    said = client.get("/ready").json()
    assert said["status"] == "ok"
    assert said["checks"]["workers"] == {"status": "ok", "running": 1}
    assert said["checks"]["redis"]["status"] == said["checks"]["loop"]["status"] == "ok"
    assert 0 < said["checks"]["redis"]["ms"] < 1000
    assert 0 <= said["checks"]["loop"]["lag_ms"] < 1000


@pytest.mark.parametrize("path", ["/live", "/ready"])
def test_probes_may_ask_by_head_and_nothing_is_cached(ask, kit, path):
    client = ask(app_with(kit=kit))
    for answer in (client.head(path), client.get(path)):
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"
    assert client.post(path).status_code == 405


def test_the_routes_fit_fastapi_in_both_ways_and_below_a_prefix(ask, kit):
    app = FastAPI(routes=health_routes(kit=kit))
    app.router.routes.extend(health_routes(kit=kit, prefix="/internal/health"))
    client = ask(app)
    for path in ("/live", "/ready", "/internal/health/live", "/internal/health/ready"):
        assert client.get(path).status_code == 200
    assert client.get("/openapi.json").json()["paths"] == {}


def test_probes_are_exempt_from_a_limit_for_the_whole_app(ask, kit):
    app = app_with(kit=kit)
    app.add_middleware(RateLimitMiddleware, limit=1, kit=kit, exempt=["/live", "/ready"])
    client = ask(app)
    assert [client.get(path).status_code for path in ("/live", "/ready", "/live", "/ready")] == [200] * 4
    assert [client.get("/elsewhere").status_code for _ in range(2)] == [404, 429]


@pytest.mark.parametrize("prefix", ["health", "/health/", "/", None])
def test_an_odd_prefix_is_refused(prefix):
    with pytest.raises(ConfigurationError, match="a path such as '/health'"):
        health_routes(prefix=prefix)


def test_other_wrong_arguments_are_refused(jobs):
    with pytest.raises(ConfigurationError, match="takes what job_worker returns"):
        health_routes(jobs)
    with pytest.raises(ConfigurationError, match="max_lag must be more than 0"):
        health_routes(max_lag=0)
    with pytest.raises(ConfigurationError, match="did you mean 'prefix'"):
        health_routes(prefx="/health")  # type: ignore[arg-type]


def test_nothing_is_written_to_redis(ask, kit, server):
    client = ask(app_with(kit=kit))
    assert checks(client)["redis"]["status"] == "ok"
    with server.client() as redis:
        assert redis.keys("*") == []


def test_a_redis_that_is_a_black_hole_is_told_in_a_second_or_so_and_so_is_its_return(ask, proxy, namespace, caplog):
    kit = SyncKit(f"{proxy.url}?socket_timeout=0.5", namespace=namespace)
    client = ask(app_with(kit=kit))
    assert is_ready(client)
    proxy.black_hole()
    for _ in range(3):
        began = elapsed()
        assert checks(client)["redis"]["status"] == "failing"
        assert elapsed() - began < 2
        assert client.get("/live").status_code == 200
    proxy.heal()
    wait_for(lambda: is_ready(client))
    assert caplog.text.count("well again: redis; ready") == 1
    assert caplog.text.count("not ready: redis: ") == 1
    kit.close()


def test_a_redis_that_is_a_black_hole_from_the_start_is_told_in_a_second_or_so(ask, proxy, namespace):
    proxy.black_hole()
    kit = SyncKit(f"{proxy.url}?socket_timeout=0.5", namespace=namespace)
    client = ask(app_with(kit=kit))
    for _ in range(2):
        began = elapsed()
        assert checks(client)["redis"]["status"] == "failing"
        assert elapsed() - began < 2
    proxy.heal()
    wait_for(lambda: is_ready(client))
    kit.close()


def test_a_redis_that_refuses_is_told_without_secrets_and_addresses(ask, proxy, namespace, caplog):
    proxy.refuse()
    kit = SyncKit(proxy.url.replace("127.0.0.1", "user:geheim@127.0.0.1"), namespace=namespace)
    client = ask(app_with(kit=kit))
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"]["redis"]["status"] == "failing"
    assert not any(word in answer.text for word in ("127.0.0.1", str(proxy.port), "geheim", "Error", "refused"))
    assert "not ready: redis: " in caplog.text
    assert "geheim" not in caplog.text
    kit.close()


@pytest.mark.parametrize("together", [True, False])
def test_the_servers_of_all_workers_are_asked(ask, jobs, own_server, namespace, together):
    other = own_server()
    mail = Jobs("mail", kit=SyncKit(other.url, namespace=namespace))
    near = job_worker(jobs, mail) if together else job_worker(jobs, lifespan=job_worker(mail))
    client = ask(app_with(lifespan=near))
    assert is_ready(client)
    other.stop()
    assert checks(client)["redis"]["status"] == "failing"
    other.start()
    wait_for(lambda: is_ready(client))


def test_a_worker_whose_lifespan_never_came_is_red_and_says_what_to_do(ask, jobs, kit, caplog):
    inner = Starlette(lifespan=job_worker(jobs))
    client = ask(Starlette(routes=[*health_routes(kit=kit), Mount("/inner", inner)]))
    said = checks(client)["workers"]
    assert said.pop("remedy").startswith("let the server send lifespan")
    assert said == {"status": "failing", "never started": 1}
    assert "not ready: workers: the worker of queue 'notes' is never started; let the server" in caplog.text
    assert client.get("/live").status_code == 200


def test_a_worker_that_is_switched_off_is_not_red(ask, jobs):
    client = ask(app_with(lifespan=job_worker(jobs, enabled=False)))
    assert checks(client)["workers"] == {"status": "ok", "off": 1}
    assert is_ready(client)


def test_a_worker_that_takes_nothing_more_is_red(ask, jobs):
    worker = job_worker(jobs)
    client = ask(app_with(worker, lifespan=worker))
    assert is_ready(client)
    worker.quiet()
    wait_for(lambda: not is_ready(client))
    assert checks(client)["workers"] == {"status": "failing", "quiet": 1}


def test_a_worker_that_has_crashed_is_red_until_it_is_started_again(ask, jobs, monkeypatch, caplog):
    monkeypatch.setattr("sync_kit.queue.beside.FIRST_PAUSE", 1.0)
    listen = Courier.listen
    monkeypatch.setattr(Courier, "listen", None)
    client = ask(app_with(lifespan=job_worker(jobs)))
    assert checks(client)["workers"] == {"status": "failing", "crashed": 1}
    monkeypatch.setattr(Courier, "listen", listen)
    wait_for(lambda: is_ready(client))
    assert "not ready: workers: the worker of queue 'notes' is crashed" in caplog.text
    assert "well again: workers; ready" in caplog.text


@pytest.mark.anyio
async def test_a_worker_is_red_whose_lifespan_breaks_while_the_server_goes_on(jobs, kit, monkeypatch, caplog):
    """As when a task that it has started beside the worker fails: servers do not end because of that."""
    monkeypatch.setattr("sync_kit_starlette.jobs._made", weakref.WeakSet())
    app = app_with(kit=kit)

    async def failing():
        raise LookupError

    async def lifespan():
        async with anyio.create_task_group() as tasks, job_worker(jobs):
            tasks.start_soon(failing)
            await anyio.sleep(20)

    with contextlib.suppress(Exception):  # a group
        await lifespan()
    gc.collect()
    call = await asked(app, "/ready")
    assert call.status == 503
    assert json.loads(call.body)["checks"]["workers"] == {"status": "failing", "aborted": 1}
    assert "the worker of queue 'notes' has ended, with its lifespan" in caplog.text


def test_a_worker_without_a_sign_of_life_in_redis_is_red(ask, jobs, monkeypatch):
    worker = job_worker(jobs)
    client = ask(app_with(lifespan=worker))
    assert is_ready(client)
    monkeypatch.setattr("sync_kit.queue.beside.MOST_SILENT", 0.0)
    assert checks(client)["workers"] == {"status": "failing", "silent": 1}


def test_a_worker_with_a_thread_that_is_stuck_is_red(ask, jobs):
    go, begun = threading.Event(), threading.Event()

    @jobs.task(schema=Note, timeout=0.02)
    def stuck(note: Note) -> None:
        begun.set()
        go.wait()

    client = ask(app_with(lifespan=job_worker(jobs)))
    stuck.blocking.send(text="a")
    try:
        wait_for(lambda: checks(client)["workers"] == {"status": "failing", "stuck": 1})
    finally:
        go.set()
    wait_for(lambda: is_ready(client))


def test_an_event_loop_that_lags_is_red(ask, kit):
    enough = threading.Event()

    async def block(request: Request) -> PlainTextResponse:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(hold)
        return PlainTextResponse("")

    async def hold() -> None:
        while not enough.is_set():
            time.sleep(0.02)  # noqa: ASYNC251 (it is to block)
            await anyio.lowlevel.checkpoint()

    client = ask(Starlette(routes=[Route("/block", block), *health_routes(kit=kit, max_lag=0.01)]))
    assert is_ready(client)
    blocked = threading.Thread(target=client.get, args=("/block",))
    blocked.start()
    try:
        wait_for(lambda: (loop := checks(client)["loop"])["status"] == "failing" and loop["lag_ms"] > 10)
    finally:
        enough.set()
        blocked.join()
    wait_for(lambda: is_ready(client))
