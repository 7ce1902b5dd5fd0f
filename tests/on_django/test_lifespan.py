"""A worker inside of an ASGI server."""

from __future__ import annotations

import importlib.util

import anyio
import pytest
from django.core.asgi import get_asgi_application
from django.test.utils import override_settings

import sync_kit
from sync_kit import ConfigurationError
from sync_kit_django import _registry, with_worker
from sync_kit_django._handlers import clean
from tests.cli.conftest import Tasks
from tests.on_django.sites import Site
from tests.servers.serving import start

pytestmark = pytest.mark.anyio

ASGI = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
from django.core.asgi import get_asgi_application
from sync_kit_django import with_worker
app = with_worker(get_asgi_application(), queues=["notes"], quiet_on_sigterm=True)
"""


class Server:
    """What calls an application as servers do."""

    def __init__(self, application) -> None:
        self._application = application
        self.said: list[dict[str, object]] = []
        self._told: list[dict[str, object]] = []

    async def live(self) -> None:
        await self._application({"type": "lifespan"}, self._receive, self._hear)

    def tell(self, word: str) -> None:
        self._told.append({"type": f"lifespan.{word}"})

    async def heard(self, word: str) -> dict[str, object]:
        with anyio.fail_after(10):
            while not any(message["type"] == f"lifespan.{word}" for message in self.said):
                await anyio.sleep(0.01)
        return self.said[-1]

    async def get(self, path: str = "/nothing") -> int:
        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
        answers, asked = [], []

        async def receive():
            if asked:
                await anyio.sleep_forever()
            asked.append(True)
            return {"type": "http.request", "body": b""}

        async def send(message) -> None:
            answers.append(message)

        await self._application(scope, receive, send)
        return int(answers[0]["status"])

    async def _receive(self) -> dict[str, object]:
        while not self._told:
            await anyio.sleep(0.01)
        return self._told.pop(0)

    async def _hear(self, message) -> None:
        self.said.append(message)


@pytest.fixture
def written() -> list[str]:
    return []


@pytest.fixture
def jobs(kit, written, monkeypatch):
    monkeypatch.setattr(_registry, "_queues", [])
    made = sync_kit.Jobs("notes", kit=kit)
    _registry.remember(made)

    @made.task(schema=str)
    @clean
    def write(text: str) -> None:
        written.append(text)

    return made


async def test_jobs_are_run_from_the_start_of_the_server_to_its_end(jobs, written, capsys):
    application = with_worker(get_asgi_application())
    server = Server(application)
    assert application.state == "never started"
    async with anyio.create_task_group() as group:
        group.start_soon(server.live)
        server.tell("startup")
        await server.heard("startup.complete")
        assert application.state == "running"
        await jobs.named("write").send("hello")
        with anyio.fail_after(10):
            while not written:
                await anyio.sleep(0.01)
        assert await server.get() == 404, "requests are Django's"
        server.tell("shutdown")
        await server.heard("shutdown.complete")
    assert application.state == "drained"
    assert await jobs.workers() == []


async def test_the_first_request_says_that_no_lifespan_came(jobs, caplog):
    server = Server(with_worker(get_asgi_application()))
    for _ in range(2):
        await server.get()
    assert caplog.text.count("the worker of queue 'notes' never started, as no lifespan came to it") == 1
    assert "daphne does not" in caplog.text
    assert "put with_worker around all else" in caplog.text


async def test_the_environment_switches_it_off(jobs, monkeypatch, caplog):
    monkeypatch.setenv("SYNC_KIT_WORKER", "0")
    application = with_worker(get_asgi_application())
    server = Server(application)
    await server.get()
    assert "never started" not in caplog.text
    async with anyio.create_task_group() as group:
        group.start_soon(server.live)
        server.tell("startup")
        await server.heard("startup.complete")
        assert await jobs.workers() == []
        server.tell("shutdown")
    assert application.state == "off"


async def test_what_fails_at_the_start_fails_the_start_of_the_server(jobs, monkeypatch):
    async def broken(self) -> None:
        raise LookupError("no slots")

    monkeypatch.setattr("sync_kit.queue.worker.Worker.__aenter__", broken)
    server = Server(with_worker(get_asgi_application()))
    server.tell("startup")
    await server.live()
    assert server.said == [{"type": "lifespan.startup.failed", "message": "no slots"}]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queues": ["note"]}, "there is no queue 'note': did you mean 'notes'?"),
        ({"queues": "notes"}, "queues must be a list of names, as in ['notes']"),
        ({"concurrency": 0}, "concurrency must be from 1"),
        ({"concurency": 1}, "did you mean 'concurrency'?"),
        ({"enabled": "no"}, "enabled must be True, False or None"),
    ],
)
def test_what_is_wrong_is_refused_when_it_is_made(jobs, options, said):
    with pytest.raises(ConfigurationError) as caught:
        with_worker(get_asgi_application(), **options)
    assert said in str(caught.value)


def test_the_settings_say_what_is_not_given(jobs, settings_of):
    with settings_of(WORKER={"QUEUES": ["other"]}), pytest.raises(ConfigurationError, match="no queue 'other'"):
        with_worker(get_asgi_application())


@pytest.fixture
def settings_of(server, namespace):
    return lambda **more: override_settings(SYNC_KIT={"URL": server.url, "NAMESPACE": namespace, **more})


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn", "granian"])
def test_real_servers_run_jobs_and_let_them_end(name, server, namespace, tmp_path, kit):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    site, tasks = Site(tmp_path, server.url, namespace), Tasks(kit)
    site.write("asgi_site.py", ASGI)
    environment = {**site.environment, "PYTHONPATH": f"{tmp_path}:{site.environment['PYTHONPATH']}"}
    options = ["--workers", "0"] if name == "hypercorn" else []
    serving = start(name, *options, app="asgi_site:app", **environment)
    try:
        serving.until(lambda: serving.answers("/nothing") == 404, "up")
        tasks.reach(tasks.send("hello"), "completed")
        long = tasks.send("long", seconds=1)
        serving.until(lambda: "begins long" in serving.said, "at work")
        serving.terminate()
        serving.wait()
        assert "Traceback" not in serving.said
    finally:
        serving.close()
    assert tasks.status(long) == "completed"
    assert tasks.jobs.blocking.workers() == []
