"""A worker inside the web process."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sync_kit import ConfigurationError, Jobs
from sync_kit_starlette import job_worker
from tests.jobs.conftest import Note


@pytest.fixture
def written() -> list[str]:
    return []


@pytest.fixture
def jobs(kit, written):
    made = Jobs("notes", kit=kit)

    @made.task(schema=Note)
    async def write(note: Note) -> None:
        written.append(note.text)

    return made


def app_with(jobs, **options) -> Starlette:
    async def post(request: Request) -> JSONResponse:
        receipt = await jobs.tasks["write"].send(**await request.json())
        return JSONResponse({"id": receipt.id, "state": dict(request.state._state)}, 202)

    return Starlette(routes=[Route("/", post, methods=["POST"])], lifespan=job_worker(jobs, **options))


def wait_for(condition) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_job_sent_in_a_handler_is_run_beside_the_app(ask, jobs, written):
    client = ask(app_with(jobs, concurrency=3))
    answer = client.post("/", json={"text": "hello"})
    assert answer.status_code == 202
    wait_for(lambda: written == ["hello"])


def test_a_lifespan_of_ones_own_goes_around_the_worker(ask, jobs, written):
    steps = []

    @asynccontextmanager
    async def lifespan(app):
        steps.append("up")
        yield {"greeting": "hi"}
        steps.append("down")

    client = ask(app_with(jobs, lifespan=lifespan))
    assert client.post("/", json={"text": "a"}).json()["state"] == {"greeting": "hi"}
    wait_for(lambda: written == ["a"])
    client.__exit__(None, None, None)
    assert steps == ["up", "down"]
    client.__enter__()
    client.post("/", json={"text": "again"})
    wait_for(lambda: written == ["a", "again"])


@pytest.mark.parametrize(("options", "message"), [({"concurency": 1}, "did you mean"), ({"concurrency": 0}, "from 1")])
def test_wrong_options_are_refused_at_once(jobs, options, message):
    with pytest.raises(ConfigurationError, match=message):
        job_worker(jobs, **options)


def test_two_loops_may_run_the_app_at_the_same_time(ask, jobs, written):
    app = app_with(jobs)
    first, second = ask(app), ask(app)
    for client, text in ((first, "one"), (second, "two"), (first, "three")):
        client.post("/", json={"text": text})
        wait_for(lambda text=text: text in written)
