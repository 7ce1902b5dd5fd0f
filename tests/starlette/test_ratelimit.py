"""Requests that are limited."""

from __future__ import annotations

import logging
from typing import Annotated, Any, cast

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from sync_kit import ConfigurationError, SyncKit, Unavailable
from sync_kit.ratelimit import TrustedProxies
from sync_kit_starlette import RateLimitMiddleware, client_address, rate_limited
from tests.starlette.tools import codes, started


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def app_with(kit, *rules, routes=None, **options) -> Starlette:
    app = Starlette(routes=routes or [Route("/", home)])
    app.add_middleware(RateLimitMiddleware, *rules, kit=kit, **options)
    return app


def test_the_limit_is_exact_and_the_refusal_honest(ask, kit):
    client = ask(app_with(kit, limit=3))
    assert codes(client, "/", "/", "/") == [200, 200, 200]
    refused = client.get("/")
    assert refused.status_code == 429
    assert 57 <= int(refused.headers["retry-after"]) <= 63
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["status"] == 429
    assert refused.json()["title"] == "Too Many Requests"
    assert refused.json()["type"].endswith("#quota-exceeded")
    assert refused.json()["violated-policies"] == ["3/minute"]
    assert refused.headers["ratelimit-policy"] == '"3/minute";q=3;w=60'
    assert refused.headers["ratelimit"].startswith('"3/minute";r=0;t=')


def test_one_budget_for_the_whole_app(ask, kit):
    client = ask(app_with(kit, "2/minute", routes=[Route("/a", home), Route("/b", home)]))
    assert codes(client, "/a", "/b", "/a", "/missing") == [200, 200, 429, 429]


@pytest.mark.parametrize("is_async", [True, False])
def test_a_key_of_ones_own(ask, kit, is_async):
    def by_user(request: Request) -> str:
        return request.headers["x-user"]

    async def by_user_later(request: Request) -> str:
        return request.headers["x-user"]

    client = ask(app_with(kit, limit=1, key=by_user_later if is_async else by_user))
    assert codes(client, "/", "/", headers={"x-user": "ann"}) == [200, 429]
    assert codes(client, "/", headers={"x-user": "bob"}) == [200]


def test_forwarding_headers_are_not_believed(ask, kit):
    client = ask(app_with(kit, limit=1))
    assert codes(client, "/", headers={"x-forwarded-for": "1.1.1.1", "forwarded": "for=1.1.1.1"}) == [200]
    assert codes(client, "/", headers={"x-forwarded-for": "2.2.2.2", "forwarded": "for=2.2.2.2"}) == [429]


def from_peer(app, host):
    """The app as somebody at `host` reaches it."""

    async def reached(scope, receive, send):
        await app({**scope, "client": (host, 1234)}, receive, send)

    return TestClient(reached)


def test_trusted_proxies_say_who_the_client_is(server):
    async def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(client_address(request, TrustedProxies(["10.0.0.0/8"])))

    def asked(peer, **headers):
        with from_peer(Starlette(routes=[Route("/", who)]), peer) as client:
            return client.get("/", headers=headers).text

    assert asked("10.0.0.1", **{"x-forwarded-for": "6.6.6.6, 203.0.113.7, 10.0.0.2"}) == "203.0.113.7"
    assert asked("203.0.113.9", **{"x-forwarded-for": "6.6.6.6"}) == "203.0.113.9"
    assert asked("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert asked("testclient") == "testclient"


def test_behind_a_proxy_each_client_has_a_budget_and_cannot_choose_it(kit):
    app = app_with(kit, limit=1, trusted_proxies=["10.0.0.0/8"])
    with from_peer(app, "10.0.0.1") as client:
        assert codes(client, "/", "/", headers={"x-forwarded-for": "203.0.113.7"}) == [200, 429]
        assert codes(client, "/", headers={"x-forwarded-for": "1.1.1.1, 203.0.113.7"}) == [429]
        assert codes(client, "/", headers={"x-forwarded-for": "203.0.113.8"}) == [200]


def test_several_rules_are_one_decision(ask, kit):
    client = ask(app_with(kit, "2/minute", "3/hour"))
    assert codes(client, "/", "/", "/") == [200, 200, 429]
    assert client.get("/").json()["violated-policies"] == ["2/minute"]


def test_a_shadow_lets_everybody_pass(ask, kit):
    client = ask(app_with(kit, limit=1, shadow=True))
    assert codes(client, "/", "/", "/") == [200, 200, 200]


def test_streams_pass_untouched(ask, kit):
    async def stream(request: Request) -> StreamingResponse:
        async def parts():
            for part in ("a", "b", "c"):
                yield part

        return StreamingResponse(parts())

    client = ask(app_with(kit, limit=1, routes=[Route("/", stream)]))
    assert client.get("/").text == "abc"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs limit="),
        ({"limit": 0}, "limit must be from 1"),
        ({"limit": True}, "whole number"),
        ({"limit": 1, "window": float("nan")}, "window must be seconds"),
        ({"rule": "5/minute"}, "has no option 'rule'"),
        ({"limit": 5, "trusted_proxies": ["*"]}, "it would trust everybody|everybody, so every client could choose"),
        ({"limit": 5, "trusted_proxies": ["::1"], "key": str}, "trusted_proxies= belongs to the default key"),
        ({"limit": 5, "replicas": 2}, 'replicas=2 belongs to on_error="local"'),
        ({"limits": 5}, "did you mean 'limit'"),
        ({"limit": 5, "on_error": "ignore"}, "on_error must be one of"),
    ],
    ids=str,
)
def test_wrong_configuration_is_refused_when_the_app_starts(kit, options, message):
    with pytest.raises(ConfigurationError, match=message):
        started(app_with(kit, **options))


def test_wrong_rules_are_refused_when_the_app_starts(kit):
    for rules, message in [(["5 a minute"], "is not a rate limit"), (["5/minute", "6/minute"], "the same window")]:
        with pytest.raises(ConfigurationError, match=message):
            started(app_with(kit, *rules))
    with pytest.raises(ConfigurationError, match="not both"):
        started(app_with(kit, "5/minute", limit=5))


@pytest.mark.parametrize(("on_error", "code"), [("allow", 200), ("deny", 429)])
def test_requests_pass_or_not_when_redis_is_away(ask, own_server, caplog, on_error, code):
    own = own_server()
    own.stop()
    caplog.set_level(logging.WARNING, "sync_kit")
    client = ask(app_with(SyncKit(own.url), limit=1, on_error=on_error))
    assert codes(client, "/", "/", "/") == [code] * 3
    assert len([record for record in caplog.records if record.name == "sync_kit"]) == 1


def test_raise_is_raised(ask, own_server):
    own = own_server()
    own.stop()
    client = ask(app_with(SyncKit(own.url), limit=1, on_error="raise"))
    with pytest.raises(Unavailable):
        client.get("/")


def test_a_limited_handler_has_a_budget_of_its_own(ask, kit):
    @rate_limited("2/minute", kit=kit)
    async def user(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["id"])

    client = ask(Starlette(routes=[Route("/users/{id}", user), Route("/", home)]))
    assert codes(client, "/users/1", "/users/2", "/users/3", "/") == [200, 200, 429, 200]
    assert client.get("/users/1").headers["retry-after"]


def test_handlers_of_every_kind(ask, kit):
    @rate_limited("1/minute", kit=kit)
    async def no_request() -> PlainTextResponse:
        return PlainTextResponse("a")

    @rate_limited("1/minute", kit=kit)
    def plain(req: Request) -> PlainTextResponse:
        return PlainTextResponse(req.url.path)

    class Page(HTTPEndpoint):
        @rate_limited("1/minute", kit=kit)
        async def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("c")

    client = ask(
        Starlette(routes=[Route("/a", no_request), Mount("/m", routes=[Route("/b", plain)]), Route("/c", Page)])
    )
    for path in ("/a", "/m/b", "/c"):
        assert codes(client, path, path) == [200, 429]
    assert no_request.__name__ == "no_request"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_call_without_a_request_says_what_is_wrong(kit):
    @rate_limited("1/minute", kit=kit)
    async def handler(request: Request) -> None: ...

    with pytest.raises(ConfigurationError, match="handler is decorated for requests"):
        await cast("Any", handler)()


def test_one_name_is_one_budget(ask, kit):
    routes = []
    for path in ("/a", "/b"):

        @rate_limited("2/minute", name="shared", kit=kit)
        async def handler(request: Request) -> PlainTextResponse:
            return PlainTextResponse("ok")

        routes.append(Route(path, handler))
    client = ask(Starlette(routes=routes))
    assert codes(client, "/a", "/b", "/a") == [200, 200, 429]


def test_a_wrong_rule_is_refused_when_it_is_applied(kit):
    with pytest.raises(ConfigurationError, match="is not a rate limit"):

        @rate_limited("often", kit=kit)
        async def handler(request: Request) -> None: ...


def number() -> int:
    return 7


def test_fastapi_reads_the_handlers_own_signature(kit):
    api = FastAPI()

    @api.get("/items/{item}")
    @rate_limited("2/minute", kit=kit)
    async def item(item: int, n: Annotated[int, Depends(number)], q: str = "x") -> dict[str, object]:
        return {"item": item, "n": n, "q": q}

    @api.get("/plain/{item}")
    @rate_limited("2/minute", kit=kit)
    def plain(request: Request, item: int) -> dict[str, object]:
        return {"path": request.url.path, "item": item}

    with TestClient(api) as client:
        assert client.get("/items/3?q=y").json() == {"item": 3, "n": 7, "q": "y"}
        assert client.get("/items/three").status_code == 422
        assert client.get("/plain/4").json() == {"path": "/plain/4", "item": 4}
        assert codes(client, "/items/1", "/items/1") == [200, 429]
        parameters = client.get("/openapi.json").json()["paths"]["/items/{item}"]["get"]["parameters"]
    assert [parameter["name"] for parameter in parameters] == ["item", "q"]
