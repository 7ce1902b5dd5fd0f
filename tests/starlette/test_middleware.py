"""The middleware around everything that an app may answer."""

from __future__ import annotations

import contextvars
import inspect
import logging
from typing import Any
from unittest.mock import Mock

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from sync_kit import ConfigurationError, Jobs, RateLimiter, RateLimitError, SyncKit, SyncKitError, Unavailable
from sync_kit_starlette import RateLimitMiddleware, job_worker, rate_limited
from tests.starlette.tools import codes, started

LOW = b"ratelimit", b"ratelimit-policy"
KNOWS_PATHSEND = "http.response.pathsend" in inspect.getsource(FileResponse)
"""The oldest Starlette that is supported does not."""


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def app_with(kit, *rules, routes=None, handlers=None, **options) -> Starlette:
    app = Starlette(routes=routes or [Route("/", home)], exception_handlers=handlers or {})
    app.add_middleware(RateLimitMiddleware, *rules, kit=kit, **options)
    return app


class Recorder:
    """Around an app: every message that it sends."""

    def __init__(self, app) -> None:
        self.app = app
        self.messages: list[Any] = []

    async def __call__(self, scope, receive, send):
        async def record(message):
            self.messages.append(message)
            await send(message)

        scope = {**scope, "extensions": {**scope.get("extensions", {}), "http.response.pathsend": {}}}
        await self.app(scope, receive, record if scope["type"] == "http" else send)

    @property
    def starts(self) -> list[Any]:
        return [message for message in self.messages if message["type"] == "http.response.start"]


def test_admitted_responses_say_what_is_left(ask, kit):
    client = ask(app_with(kit, "3/minute", "100/hour"))
    first, second = client.get("/"), client.get("/")
    assert first.headers["ratelimit-policy"] == '"3/minute";q=3;w=60, "100/hour";q=100;w=3600'
    assert first.headers["ratelimit"].startswith('"3/minute";r=2;t=')
    assert '"100/hour";r=98;t=' in second.headers["ratelimit"]
    assert "retry-after" not in first.headers
    assert "x-ratelimit-limit" not in first.headers


def test_legacy_headers_are_asked_for(ask, kit):
    client = ask(app_with(kit, limit=2, legacy_headers=True))
    admitted = client.get("/").headers
    assert (admitted["x-ratelimit-limit"], admitted["x-ratelimit-remaining"]) == ("2", "1")
    assert 1 <= int(admitted["x-ratelimit-reset"]) <= 63


def test_headers_may_be_switched_off(ask, kit):
    app = app_with(kit, limit=2, headers=False, routes=[Route("/", rate_limited("1/minute", kit=kit)(home))])
    client = ask(app)
    answers = [client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert ["retry-after" in answer.headers for answer in answers] == [False, True, True]
    assert not any("ratelimit" in answer.headers or "ratelimit-policy" in answer.headers for answer in answers)


async def parts():
    for part in "abc":
        yield part


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (lambda: StreamingResponse(parts()), "abc"),
        (lambda: FileResponse(__file__), None),
        (lambda: Response(status_code=304), ""),
        (lambda: JSONResponse([1]), "[1]"),
        (lambda: PlainTextResponse("b", background=BackgroundTask(lambda: None)), "b"),
    ],
    ids=["stream", "pathsend", "not-modified", "json", "background"],
)
def test_fields_come_once_whatever_the_body_is(ask, kit, answer, body, method):
    async def page(request: Request) -> Any:
        return answer()

    recorder = Recorder(app_with(kit, limit=5, routes=[Route("/", page)]))
    client = ask(recorder)
    # the test client knows no pathsend: the body of a file stays empty there
    response = client.request(method, "/")
    (start,) = recorder.starts
    names = [name for name, _ in start["headers"]]
    assert [names.count(name) for name in LOW] == [1, 1]
    if body is not None and method == "GET":
        assert response.text == body
    if body is None:
        sent = "http.response.pathsend" if method == "GET" and KNOWS_PATHSEND else "http.response.body"
        assert [message["type"] for message in recorder.messages][1:] == [sent]


def test_not_found_and_errors_carry_them_too(ask, kit):
    client = ask(app_with(kit, limit=5))
    assert client.get("/missing").headers["ratelimit"].startswith('"5/minute";r=4')


def test_fields_that_are_there_already_stay(ask, kit):
    async def page(request: Request) -> Response:
        return PlainTextResponse("x", headers={"RateLimit": '"upstream";r=1;t=1'})

    headers = ask(app_with(kit, limit=5, routes=[Route("/", page)])).get("/").headers
    assert headers.get_list("ratelimit") == ['"upstream";r=1;t=1']
    assert headers.get_list("ratelimit-policy") == ['"5/minute";q=5;w=60']


def test_context_variables_of_the_endpoint_survive(ask, kit):
    seen, variable = [], contextvars.ContextVar("variable", default="unset")

    async def page(request: Request) -> Response:
        variable.set("set by the endpoint")
        return PlainTextResponse("x")

    class Outer:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)
            seen.append(variable.get())

    app = Outer(app_with(kit, limit=5, routes=[Route("/", page)]))
    assert codes(ask(app), "/") == [200]
    assert "set by the endpoint" in seen


def test_background_tasks_run_after_the_response(ask, kit):
    ran: list[int] = []

    async def page(request: Request) -> Response:
        return PlainTextResponse("x", background=BackgroundTask(ran.append, 1))

    assert codes(ask(app_with(kit, limit=1, routes=[Route("/", page)])), "/", "/") == [200, 429]
    assert ran == [1]


def test_exempt_paths_and_functions_cost_nothing(ask, kit):
    async def friend(request: Request) -> bool:
        return request.headers.get("x-friend") == "yes"

    routes = [Route("/", home), Route("/live", home), Mount("/static", routes=[Route("/a", home)])]
    client = ask(app_with(kit, limit=1, routes=routes, exempt=["/live", "/static/*", friend]))
    assert codes(client, "/live", "/static/a", "/live", "/static/missing") == [200, 200, 200, 404]
    assert codes(client, "/", "/", headers={"x-friend": "yes"}) == [200, 200]
    assert codes(client, "/", "/", "/live/x", "/staticx") == [200, 429, 429, 429]
    assert "ratelimit" not in client.get("/live").headers


@pytest.mark.parametrize("exempt", ["/live", lambda request: request.url.path == "/live"], ids=["path", "function"])
def test_a_single_exemption_needs_no_list(ask, kit, exempt):
    client = ask(app_with(kit, limit=1, routes=[Route("/live", home), Route("/", home)], exempt=exempt))
    assert codes(client, "/live", "/live", "/", "/") == [200, 200, 200, 429]


def test_exempt_paths_are_those_below_the_root_path(kit):
    from starlette.testclient import TestClient

    app = app_with(kit, limit=1, routes=[Route("/live", home), Route("/", home)], exempt="/live")
    with TestClient(app, root_path="/api") as client:
        assert codes(client, "/live", "/live") == [200, 200]
        assert codes(client, "/", "/") == [200, 429]


def test_only_some_methods_are_counted(ask, kit):
    routes = [Route("/", home, methods=["GET", "POST"])]
    client = ask(app_with(kit, limit=1, routes=routes, methods=["post"]))
    assert codes(client, "/", "/") == [200, 200]
    assert [client.post("/").status_code for _ in range(2)] == [200, 429]


def test_get_stands_for_head_too(ask, kit):
    client = ask(app_with(kit, limit=1, methods=["GET"]))
    assert [client.head("/").status_code for _ in range(2)] == [200, 429]


def test_a_method_in_lower_case_is_counted_like_any_other(ask, kit):
    """Some servers hand it on as it was sent, and what is mounted may take it."""
    app = app_with(kit, limit=1, routes=[Mount("/", PlainTextResponse("x"))], methods=["POST"])

    async def as_sent(scope, receive, send):
        await app({**scope, "method": "post"} if scope["type"] == "http" else scope, receive, send)

    client = ask(as_sent)
    assert [client.post("/").status_code for _ in range(2)] == [200, 429]


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


def test_a_refused_handshake_is_answered_with_429(ask, kit):
    client = ask(app_with(kit, limit=1, routes=[WebSocketRoute("/ws", echo)]))
    with client.websocket_connect("/ws") as session:
        assert session.receive_text() == "hello"
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws"):
        pass
    assert refused.value.status_code == 429
    assert 57 <= int(refused.value.headers["retry-after"]) <= 63
    assert refused.value.json()["violated-policies"] == ["1/minute"]


def test_a_handshake_that_the_apps_own_handler_refuses_carries_the_fields(ask, kit):
    client = ask(app_with(kit, limit=1, routes=[WebSocketRoute("/ws", echo)], handlers={RateLimitError: ours}))
    with client.websocket_connect("/ws"):
        pass
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws"):
        pass
    assert refused.value.status_code == 420
    assert refused.value.headers["retry-after"]
    assert refused.value.headers.get_list("ratelimit-policy") == ['"1/minute";q=1;w=60']


def test_a_refused_handshake_is_closed_where_the_server_cannot_answer(ask, kit):
    app = app_with(kit, limit=1, routes=[WebSocketRoute("/ws", echo)])

    async def without_extension(scope, receive, send):
        await app({**scope, "extensions": {}}, receive, send)

    client = ask(without_extension)
    with client.websocket_connect("/ws"):
        pass
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/ws"):
        pass
    assert refused.value.code == 1008


def test_handshakes_and_requests_share_the_budget(ask, kit):
    client = ask(app_with(kit, limit=2, routes=[Route("/", home), WebSocketRoute("/ws", echo)]))
    with client.websocket_connect("/ws"):
        pass
    assert codes(client, "/", "/") == [200, 429]


async def ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RateLimitError)
    return JSONResponse({"slow down": error.retry_after > 0}, 420)


def ours_on_a_thread(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"slow down": isinstance(error, RateLimitError)}, 420)


@pytest.mark.parametrize("kind", [RateLimitError, SyncKitError])
@pytest.mark.parametrize("handler", [ours, ours_on_a_thread])
def test_the_apps_own_handler_answers(ask, kit, handler, kind):
    client = ask(app_with(kit, limit=1, handlers={kind: handler}))
    assert codes(client, "/", "/") == [200, 420]
    refused = client.get("/")
    assert refused.json() == {"slow down": True}
    assert refused.headers["retry-after"]
    assert refused.headers["ratelimit"].startswith('"1/minute";r=0')


def test_a_handler_for_every_exception_is_for_bugs(ask, kit):
    client = ask(app_with(kit, limit=1, handlers={Exception: ours}))
    assert codes(client, "/", "/") == [200, 429]


def test_the_apps_own_handler_answers_an_outage_too(ask, own_server):
    async def away(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"away": True}, 503)

    own = own_server()
    own.stop()
    client = ask(app_with(SyncKit(own.url), limit=1, on_error="raise", handlers={Unavailable: away}))
    assert codes(client, "/") == [503]


class Backend(AuthenticationBackend):
    async def authenticate(self, conn):
        name = conn.headers.get("x-user")
        return (AuthCredentials(["in"]), SimpleUser(name)) if name else None


def test_who_is_signed_in_is_counted_else_the_address(ask, kit):
    app = Starlette(
        routes=[Route("/", home)],
        middleware=[
            Middleware(AuthenticationMiddleware, backend=Backend()),
            Middleware(RateLimitMiddleware, limit=1, key="<user>", kit=kit),
        ],
    )
    client = ask(app)
    assert codes(client, "/", "/", headers={"x-user": "ann"}) == [200, 429]
    assert codes(client, "/", headers={"x-user": "bob"}) == [200]
    assert codes(client, "/", "/") == [200, 429]
    assert codes(client, "/", headers={"x-user": "~testclient"}) == [200], "nobody can take the budget of an address"


def test_a_user_without_authentication_is_a_mistake_that_says_so(ask, kit):
    client = ask(app_with(kit, limit=1, key="<user>"))
    with pytest.raises(ConfigurationError, match="AuthenticationMiddleware"):
        client.get("/")


@pytest.mark.parametrize("is_async", [True, False])
def test_users_and_costs_may_be_functions(ask, kit, is_async):
    def user(request):
        return request.headers.get("x-user")

    def cost(request):
        return int(request.query_params.get("cost", 1))

    async def user_later(request):
        return user(request)

    async def cost_later(request):
        return cost(request)

    options = {"user": user_later, "cost": cost_later} if is_async else {"user": user, "cost": cost}
    client = ask(app_with(kit, limit=5, key="<user>", **options))
    assert codes(client, "/?cost=4", "/?cost=2", "/", "/", headers={"x-user": "ann"}) == [200, 429, 200, 429]
    assert codes(client, "/?cost=5", headers={"x-user": "bob"}) == [200]
    never = client.get("/?cost=6", headers={"x-user": "eve"})
    assert never.status_code == 429
    assert "retry-after" not in never.headers, "waiting does not help"


def test_api_keys_are_counted_and_not_seen(ask, kit, server, namespace):
    secret = "token-nobody-may-see"
    client = ask(app_with(kit, limit=1, key="<header.Authorization>"))
    assert codes(client, "/", "/", headers={"authorization": secret}) == [200, 429]
    assert codes(client, "/", headers={"authorization": "another"}) == [200]
    assert codes(client, "/", "/") == [200, 429]
    with server.client() as redis:
        keys = b" ".join(redis.keys(f"{namespace}:*")).decode()
    assert keys.count("{http:") == 3
    assert "token" not in keys


def test_a_limiter_of_ones_own_is_taken_as_it_is(ask, kit):
    plans = {"ann": "3/minute", "bob": "1/minute"}
    limiter = RateLimiter("plans", rules=lambda key: plans.get(key, "2/minute"), kit=kit)
    app = Starlette(routes=[Route("/", home)])
    app.add_middleware(RateLimitMiddleware, limiter, key=lambda request: request.headers["x-user"])
    client = ask(app)
    for name, admitted in [("ann", 3), ("bob", 1), ("eve", 2)]:
        assert codes(client, *["/"] * (admitted + 1), headers={"x-user": name}) == [200] * admitted + [429]


def test_two_middlewares_with_names_are_two_limits(ask, kit):
    app = app_with(kit, "5/minute", legacy_headers=True)
    app.add_middleware(RateLimitMiddleware, "2/hour", name="hourly", kit=kit)
    client = ask(app)
    admitted = client.get("/").headers
    assert (admitted["x-ratelimit-limit"], admitted["x-ratelimit-remaining"]) == ("2", "1"), "of the tightest"
    assert admitted.get_list("ratelimit-policy") == ['"2/hour";q=2;w=3600, "5/minute";q=5;w=60']
    assert codes(client, "/", "/") == [200, 429]


def test_any_object_may_stand_inside(kit):
    """A test's `Mock` has an `app`, which has an `app`, ..."""
    inside = Mock()
    assert RateLimitMiddleware(inside, limit=5, kit=kit).app is inside


@pytest.mark.parametrize("options", [{}, {"name": "http"}])
def test_adding_it_twice_is_refused_when_the_app_starts(kit, options):
    app = app_with(kit, limit=5)
    app.add_middleware(RateLimitMiddleware, limit=7, kit=kit, **options)
    with pytest.raises(ConfigurationError, match="added twice with a limiter named 'http'"):
        started(app)


def test_a_forwarding_header_without_trusted_proxies_is_warned_of_once(ask, kit, caplog):
    routes = [Route("/", home), Route("/few", rate_limited("9/minute", kit=kit)(home))]
    client = ask(app_with(kit, limit=9, routes=routes))
    codes(client, "/")
    assert not caplog.records
    for number in range(3):
        codes(client, "/few", headers={"x-forwarded-for": f"203.0.113.{number}"})
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "x-forwarded-for" in record.message
    assert "trusted_proxies=" in record.message


@pytest.mark.parametrize("peer", [None, ("", 0), (None, 0)])
def test_a_unix_socket_behind_a_proxy_is_warned_of(ask, kit, caplog, peer):
    app = app_with(kit, limit=9)

    async def on_a_socket(scope, receive, send):
        await app({**scope, "client": peer}, receive, send)

    assert codes(ask(on_a_socket), "/", headers={"x-forwarded-for": "203.0.113.7"}) == [200]
    assert "trusted_proxies=" in caplog.text


def test_a_server_that_has_read_the_header_is_not_warned_of(ask, kit, caplog):
    app = app_with(kit, limit=9)

    async def as_uvicorn_does(scope, receive, send):
        await app({**scope, "client": ("203.0.113.7", 0)}, receive, send)

    codes(ask(as_uvicorn_does), "/", headers={"x-forwarded-for": "203.0.113.7"})
    assert not caplog.records


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exempt": "live"}, "exempt takes paths"),
        ({"exempt": ["/a*b"]}, "exempt takes paths"),
        ({"exempt": [3]}, "exempt takes paths"),
        ({"exempt": None}, "exempt takes paths"),
        ({"methods": []}, "methods is empty"),
        ({"kit": "redis://localhost"}, "kit must be a SyncKit, not 'redis://localhost'"),
        ({"methods": [3]}, "methods takes names"),
        ({"key": "all"}, "has no placeholder"),
        ({"key": "<id>"}, "runs before routing"),
        ({"key": 3}, "key must be a template"),
        ({"key": "<query.>"}, "is not a placeholder"),
        ({"user": str}, "user= says what <user> is"),
        ({"cost": -1}, "cost must be from 0"),
        ({"cost": "1"}, "cost must be a whole number"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_when_the_app_starts(kit, options, message):
    with pytest.raises(ConfigurationError, match=message):
        started(app_with(**{"kit": kit, "limit": 5, **options}))


def test_a_limiter_and_options_of_another_one_do_not_go_together(kit):
    app = Starlette()
    app.add_middleware(RateLimitMiddleware, RateLimiter("x", "1/minute", kit=kit), limit=5, kit=kit)
    with pytest.raises(ConfigurationError, match="leave out limit=, kit="):
        started(app)


def test_a_worker_whose_server_sends_no_lifespan_is_warned_of_at_the_first_request(kit, caplog, monkeypatch):
    monkeypatch.setattr("sync_kit_starlette.jobs._was_checked", False)
    worker = job_worker(Jobs("forgotten", kit=kit), enabled=True)
    app = Starlette(routes=[Route("/", home)], middleware=[Middleware(RateLimitMiddleware, limit=9, kit=kit)])
    app.router.lifespan_context = worker
    client = TestClient(app)  # not entered by `with`: nobody sends lifespan
    assert codes(client, "/", "/") == [200, 200]
    (said,) = [record.message for record in caplog.records if "never started" in record.message]
    assert "queue 'forgotten'" in said
    assert "let the server send lifespan" in said
