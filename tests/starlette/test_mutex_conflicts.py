"""What an exclusive handler is answered with when it cannot run: busy, nameless, or without Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sync_kit import ConfigurationError, LockError, LockLostError, Mutex, SyncKit, SyncKitError, Unavailable
from sync_kit_starlette import exclusive
from tests.support.ticks import elapsed


def app_with(kit, resource: str = "report", *, handlers=None, middleware=(), **options) -> Starlette:
    @exclusive(resource, kit=kit, **options)
    async def report(request) -> PlainTextResponse:
        return PlainTextResponse("built")

    return Starlette(routes=[Route("/", report)], exception_handlers=handlers or {}, middleware=middleware)


@pytest.fixture
def busy(kit):
    """`with busy():` somebody else holds the resource."""
    return lambda resource="report": Mutex("exclusive", kit=kit).blocking.lock(resource)


@pytest.mark.parametrize(("on_conflict", "status"), [("refuse", 409), ("wait", 503)])
def test_a_busy_resource_is_answered_with_a_problem_and_retry_after(ask, kit, busy, on_conflict, status):
    client = ask(app_with(kit, on_conflict=on_conflict, wait=0.1))
    with busy():
        answer = client.get("/")
    assert answer.status_code == status
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_a_busy_resource_may_be_skipped(ask, kit, busy):
    client = ask(app_with(kit, on_conflict="skip"))
    with busy():
        answer = client.get("/")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get("/").text == "built"


@pytest.mark.parametrize("on_conflict", ["refuse", "skip"])
def test_who_does_not_say_wait_does_not_wait(ask, kit, busy, on_conflict):
    client = ask(app_with(kit, on_conflict=on_conflict))
    with busy():
        asked = elapsed()
        client.get("/")
        assert elapsed() - asked < 2


@pytest.mark.parametrize("options", [{"on_conflict": "wait"}, {"wait": 10}, {"on_conflict": "skip", "wait": 10}])
def test_who_waits_gets_its_turn(ask, kit, busy, options):
    client = ask(app_with(kit, **options))
    with ThreadPoolExecutor() as pool, busy() as lease:
        answer = pool.submit(client.get, "/")
        while not any(holder.waiters for holder in Mutex("exclusive", kit=kit).blocking.holders("report")):
            assert not answer.done()
        lease.release()
        assert answer.result(10).text == "built"


@pytest.mark.parametrize("kind", [LockError, SyncKitError])
def test_the_apps_own_handler_answers_for_a_busy_resource(ask, kit, busy, kind):
    async def own(request, error):
        return PlainTextResponse(f"{error.resource} is busy", 423)

    client = ask(app_with(kit, handlers={kind: own}))
    with busy():
        answer = client.get("/")
    assert (answer.status_code, answer.text) == (423, "report is busy")


@pytest.mark.parametrize(
    ("resource", "said"),
    [("<query.page>", "query parameter 'page' is missing"), ("<header.x-tenant>", "header 'x-tenant' is missing")],
)
def test_what_a_request_lacks_is_named(ask, kit, resource, said):
    client = ask(app_with(kit, resource))
    answer = client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert said in answer.json()["detail"]
    assert client.get("/?page=", headers={"x-tenant": ""}).status_code == 400


def test_a_path_parameter_may_be_empty_and_is_missing_then(ask, kit):
    @exclusive("file:<path>", kit=kit)
    async def file(request):
        return PlainTextResponse(request.path_params["path"])

    client = ask(Starlette(routes=[Route("/files/{path:path}", file)]))
    assert client.get("/files/a").status_code == 200
    answer = client.get("/files/")
    assert (answer.status_code, answer.json()["detail"]) == (400, "The path parameter 'path' is missing.")


def test_queries_and_headers_name_the_resource(ask, kit, busy):
    client = ask(app_with(kit, "page:<query.page>:<header.X-Tenant>"))
    with busy("page:7:acme"):
        assert client.get("/?page=7", headers={"x-tenant": "acme"}).status_code == 409
        assert client.get("/?page=8", headers={"x-tenant": "acme"}).status_code == 200
        assert client.get("/?page=7", headers={"x-tenant": "other"}).status_code == 200


class ByHeader(AuthenticationBackend):
    async def authenticate(self, conn):
        name = conn.headers.get("x-user")
        return (AuthCredentials(), SimpleUser(name)) if name else None


def test_who_is_signed_in_names_the_resource(ask, kit, busy):
    client = ask(app_with(kit, "cart:<user>", middleware=[Middleware(AuthenticationMiddleware, backend=ByHeader())]))
    with busy("cart:ada"):
        assert client.get("/", headers={"x-user": "ada"}).status_code == 409
        assert client.get("/", headers={"x-user": "bob"}).status_code == 200
    nobody = client.get("/")
    assert (nobody.status_code, nobody.headers["content-type"]) == (401, "application/problem+json")
    assert nobody.headers["www-authenticate"], "a 401 names a scheme (RFC 9110)"


def test_a_function_may_say_who_is_signed_in(ask, kit, busy):
    async def token(request):
        return request.query_params.get("token")

    client = ask(app_with(kit, "cart:<user>", user=token))
    with busy("cart:ada"):
        assert client.get("/?token=ada").status_code == 409
    assert client.get("/?token=bob").status_code == 200
    assert client.get("/").status_code == 401


@pytest.mark.parametrize(("resource", "status"), [("<user>", 401), ("<query.page>", 400)])
def test_the_apps_own_handler_of_the_status_answers(ask, kit, resource, status):
    def own(request, error):
        return PlainTextResponse(f"{error.status_code}: sign in first", 418)

    client = ask(app_with(kit, resource, user=lambda request: None, handlers={status: own}))
    assert client.get("/").text == f"{status}: sign in first"


def test_without_redis_the_answer_is_503_and_each_outage_is_logged_once(ask, own_server, caplog):
    server = own_server()
    kit = SyncKit(server.url, namespace="outage")
    client = ask(app_with(kit))
    for _ in range(2):
        assert client.get("/").status_code == 200
        server.kill()
        caplog.clear()
        answers = [client.get("/") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503, 503, 503]
        assert answers[0].headers["content-type"] == "application/problem+json"
        logged = [record for record in caplog.records if "answered with 503" in record.getMessage()]
        assert [record.levelname for record in logged] == ["WARNING"]
        server.start()
    kit.close()


def test_the_apps_own_handler_answers_for_an_outage(ask, own_server):
    server = own_server()
    kit = SyncKit(server.url, namespace="outage")

    async def own(request, error):
        return PlainTextResponse("come back later", 502)

    client = ask(app_with(kit, handlers={Unavailable: own}))
    server.kill()
    assert client.get("/").status_code == 502
    kit.close()


@pytest.mark.parametrize("kind", [Unavailable, LockLostError])
def test_what_the_handler_itself_raises_is_its_own(ask, kit, kind):
    error = kind("down") if kind is Unavailable else kind("mutex 'other'", "b", 7, "it expired")

    @exclusive("one", kit=kit)
    async def report(request):
        raise error

    client = ask(Starlette(routes=[Route("/", report)]))
    with pytest.raises(kind) as info:
        client.get("/")
    assert info.value is error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_conflict": "raise"}, "on_conflict must be one of 'refuse', 'wait', 'skip'"),
        ({"user": "ada"}, "user must be a function"),
        ({"onconflict": "skip"}, "did you mean 'on_conflict'"),
    ],
)
def test_wrong_options_are_refused(kit, options, message):
    with pytest.raises(ConfigurationError, match=message):
        app_with(kit, **options)
