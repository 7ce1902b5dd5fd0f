"""Mistakes that keep an app from starting, instead of failing its requests."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router

from sync_kit import ConfigurationError, Jobs
from sync_kit_starlette import RateLimitMiddleware, exclusive, job_worker, rate_limited
from tests.starlette.tools import codes, started

ROOT = Path(__file__).resolve().parents[2]


def page(kit, decorated):
    @decorated
    async def handler(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    return handler


def class_of(kit, decorated):
    class Page(HTTPEndpoint):
        @decorated
        async def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("x")

    return Page


def decorated_class(kit, decorated):
    class Page(HTTPEndpoint):
        async def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("x")

    return decorated(Page)


def wrapped(kit, decorated):
    inner = page(kit, decorated)

    @functools.wraps(inner)
    async def outer(request: Request) -> Any:
        return await inner(request)

    return outer


@pytest.mark.parametrize("by", ["worker", "middleware"])
@pytest.mark.parametrize("kind", [page, class_of, decorated_class, wrapped])
@pytest.mark.parametrize(
    "decorator",
    [functools.partial(exclusive, "report:<ident>"), functools.partial(rate_limited, "1/minute", key="<ident>")],
)
def test_an_unknown_placeholder_keeps_the_app_from_starting(kit, by, kind, decorator):
    endpoint = kind(kit, decorator(kit=kit))
    routes = [Mount("/{tenant}", routes=[Host("example.com", Router([Route("/reports/{id}", endpoint)]))])]
    app = Starlette(routes=routes, lifespan=job_worker(Jobs("x", kit=kit), enabled=False) if by == "worker" else None)
    if by == "middleware":
        app.add_middleware(RateLimitMiddleware, limit=5, kit=kit)
    with pytest.raises(ConfigurationError, match=r"<ident> .* path '.*/reports/\{id\}': use one of id, .*tenant"):
        started(app)


def test_placeholders_of_mounts_and_of_other_sources_are_known(ask, kit):
    @exclusive("<tenant>:<id>:<query.q>", kit=kit)
    @rate_limited("5/minute", key="<id>:<header.x-a>", kit=kit)
    async def handler(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = Starlette(routes=[Mount("/{tenant}", routes=[Route("/reports/{id:int}", handler)])])
    app.add_middleware(RateLimitMiddleware, limit=5, kit=kit)
    assert codes(ask(app), "/a/reports/1?q=1", "/a/reports/1") == [200, 400]


def test_an_app_of_fastapi_starts(ask, kit):
    api, sub = FastAPI(lifespan=job_worker(Jobs("x", kit=kit), enabled=False)), FastAPI()
    api.mount("/sub/{tenant}", sub)
    api.add_middleware(RateLimitMiddleware, limit=5, kit=kit)

    @sub.get("/{item_id}")
    @exclusive("item:<item_id>", kit=kit)
    async def item(item_id: int) -> int:
        return item_id

    assert codes(ask(api), "/sub/a/1") == [200]


def test_a_middleware_around_a_whole_app_is_refused_where_it_is_made(kit):
    with pytest.raises(ConfigurationError, match="limit must be from 1"):
        RateLimitMiddleware(Starlette(), limit=0, kit=kit)


APPS = {
    "wrong-option": ("app.add_middleware(RateLimitMiddleware, limit=0)", "limit must be from 1"),
    "twice": ("[app.add_middleware(RateLimitMiddleware, limit=5) for _ in range(2)]", "is added twice"),
    "placeholder": (
        "app.add_middleware(RateLimitMiddleware, limit=5); app.add_route('/r/{id}', exclusive('r:<ident>')(home))",
        "<ident> in 'r:<ident>' is no parameter of the path '/r/{id}'",
    ),
}
SERVERS = {
    "uvicorn": ["--uds", "s"],
    "hypercorn": ["--bind", "unix:s"],
    "granian": ["--interface", "asgi", "--uds", "s"],
}


@pytest.mark.parametrize("web", SERVERS)
@pytest.mark.parametrize("mistake", APPS)
def test_a_real_server_ends_and_says_why(tmp_path, mistake, web):
    line, said = APPS[mistake]
    (tmp_path / "wrong.py").write_text(
        "from starlette.applications import Starlette\n"
        "from sync_kit_starlette import RateLimitMiddleware, exclusive\n"
        f"async def home(request): ...\napp = Starlette()\n{line}\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", web, "wrong:app", *SERVERS[web]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert said in ran.stdout + ran.stderr
    assert ran.returncode != 0 or web == "hypercorn", "it has ended; hypercorn does not say so by its code"
