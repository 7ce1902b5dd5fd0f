"""Handlers that only one request at a time may be in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sync_kit import ConfigurationError, LockError, Mutex
from sync_kit_starlette import exclusive


def app_with(kit, resource: str = "report:<id>", **options) -> Starlette:
    @exclusive(resource, kit=kit, **options)
    async def report(request: Request) -> PlainTextResponse:
        await anyio.sleep(float(request.query_params.get("takes", "0")))
        return PlainTextResponse("built")

    return Starlette(routes=[Route("/reports/{id}", report)])


def test_the_same_resource_is_busy_and_another_is_not(ask, kit):
    client = ask(app_with(kit))
    with Mutex("exclusive", kit=kit).blocking.lock("report:7"):
        busy = client.get("/reports/7")
        assert client.get("/reports/8").status_code == 200
    assert busy.status_code == 409
    assert 1 <= int(busy.headers["retry-after"]) <= 10
    assert busy.json()["title"] == "Conflict"
    assert client.get("/reports/7").status_code == 200


def test_of_two_simultaneous_requests_one_is_refused(ask, kit):
    client = ask(app_with(kit))
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(client.get, ["/reports/7?takes=0.3"] * 2))
    assert sorted(answer.status_code for answer in answers) == [200, 409]


def test_a_request_may_wait(ask, kit):
    client = ask(app_with(kit, wait=10))
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(client.get, ["/reports/7?takes=0.05"] * 3))
    assert [answer.status_code for answer in answers] == [200, 200, 200]


def test_a_value_cannot_pose_as_another_resource(ask, kit):
    client = ask(app_with(kit, "report:<id>"))
    with Mutex("exclusive", kit=kit).blocking.lock("report:a:b"):
        assert client.get("/reports/a:b").status_code == 200


def test_a_lost_lease_is_answered_with_503(ask, kit, server, namespace):
    client = ask(app_with(kit, ttl=0.3))

    def break_it() -> None:
        key = f"{namespace}:mx:{{exclusive}}:lock:report%3A7"
        with server.client() as redis, ThreadPoolExecutor():
            while not redis.delete(key):
                pass

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.get, "/reports/7?takes=20")
        pool.submit(break_it).result(10)
        assert answer.result(10).status_code == 503


def test_a_busy_lock_of_the_handlers_own_is_its_own_error(ask, kit):
    """Only the lock of the decorator is answered with 409."""
    other = Mutex("other", wait=0, kit=kit)

    @exclusive("one", kit=kit)
    async def report(request: Request) -> None:
        await other.with_lock_or_raise("b", anyio.lowlevel.checkpoint)

    client = ask(Starlette(routes=[Route("/", report)]))
    held = other.blocking.acquire("b")
    with pytest.raises(LockError, match="of mutex 'other'"):
        client.get("/")
    assert held is not None
    held.release()


def test_the_lease_ends_with_a_handler_that_fails(ask, kit):
    @exclusive("one", kit=kit)
    async def broken(request: Request) -> None:
        raise ZeroDivisionError

    client = ask(Starlette(routes=[Route("/", broken)]))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            client.get("/")


@pytest.mark.parametrize(
    ("resource", "message"),
    [("", "non-empty"), ("report:<id:int>", "plain name"), ("report:<id", "without its partner"), ("<>", "plain name")],
)
def test_a_malformed_template_is_refused_when_it_is_applied(kit, resource, message):
    with pytest.raises(ConfigurationError, match=message):
        app_with(kit, resource)


def test_an_unknown_placeholder_is_refused_at_the_first_request(ask, kit):
    client = ask(app_with(kit, "report:<ident>"))
    with pytest.raises(ConfigurationError, match="<ident> .*use one of id"):
        client.get("/reports/7")


def test_an_unknown_placeholder_is_refused_when_it_is_applied_where_names_are_known(kit):
    api = FastAPI()
    with pytest.raises(ConfigurationError, match="<ident> .*use one of item_id"):

        @api.get("/items/{item_id}")
        @exclusive("item:<ident>", kit=kit)
        async def item(item_id: int) -> None: ...


@pytest.mark.parametrize("options", [{"ttl": 0}, {"wait": -1}, {"tttl": 1}])
def test_wrong_options_are_refused(kit, options):
    with pytest.raises(ConfigurationError, match="ttl|wait"):
        app_with(kit, **options)
