"""`@rate_limited` on handlers of every kind, wherever they are mounted, alone and together with other limits."""

from __future__ import annotations

import functools
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi import WebSocket as FastAPIWebSocket
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from sync_kit import ConfigurationError, RateLimiter, RateLimitError
from sync_kit_starlette import RateLimitMiddleware, client_address, exclusive, rate_limited
from tests.starlette.tools import codes


class Order(BaseModel):
    text: str


def number() -> int:
    return 7


def spent(server, namespace, name: str) -> int:
    """What all keys of a limiter have spent: one counter for each key."""
    with server.client() as redis:
        return len(redis.keys(f"{namespace}:rl:{{{name}:*"))


def test_a_decorated_endpoint_class_has_one_budget_for_all_methods(ask, kit):
    @rate_limited("2/minute", kit=kit)
    class Page(HTTPEndpoint):
        async def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("got")

        def post(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("posted")

    client = ask(Starlette(routes=[Route("/", Page)]))
    first = client.get("/")
    assert (first.text, first.headers["ratelimit"][:14]) == ("got", '"2/minute";r=1')
    assert client.post("/").text == "posted"
    assert codes(client, "/") == [429]
    assert client.put("/").status_code == 429
    assert Page.__name__ == "Page"


def test_fields_tell_of_the_class_and_of_its_method(ask, kit):
    @rate_limited("9/minute", kit=kit)
    class Page(HTTPEndpoint):
        @rate_limited("1/minute", kit=kit)
        async def get(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("got")

    client = ask(Starlette(routes=[Route("/", Page)]))
    admitted, refused = client.get("/"), client.get("/")
    assert admitted.headers.get_list("ratelimit-policy") == ['"9/minute";q=9;w=60, "1/minute";q=1;w=60']
    assert refused.headers.get_list("ratelimit-policy") == ['"1/minute";q=1;w=60']


def test_a_decorated_websocket_is_limited(ask, kit):
    @rate_limited("1/minute", kit=kit)
    async def function(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    @rate_limited("1/minute", kit=kit)
    class Endpoint(WebSocketEndpoint):
        async def on_connect(self, websocket: WebSocket) -> None:
            await websocket.accept()

    client = ask(Starlette(routes=[WebSocketRoute("/a", function), WebSocketRoute("/b", Endpoint)]))
    for path in ("/a", "/b"):
        with client.websocket_connect(path):
            pass
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(path):
            pass
        assert refused.value.status_code == 429


def test_methods_partials_and_objects_are_handlers_too(ask, kit):
    class Pages:
        @rate_limited("1/minute", kit=kit)
        async def method(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("method")

        async def __call__(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("object")

    def page(request: Request, text: str) -> PlainTextResponse:
        return PlainTextResponse(text)

    routes = [
        Route("/method", Pages().method),
        Route("/object", rate_limited("1/minute", kit=kit)(Pages())),
        Route("/partial", rate_limited("1/minute", kit=kit)(functools.partial(page, text="partial"))),
    ]
    client = ask(Starlette(routes=routes))
    for word in ("method", "object", "partial"):
        assert client.get(f"/{word}").text == word
        assert codes(client, f"/{word}") == [429]


def test_what_only_leads_to_an_async_handler_is_a_handler_too(ask, kit):
    """An inherited `__call__`, a static method below the decorator, a plain wrapper that returns the coroutine."""

    class Page:
        async def __call__(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("inherited")

    class Inheriting(Page):
        @rate_limited("1/minute", kit=kit)
        @staticmethod
        async def static(request: Request) -> PlainTextResponse:
            return PlainTextResponse("static")

    page = Page()

    @functools.wraps(page.__call__)
    def wrapped(request: Request):
        return page(request)

    routes = [
        Route("/inherited", rate_limited("1/minute", kit=kit)(Inheriting())),
        Route("/static", Inheriting.static),
        Route("/wrapped", rate_limited("1/minute", kit=kit)(wrapped)),
    ]
    client = ask(Starlette(routes=routes))
    for path in ("/inherited", "/static", "/wrapped"):
        assert codes(client, path, path) == [200, 429]


def test_one_budget_under_two_mounts_and_hosts_unless_named(ask, kit):
    @rate_limited("2/minute", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    def named(name):
        return rate_limited("1/minute", name=name, kit=kit)(page.__wrapped__)  # type: ignore[attr-defined]

    routes = [
        Mount("/a", routes=[Route("/{id}", page), Route("/own/{id}", named("a"))]),
        Mount("/b", routes=[Route("/{id}", page), Route("/own/{id}", named("b"))]),
        Host("api.example.com", Router([Route("/c", page)])),
    ]
    client = ask(Starlette(routes=routes))
    assert codes(client, "/a/own/1", "/a/own/2", "/b/own/1", "/b/own/2") == [200, 429, 200, 429]
    assert codes(client, "/a/1", "/b/2", "/a/3") == [200, 200, 429]
    assert client.get("/c", headers={"host": "api.example.com"}).status_code == 429


def test_keys_by_path_query_header_and_user(ask, kit):
    @rate_limited(
        "1/minute", key="<id>:<query.lang>:<header.x-tenant>:<user>", user=lambda r: r.headers["x-user"], kit=kit
    )
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    client = ask(Starlette(routes=[Route("/{id}", page)]))

    def get(path="/1?lang=de", tenant="a", user="ann"):
        return client.get(path, headers={"x-tenant": tenant, "x-user": user}).status_code

    assert [get(), get()] == [200, 429]
    assert [get("/2?lang=de"), get("/1?lang=en"), get(tenant="b"), get(user="bob")] == [200] * 4
    assert [get("/1"), get("/2")] == [200, 429], "without the value the address is counted"
    assert get("/1:de?lang=a") == 200, "values cannot pose as others"
    assert get("/1?lang=de:a") == 200


def test_an_empty_path_parameter_is_a_missing_value(ask, kit):
    """`{file:path}` takes an empty rest."""

    @rate_limited("1/minute", key="<file>", kit=kit)
    @exclusive("file:<file>", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    client = ask(Starlette(routes=[Route("/{file:path}", page)]))
    assert codes(client, "/", "/", "/a/b", "/a/b", "/a") == [400, 429, 200, 429, 200]


def test_a_placeholder_that_no_route_has_is_refused_at_the_first_request(ask, kit):
    @rate_limited("1/minute", key="<ident>", kit=kit)
    async def page(request: Request) -> None: ...

    client = ask(Starlette(routes=[Route("/{id}", page)]))
    with pytest.raises(ConfigurationError, match="<ident> .*use one of id"):
        client.get("/1")


def test_stacked_limits_are_all_asked_and_a_refusal_of_one_costs_nothing_of_the_others(ask, kit):
    """The hour is not eaten by what the second refuses."""

    @rate_limited("3/hour", kit=kit)
    @rate_limited("1/second", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    client = ask(Starlette(routes=[Route("/", page)]))
    admitted = client.get("/")
    assert admitted.headers["ratelimit-policy"] == '"3/hour";q=3;w=3600, "1/second";q=1;w=1'
    refused = [client.get("/") for _ in range(20)]
    assert {answer.status_code for answer in refused} <= {200, 429}
    admitted_then = sum(answer.status_code == 200 for answer in refused)
    limiter = RateLimiter(f"{page.__module__}.{page.__qualname__}", "3/hour", kit=kit)
    assert limiter.blocking.peek("testclient").remaining == 2 - admitted_then
    assert any(answer.json()["violated-policies"] == ["1/second"] for answer in refused if answer.status_code == 429)


def test_rules_of_one_decorator_are_one_decision(ask, kit):
    @rate_limited("3/hour", "1/second", name="both", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    client = ask(Starlette(routes=[Route("/", page)]))
    answers = codes(client, *["/"] * 10)
    states = RateLimiter("both", "3/hour", "1/second", kit=kit).blocking.peek("testclient").states
    assert states[1].remaining == 3 - answers.count(200)


def test_what_stands_between_two_limits_keeps_its_place(ask, kit):
    calls = []

    def counted(handler):
        @functools.wraps(handler)
        async def count(request: Request):
            calls.append(1)
            return await handler(request)

        return count

    @rate_limited("5/hour", name="hourly", kit=kit)
    @counted
    @rate_limited("1/minute", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    client = ask(Starlette(routes=[Route("/", page)]))
    assert codes(client, "/", "/") == [200, 429]
    assert len(calls) == 2
    assert RateLimiter("hourly", "5/hour", kit=kit).blocking.peek("testclient").remaining == 4, (
        "a refusal costs nothing"
    )


def test_middleware_decorator_and_dependency_charge_a_limiter_once(ask, kit):
    from sync_kit_starlette.fastapi import RateLimit

    limiter = RateLimiter("shared", "2/minute", kit=kit)
    api = FastAPI(dependencies=[Depends(RateLimit("2/minute", name="shared", kit=kit))])
    api.add_middleware(RateLimitMiddleware, limiter)

    @api.get("/", dependencies=[Depends(RateLimit(limiter))])
    @rate_limited(limiter)
    @rate_limited("2/minute", name="shared", kit=kit)
    async def page() -> str:
        return "x"

    client = ask(api)
    first = client.get("/")
    assert first.headers.get_list("ratelimit-policy") == ['"2/minute";q=2;w=60']
    assert first.headers["ratelimit"].startswith('"2/minute";r=1;')
    assert codes(client, "/", "/") == [200, 429]


def test_limits_that_differ_in_rule_or_key_are_charged_each(ask, kit):
    def by_page(request: Request) -> str:
        return request.url.path

    @rate_limited("9/minute", key=by_page, kit=kit, name="shared")
    @rate_limited("9/minute", kit=kit, name="shared")
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = Starlette(routes=[Route("/p", page)])
    app.add_middleware(RateLimitMiddleware, "9/hour", name="shared", kit=kit)
    codes(ask(app), "/p")
    limiter = RateLimiter("shared", "9/minute", kit=kit)
    left = [limiter.blocking.peek(key).remaining for key in ("/p", "testclient")]
    assert left == [8, 8]
    assert RateLimiter("shared", "9/hour", kit=kit).blocking.peek("testclient").remaining == 8


@pytest.mark.parametrize("upper", ["100/minute", "4/minute"])
def test_limits_that_share_a_counter_charge_it_once_and_each_decides(ask, kit, upper):
    """Of one name and window, and one key: an anonymous user is counted by the address, like everybody."""

    @rate_limited(upper, key=client_address, kit=kit)
    @rate_limited("4/minute" if upper == "100/minute" else "100/minute", cost=2, kit=kit)
    @rate_limited("50/minute", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    client = ask(Starlette(routes=[Route("/", page)]))
    assert codes(client, "/", "/", "/", "/") == [200, 200, 429, 429]


def test_the_middlewares_of_an_app_and_of_a_mounted_one_charge_a_client_once(ask, kit):
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    sub = Starlette(routes=[Route("/", page)], middleware=[Middleware(RateLimitMiddleware, limit=4, kit=kit)])
    app = Starlette(routes=[Mount("/sub", sub)], middleware=[Middleware(RateLimitMiddleware, limit=100, kit=kit)])
    assert codes(ask(app), *["/sub/"] * 5) == [200] * 4 + [429]


def test_a_limit_that_only_watches_does_not_stand_for_one_that_refuses(ask, kit):
    @rate_limited("2/minute", shadow=True, kit=kit)
    @rate_limited("2/minute", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    assert codes(ask(Starlette(routes=[Route("/", page)])), "/", "/", "/") == [200, 200, 429]


def test_responses_of_the_handler_carry_the_fields(ask, kit):
    api = FastAPI()

    @api.get("/dict")
    @rate_limited("5/minute", kit=kit)
    async def made() -> dict[str, int]:
        return {"a": 1}

    @api.get("/response")
    @rate_limited("5/minute", kit=kit)
    async def own() -> JSONResponse:
        return JSONResponse({"a": 1})

    @api.get("/stream")
    @rate_limited("5/minute", kit=kit)
    def stream() -> StreamingResponse:
        return StreamingResponse(iter(["a"]))

    client = ask(api)
    for path in ("/dict", "/response", "/stream"):
        assert client.get(path).headers.get_list("ratelimit-policy") == ['"5/minute";q=5;w=60']


def test_fastapi_handlers_with_bodies_dependencies_and_no_request(ask, kit):
    api, router = FastAPI(), APIRouter(prefix="/v1")

    @router.post("/orders/{item}")
    @rate_limited("2/minute", kit=kit)
    @exclusive("order:<item>", kit=kit)
    async def order(item: int, request: Order, n: Annotated[int, Depends(number)], q: str = "x") -> list[object]:
        """A body that is called request is no request."""
        return [item, request.text, n, q]

    @router.websocket("/ws")
    @rate_limited("1/minute", kit=kit)
    async def socket(websocket: FastAPIWebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    api.include_router(router, prefix="/api")
    outer = APIRouter(prefix="/outer")
    outer.include_router(router)
    api.include_router(outer)
    client = ask(api)
    assert client.post("/api/v1/orders/3?q=y", json={"text": "t"}).json() == [3, "t", 7, "y"]
    assert client.post("/api/v1/orders/three", json={"text": "t"}).status_code == 422
    assert client.post("/outer/v1/orders/4", json={"text": "t"}).status_code == 200
    assert client.post("/api/v1/orders/5", json={"text": "t"}).status_code == 429, "included routers are not free"
    with client.websocket_connect("/api/v1/ws"):
        pass
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/outer/v1/ws"):
        pass
    paths = client.get("/openapi.json").json()["paths"]
    operation = paths["/api/v1/orders/{item}"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["item", "q"]
    assert operation["description"] == "A body that is called request is no request."
    assert operation["operationId"].startswith("order_")
    assert set(operation["responses"]) == {"200", "422"}


def test_string_annotations_that_only_the_handlers_own_place_knows(ask, kit):
    class Local(BaseModel):
        text: str

    api = FastAPI()

    @api.post("/")
    @rate_limited("5/minute", kit=kit)
    async def post(local: Local) -> str:
        return local.text + Local.__name__

    assert ask(api).post("/", json={"text": "a"}).json() == "aLocal"


@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
def test_the_apps_own_handler_answers(ask, kit, framework):
    async def ours(request: Request, error: RateLimitError) -> JSONResponse:
        return JSONResponse({"key": error.key}, 420)

    @rate_limited("1/minute", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    app: Starlette = FastAPI() if framework == "fastapi" else Starlette()
    app.add_exception_handler(RateLimitError, ours)  # type: ignore[arg-type]
    app.add_route("/", page)
    client = ask(app)
    assert codes(client, "/", "/") == [200, 420]
    assert client.get("/").json() == {"key": "testclient"}


def test_the_apps_own_handler_may_be_an_object(ask, kit):
    class Ours:
        async def __call__(self, request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({}, 420)

    @rate_limited("1/minute", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    client = ask(Starlette(routes=[Route("/", page)], exception_handlers={RateLimitError: Ours()}))
    assert codes(client, "/", "/") == [200, 420]


@pytest.mark.parametrize(("closes", "code"), [(True, 4029), (False, 1008)])
def test_the_apps_own_handler_may_close_a_websocket_itself(ask, kit, closes, code):
    async def ours(websocket: WebSocket, error: Exception) -> None:
        if closes:
            await websocket.close(4029)

    @rate_limited("1/minute", kit=kit)
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    routes = [WebSocketRoute("/", socket)]
    client = ask(Starlette(routes=routes, exception_handlers={RateLimitError: ours}))
    with client.websocket_connect("/"):
        pass
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/"):
        pass
    assert closed.value.code == code


def test_a_websocket_that_was_accepted_before_is_closed(ask, kit):
    @rate_limited("1/minute", kit=kit)
    async def socket(websocket: WebSocket) -> None:
        await websocket.close()

    async def accepting(websocket: WebSocket) -> None:
        await websocket.accept()
        await socket(websocket)

    client = ask(Starlette(routes=[WebSocketRoute("/", accepting)]))
    for code in (1000, 1008):
        with client.websocket_connect("/") as session, pytest.raises(WebSocketDisconnect) as closed:
            session.receive_text()
        assert closed.value.code == code


def test_a_sub_apps_handler_answers_for_its_own_routes(ask, kit):
    async def inner(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({}, 420)

    @rate_limited("1/minute", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    sub = Starlette(routes=[Route("/", page)], exception_handlers={RateLimitError: inner})
    client = ask(Starlette(routes=[Mount("/sub", sub), Route("/", page)]))
    assert codes(client, "/sub/", "/sub/", "/") == [200, 420, 429]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_generators_are_refused_with_the_way_out(kit, kind):
    def sync():
        yield 1

    async def later():
        yield 1

    with pytest.raises(ConfigurationError, match="a generator: its response has begun before it runs"):
        rate_limited("1/minute", kit=kit)(sync if kind == "sync" else later)


def test_what_is_no_handler_is_refused(kit):
    with pytest.raises(ConfigurationError, match="@rate_limited decorates handlers, not 3"):
        rate_limited("1/minute", kit=kit)(3)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="endpoint classes of Starlette, and Order is none"):
        rate_limited("1/minute", kit=kit)(Order)


def test_wrong_options_are_refused_where_they_are_written(kit):
    for options, message in [({"limits": 5}, "did you mean 'limit'"), ({"exempt": "/x"}, "has no option 'exempt'")]:
        with pytest.raises(ConfigurationError, match=message):
            rate_limited("5/minute", kit=kit, **options)  # type: ignore[arg-type]


def test_who_is_signed_in_is_told_by_a_function(kit):
    with pytest.raises(ConfigurationError, match="user must be a function of the request, not 'ann'"):
        rate_limited("5/minute", key="<user>", user="ann", kit=kit)  # type: ignore[arg-type]


def test_trusted_proxies_may_be_an_iterator(ask, kit):
    @rate_limited("1/minute", trusted_proxies=iter(["192.0.2.1"]), kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = Starlette(routes=[Route("/", page)])

    async def behind_a_proxy(scope, receive, send):
        await app({**scope, "client": ("192.0.2.1", 1)}, receive, send)

    client = ask(behind_a_proxy)
    for address in ("198.51.100.1", "198.51.100.2"):
        assert codes(client, "/", "/", headers={"x-forwarded-for": address}) == [200, 429]


def test_the_signature_and_the_words_of_the_handler_stay():
    import inspect

    async def page(request: Request, item: int = 3) -> PlainTextResponse:
        """Some words."""
        return PlainTextResponse("x")

    decorated = rate_limited("1/minute")(page)
    names = list(inspect.signature(decorated).parameters)
    assert names[:2] == ["request", "item"]
    assert (decorated.__name__, decorated.__doc__) == ("page", "Some words.")


def test_rules_of_one_name_are_told_apart(ask, kit):
    """A list of policies has no name twice."""

    @rate_limited("5/minute", name="outer", kit=kit)
    @rate_limited("2/minute", "9/hour", name="inner", key=lambda request: "all", kit=kit)
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    whole = Middleware(RateLimitMiddleware, "2/minute", kit=kit)
    client = ask(Starlette(routes=[Route("/", page)], middleware=[whole]))
    policies = client.get("/").headers["ratelimit-policy"]
    assert policies == '"2/minute";q=2;w=60, "5/minute";q=5;w=60, "2/minute (2)";q=2;w=60, "9/hour";q=9;w=3600'
    RateLimiter("inner", "2/minute", "9/hour", kit=kit).blocking.check("all")
    refused = client.get("/")
    assert refused.json()["violated-policies"] == ["2/minute (2)"]
    assert '"2/minute (2)";r=0;' in refused.headers["ratelimit"]


def test_spellings_of_a_path_value_are_one_key_where_fastapi_converts_it(ask, kit):
    api = FastAPI()

    @api.get("/items/{item_id}")
    @rate_limited("2/minute", key="<item_id>", kit=kit)
    async def item(item_id: int) -> int:
        return item_id

    client = ask(api)
    assert codes(client, "/items/7", "/items/007", "/items/0007", "/items/8") == [200, 200, 429, 200]
