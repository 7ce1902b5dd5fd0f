"""What the field complains of, as tests: each names a behaviour that was somebody's bad day."""

from __future__ import annotations

import logging

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from sync_kit import RateLimiter, SyncKit
from sync_kit_starlette import RateLimitMiddleware, rate_limited
from sync_kit_starlette.fastapi import RateLimit
from tests.starlette.tools import codes


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


@pytest.mark.parametrize("depth", [1, 3])
def test_included_routers_are_limited_like_any_other(ask, kit, depth):
    """The default limits of a middleware must not depend on finding the route."""
    api, router = FastAPI(), APIRouter()

    @router.get("/x")
    async def x() -> str:
        return "x"

    for level in range(depth):
        outer = APIRouter(prefix=f"/{level}")
        outer.include_router(router)
        router = outer
    api.include_router(router)
    api.add_middleware(RateLimitMiddleware, limit=1, kit=kit)
    path = "".join(f"/{level}" for level in reversed(range(depth))) + "/x"
    assert codes(ask(api), path, path) == [200, 429]


def test_clients_do_not_share_one_bucket(kit):
    app = Starlette(routes=[Route("/", home)], middleware=[Middleware(RateLimitMiddleware, limit=1, kit=kit)])

    def from_peer(host):
        async def reached(scope, receive, send):
            await app({**scope, "client": (host, 1)}, receive, send)

        return reached

    for host in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        with TestClient(from_peer(host)) as client:
            assert codes(client, "/", "/") == [200, 429]
    with TestClient(from_peer("2001:db8::2")) as client:
        assert codes(client, "/") == [429], "one site of IPv6 is one client"


def test_a_response_starts_once_however_many_chunks_it_has(ask, kit):
    async def stream(request: Request) -> StreamingResponse:
        async def parts():
            for number in range(50):
                yield f"{number},"
                await anyio.lowlevel.checkpoint()

        return StreamingResponse(parts())

    starts = []
    app = Starlette(routes=[Route("/", stream)], middleware=[Middleware(RateLimitMiddleware, limit=9, kit=kit)])

    async def watched(scope, receive, send):
        async def watching(message):
            starts.append(message["type"])
            await send(message)

        await app(scope, receive, watching)

    assert ask(watched).get("/").text == "".join(f"{number}," for number in range(50))
    assert starts.count("http.response.start") == 1
    assert starts.count("http.response.body") > 50


@pytest.mark.parametrize("form", ["middleware", "decorator", "dependency"])
def test_a_short_rule_does_not_eat_the_long_one(ask, kit, form):
    """5 an hour and 1 a second: refused requests of a burst leave the hour alone."""
    api, rules = FastAPI(), ("5/hour", "1/second")
    if form == "middleware":
        api.add_middleware(RateLimitMiddleware, *rules, name="n", kit=kit)
    limited = rate_limited(*rules, name="n", kit=kit) if form == "decorator" else lambda handler: handler
    depends = [Depends(RateLimit(*rules, name="n", kit=kit))] if form == "dependency" else []

    @api.get("/", dependencies=depends)
    @limited
    async def page() -> str:
        return "x"

    admitted = codes(ask(api), *["/"] * 20).count(200)
    left = RateLimiter("n", *rules, kit=kit).blocking.peek("testclient").states[1].remaining
    assert left == 5 - admitted
    assert admitted < 5


@pytest.mark.parametrize("form", ["middleware", "decorator", "dependency"])
@pytest.mark.parametrize(("on_error", "code"), [("allow", 200), ("deny", 429), ("local", 200)])
def test_an_outage_is_answered_by_a_policy_and_not_by_500(ask, own_server, caplog, form, on_error, code):
    own = own_server()
    own.stop()
    kit, api = SyncKit(own.url), FastAPI()
    if form == "middleware":
        api.add_middleware(RateLimitMiddleware, limit=5, on_error=on_error, kit=kit)
    limited = rate_limited("5/minute", on_error=on_error, kit=kit) if form == "decorator" else lambda handler: handler
    depends = [Depends(RateLimit("5/minute", on_error=on_error, kit=kit))] if form == "dependency" else []

    @api.get("/", dependencies=depends)
    @limited
    async def page() -> str:
        return "x"

    caplog.set_level(logging.WARNING, "sync_kit")
    client = ask(api)
    assert codes(client, "/", "/", "/") == [code] * 3
    assert len([record for record in caplog.records if record.name == "sync_kit"]) == 1, "said once, not each time"
    answer = client.get("/")
    assert ("retry-after" in answer.headers) == (code == 429)
    assert ("ratelimit" in answer.headers) == (on_error == "local"), "no numbers where nobody counted"


def test_a_forged_header_does_not_make_a_new_client(ask, kit):
    app = Starlette(routes=[Route("/", home)], middleware=[Middleware(RateLimitMiddleware, limit=1, kit=kit)])
    client = ask(app)
    names = ("x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip", "true-client-ip", "x-client-ip")
    answers = [client.get("/", headers={name: f"198.51.100.{n}"}).status_code for n, name in enumerate(names)]
    assert answers == [200, 429, 429, 429, 429, 429]


def test_path_values_do_not_make_fresh_buckets(ask, kit):
    api = FastAPI()

    @api.get("/users/{user_id}")
    @rate_limited("3/minute", kit=kit)
    async def user(user_id: int) -> int:
        return user_id

    assert codes(ask(api), *[f"/users/{number}" for number in range(5)]) == [200, 200, 200, 429, 429]


def test_query_strings_and_slashes_do_not_make_fresh_buckets(ask, kit):
    app = Starlette(routes=[Route("/a", home)], middleware=[Middleware(RateLimitMiddleware, limit=2, kit=kit)])
    assert codes(ask(app), "/a?x=1", "//a", "/a?x=2", "/A", "/%61") == [200, 404, 429, 429, 429]


def test_waiting_as_long_as_retry_after_says_is_enough(ask, kit):
    app = Starlette(routes=[Route("/", home)], middleware=[Middleware(RateLimitMiddleware, "2/second", kit=kit)])
    client = ask(app)
    for _ in range(2):
        answers = [client.get("/") for _ in range(6)]
        refused = next(answer for answer in answers if answer.status_code == 429)
        pause = int(refused.headers["retry-after"])
        assert 1 <= pause <= 2
        anyio.run(anyio.sleep, pause)
        assert codes(client, "/") == [200]


def test_one_app_survives_many_event_loops(kit):
    """Test suites make a loop for each test; clients of the loop before must not be used."""
    app = Starlette(routes=[Route("/", home)], middleware=[Middleware(RateLimitMiddleware, limit=50, kit=kit)])
    for backend in ("asyncio", "trio", "asyncio", "asyncio"):
        with TestClient(app, backend=backend) as client:
            assert codes(client, "/", "/") == [200, 200]
        # without lifespan: a loop for each request
        assert codes(TestClient(app, backend=backend), "/", "/") == [200, 200]


@pytest.mark.filterwarnings("ignore:Async generator 'starlette.requests:ResourceWarning")  # of the oldest, on trio
def test_other_middlewares_around_and_inside_get_along(ask, kit):
    ran: list[int] = []

    class Base(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            return await call_next(request)

    async def page(request: Request) -> StreamingResponse:
        return StreamingResponse(iter(["a" * 600, "b"]), background=BackgroundTask(ran.append, 1))

    order = [
        Middleware(Base),
        Middleware(RateLimitMiddleware, limit=1, kit=kit),
        Middleware(GZipMiddleware),
        Middleware(Base),
    ]
    client = ask(Starlette(routes=[Route("/", page)], middleware=order))
    admitted = client.get("/")
    assert admitted.text == "a" * 600 + "b"
    assert admitted.headers["content-encoding"] == "gzip"
    assert admitted.headers.get_list("ratelimit-policy") == ['"1/minute";q=1;w=60']
    assert codes(client, "/") == [429]
    assert ran == [1]
