"""Exclusive handlers of every kind: functions, methods, classes, WebSockets, FastAPI's, wherever they are mounted."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from sync_kit import ConfigurationError, LockLostError, Mutex
from sync_kit_starlette import exclusive, lease_of

TTL = 0.6


@pytest.fixture
def mutex(kit):
    return Mutex("exclusive", kit=kit).blocking


def busy_and_free(client, mutex, resource, path, **options):
    """The answers of a path while its resource is held, and after."""
    with mutex.lock(resource):
        busy = client.get(path, **options)
    return busy.status_code, client.get(path, **options).status_code


def test_functions_methods_and_classes_with_and_without_a_request(ask, kit, mutex):
    one = exclusive("one", kit=kit)

    class Reports:
        @one
        async def method(self, request):
            return PlainTextResponse("built")

        @one
        def plain(self, request):
            return PlainTextResponse("built")

    @one
    async def bare():
        return PlainTextResponse("built")

    @one
    def other(anything):
        return PlainTextResponse("built")

    @exclusive("one:<id>", kit=kit)
    async def named_otherwise(anything):
        return PlainTextResponse("built")

    @one
    class Endpoint(HTTPEndpoint):
        async def get(self, request):
            return PlainTextResponse("built")

    handlers: list[Any] = [Reports().method, Reports().plain, bare, other, Endpoint]
    routes = [Route(f"/{number}", handler) for number, handler in enumerate(handlers)]
    client = ask(Starlette(routes=[*routes, Route("/named/{id}", named_otherwise)]))
    for number in range(len(handlers)):
        assert busy_and_free(client, mutex, "one", f"/{number}") == (409, 200)
    assert busy_and_free(client, mutex, "one:7", "/named/7") == (409, 200)


def test_a_class_answers_for_a_wrong_method_without_the_lease(ask, kit, mutex):
    @exclusive("one", kit=kit)
    class Endpoint(HTTPEndpoint):
        async def get(self, request):
            return PlainTextResponse("built")

    client = ask(Starlette(routes=[Route("/", Endpoint)]))
    with mutex.lock("one"):
        assert client.post("/").status_code == 405
        assert client.head("/").status_code == 409
    assert client.head("/").status_code == 200


async def current(item: int) -> str:
    return f"item {item}"


def test_fastapi_handlers_by_value_and_by_dependency(ask, kit, mutex):
    api = FastAPI()
    router = APIRouter(prefix="/shops/{shop}")

    @router.get("/items/{item}")
    @exclusive("<shop>:<item>", kit=kit)
    async def item(shop: str, item: int) -> dict[str, Any]:
        return {"item": item}

    @router.get("/by-dependency/{item}")
    @exclusive("<shop>:<item>:<query.lang>", kit=kit)
    def by_dependency(found: Annotated[str, Depends(current)]) -> dict[str, Any]:
        return {"item": found}

    api.include_router(router, prefix="/v1")
    client = ask(api)
    assert busy_and_free(client, mutex, "a:7", "/v1/shops/a/items/7") == (409, 200)
    assert busy_and_free(client, mutex, "a:7:de", "/v1/shops/a/by-dependency/7?lang=de") == (409, 200)
    assert client.get("/v1/shops/a/by-dependency/7?lang=de").json() == {"item": "item 7"}
    parameters = client.get("/openapi.json").json()["paths"]["/v1/shops/{shop}/items/{item}"]["get"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == {"shop", "item"}


@pytest.mark.parametrize(
    ("kind", "plain", "odd"),
    [(int, "7", "007"), (uuid.UUID, "a" * 8 + "-aaaa" * 3 + "-" + "a" * 12, "A" * 32), (str, "7", None)],
)
def test_a_value_that_fastapi_converts_is_one_however_it_is_spelled(ask, kit, mutex, kind, plain, odd):
    async def get_item(item) -> str:
        return str(item)

    get_item.__annotations__["item"] = kind
    api = FastAPI()
    api.get("/items/{item}")(exclusive("item:<item>", kit=kit)(get_item))
    client = ask(api)
    assert busy_and_free(client, mutex, f"item:{plain}", f"/items/{odd or plain}") == (409, 200)
    assert client.get(f"/items/{odd or plain}").json() == plain


def test_mounts_and_hosts_give_their_parameters(ask, kit, mutex):
    @exclusive("<tenant>:<id>", kit=kit)
    async def report(request):
        return PlainTextResponse("built")

    inner = Router([Route("/reports/{id}", report)])
    app = Starlette(routes=[Mount("/t/{tenant}", inner), Host("{tenant}.example.org", inner)])
    client = ask(app)
    assert busy_and_free(client, mutex, "a:7", "/t/a/reports/7") == (409, 200)
    assert busy_and_free(client, mutex, "b:7", "/reports/7", headers={"host": "b.example.org"}) == (409, 200)


def test_a_handler_learns_its_fence(ask, kit):
    @exclusive("one", kit=kit)
    async def report(request):
        return PlainTextResponse(str(lease_of(request).fence))

    async def other(request):
        with pytest.raises(ConfigurationError, match="/other has no lease: put @exclusive"):
            lease_of(request)
        return PlainTextResponse("none")

    api = FastAPI()

    @api.get("/fast")
    @exclusive("one", kit=kit)
    async def fast(request: Request) -> int:
        return lease_of(request).fence

    client = ask(Starlette(routes=[Route("/", report), Route("/other", other), Mount("/api", api)]))
    fences = [int(client.get(path).text) for path in ("/", "/api/fast", "/")]
    assert fences == sorted(set(fences))
    assert client.get("/other").text == "none"


def test_a_lease_may_be_released_by_the_handler(ask, kit, mutex):
    @exclusive("one", kit=kit)
    async def report(request):
        await lease_of(request).release()
        return PlainTextResponse("free" if await Mutex("exclusive", kit=kit).holder("one") is None else "held")

    assert ask(Starlette(routes=[Route("/", report)])).get("/").text == "free"


def sockets(kit, **options):
    """An app with a handler and an endpoint class."""

    @exclusive("room:<id>", kit=kit, **options)
    async def chat(websocket: WebSocket):
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(f"{text}, {lease_of(websocket).fence > 0}")

    @exclusive("room:<id>", kit=kit, **options)
    class Chat(WebSocketEndpoint):
        encoding = "text"

        async def on_receive(self, websocket, data):
            await websocket.send_text(f"{data}, {lease_of(websocket).fence > 0}")

    return Starlette(routes=[WebSocketRoute("/function/{id}", chat), WebSocketRoute("/class/{id}", Chat)])


@pytest.mark.parametrize("kind", ["function", "class"])
def test_the_lease_of_a_websocket_lasts_as_long_as_its_handler(ask, kit, mutex, kind):
    client = ask(sockets(kit))
    with client.websocket_connect(f"/{kind}/7") as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello, True"
        assert mutex.holder("room:7")
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(f"/{kind}/7"):
            pass
        assert refused.value.status_code == 409
        assert int(refused.value.headers["retry-after"]) >= 1
        with client.websocket_connect(f"/{kind}/8"):
            pass
    assert mutex.acquire("room:7", wait=5), "it is free when the handler has ended"


@pytest.mark.parametrize("kind", ["function", "class"])
def test_a_websocket_whose_lease_is_lost_is_closed(ask, kit, mutex, kind):
    client = ask(sockets(kit, ttl=TTL))
    with client.websocket_connect(f"/{kind}/7") as websocket:
        websocket.send_text("hello")
        websocket.receive_text()
        assert mutex.break_lock("room:7")
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
    assert closed.value.code == 1011


def test_the_apps_own_handler_closes_a_websocket_whose_lease_is_lost(ask, kit, mutex):
    async def own(websocket, error):
        await websocket.close(4000, error.resource)

    app = sockets(kit, ttl=TTL)
    app.add_exception_handler(LockLostError, own)
    with ask(app).websocket_connect("/function/7") as websocket:
        websocket.send_text("hello")
        websocket.receive_text()
        assert mutex.break_lock("room:7")
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
    assert (closed.value.code, closed.value.reason) == (4000, "room:7")


def test_a_handshake_that_is_not_answered_yet_is_refused_when_the_lease_is_lost(ask, kit, mutex):
    @exclusive("one", ttl=TTL, kit=kit)
    async def slow(websocket: WebSocket):
        assert await Mutex("exclusive", kit=kit).break_lock("one")
        await anyio.sleep(20)

    client = ask(Starlette(routes=[WebSocketRoute("/", slow)]))
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/"):
        pass
    assert refused.value.status_code == 503


def test_a_websocket_that_cannot_be_named_is_refused(ask, kit):
    @exclusive("<query.room>", kit=kit)
    async def chat(websocket: WebSocket):
        await websocket.accept()

    client = ask(Starlette(routes=[WebSocketRoute("/", chat)]))
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/"):
        pass
    assert refused.value.status_code == 400
    with client.websocket_connect("/?room=1"):
        pass


def test_an_uncontended_request_takes_two_round_trips(ask, kit, server):
    """Acquire and release; scripts are loaded, and connections made, before."""

    @exclusive("<id>", kit=kit)
    async def report(request):
        return PlainTextResponse("built")

    client = ask(Starlette(routes=[Route("/{id}", report)]))
    client.get("/0")
    with server.client() as redis, server.client() as other:
        other.ping()
        with redis.monitor() as monitor:
            for number in range(10):
                assert client.get(f"/{number}").status_code == 200
            other.echo("the end")
            seen = until_the_end(monitor)
    assert [command.split()[0] for command in seen] == ["EVALSHA"] * 20


def until_the_end(monitor) -> list[str]:
    """What clients sent, in order; the commands of scripts are not theirs."""
    sent: list[str] = []
    for seen in monitor.listen():
        if seen["command"] == "ECHO the end":
            return sent
        if seen["client_type"] != "lua":
            sent.append(seen["command"])
    raise AssertionError(sent)
