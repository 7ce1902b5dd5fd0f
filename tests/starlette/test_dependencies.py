"""Limits, leases and tasks as FastAPI dependencies. Annotations name fixtures here, so they are not postponed."""

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import anyio
import anyio.lowlevel
import fastapi
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from starlette.requests import Request
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from sync_kit import ConfigurationError, Decision, Jobs, LockError, Mutex, RateLimiter, RateLimitError, SyncKit
from sync_kit.jobs import Sender
from sync_kit.kit import default_kit
from sync_kit.mutex import Lease
from sync_kit_starlette import RateLimitMiddleware, rate_limited
from sync_kit_starlette.fastapi import Exclusive, KitDep, RateLimit, Sends, problems
from tests.starlette.tools import codes, until


class Email(BaseModel):
    to: str


def app_with(*dependencies, **options) -> FastAPI:
    api = FastAPI(**options)

    @api.get("/a", dependencies=[Depends(one) for one in dependencies])
    async def a() -> str:
        return "a"

    @api.get("/b", dependencies=[Depends(one) for one in dependencies])
    async def b() -> str:
        return "b"

    return api


def test_each_handler_has_a_budget_of_its_own(ask, kit):
    client = ask(app_with(RateLimit("2/minute", kit=kit)))
    assert codes(client, "/a", "/a", "/a", "/b") == [200, 200, 429, 200]


def test_with_a_name_they_share_one(ask, kit):
    client = ask(app_with(RateLimit("2/minute", name="both", kit=kit)))
    assert codes(client, "/a", "/b", "/a", "/b") == [200, 200, 429, 429]


def test_a_refusal_is_a_problem_like_any_other(ask, kit):
    client = ask(app_with(RateLimit("1/minute", kit=kit)))
    admitted, refused = client.get("/a"), client.get("/a")
    assert admitted.headers["ratelimit"].startswith('"1/minute";r=0;t=')
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert 57 <= int(refused.headers["retry-after"]) <= 63
    assert refused.headers.get_list("ratelimit-policy") == ['"1/minute";q=1;w=60']
    assert refused.json()["violated-policies"] == ["1/minute"]


def test_on_router_and_app_and_included_with_prefixes(ask, kit):
    api = FastAPI(dependencies=[Depends(RateLimit("5/minute", name="app", kit=kit))])
    router = APIRouter(prefix="/r", dependencies=[Depends(RateLimit("3/minute", name="router", kit=kit))])

    @router.get("/{item_id}", dependencies=[Depends(RateLimit("2/minute", key="<item_id>", kit=kit))])
    async def item(item_id: int) -> int:
        return item_id

    @api.get("/free")
    async def free() -> str:
        return "x"

    outer = APIRouter(prefix="/v1")
    outer.include_router(router)
    api.include_router(outer)
    client = ask(api)
    assert codes(client, "/v1/r/1", "/v1/r/1", "/v1/r/1", "/v1/r/2", "/v1/r/2") == [200, 200, 429, 200, 429]
    assert codes(client, "/free", "/free", "/free") == [200, 200, 429], "what was refused has cost the app nothing"


def test_what_a_handlers_other_limits_took_is_given_back_and_the_middlewares_is_not(ask, kit):
    hourly = Depends(RateLimit("9/hour", name="hourly", kit=kit))
    api = FastAPI(dependencies=[Depends(RateLimit("8/hour", name="app", kit=kit))])
    api.add_middleware(RateLimitMiddleware, "20/hour", kit=kit)

    @api.get("/a", dependencies=[hourly, Depends(RateLimit("1/minute", kit=kit))])
    async def a() -> str:
        return "a"

    @api.get("/b", dependencies=[hourly])
    @rate_limited("1/minute", kit=kit)
    async def b() -> str:
        return "b"

    assert codes(ask(api), "/a", "/a", "/a", "/b", "/b") == [200, 429, 429, 200, 429]
    limiters = [RateLimiter(name, rule, kit=kit) for name, rule in [("hourly", "9/hour"), ("app", "8/hour")]]
    assert [limiter.blocking.peek("testclient").remaining for limiter in limiters] == [7, 6]
    assert RateLimiter("http", "20/hour", kit=kit).blocking.peek("testclient").remaining == 15


def test_the_decision_is_given_to_who_asks_for_it(ask, kit):
    api = FastAPI()

    @api.get("/")
    async def page(decision: Annotated[Decision, Depends(RateLimit("5/minute", kit=kit))]) -> int:
        return decision.remaining

    assert [ask(api).get("/").json() for _ in range(2)] == [4, 3]


def test_the_same_limit_as_dependency_and_decorator_is_charged_once(ask, kit):
    api = FastAPI(dependencies=[Depends(RateLimit("2/minute", kit=kit))])

    @api.get("/", dependencies=[Depends(RateLimit("2/minute", kit=kit))])
    @rate_limited("2/minute", kit=kit)
    async def page() -> str:
        return "x"

    assert codes(ask(api), "/", "/", "/") == [200, 200, 429]


def test_the_apps_own_handler_answers(ask, kit):
    api = app_with(RateLimit("1/minute", kit=kit))

    @api.exception_handler(RateLimitError)
    async def ours(request: Request, error: RateLimitError) -> JSONResponse:
        return JSONResponse({"key": error.key}, 420)

    client = ask(api)
    assert codes(client, "/a", "/a", "/a") == [200, 420, 420]
    assert client.get("/a").json() == {"key": "testclient"}


@pytest.mark.parametrize("ours", [True, False])
def test_a_handler_for_the_status_does_not_answer_what_is_answered(ask, kit, ours):
    api = app_with(RateLimit("1/minute", kit=kit))

    @api.exception_handler(429)
    async def of_status(request: Request, error: Exception) -> JSONResponse:
        raise AssertionError("the same as with the decorator: there it is not asked")

    if ours:

        @api.exception_handler(RateLimitError)
        async def of_error(request: Request, error: RateLimitError) -> JSONResponse:
            return JSONResponse({"key": error.key}, 429)

    client = ask(api)
    assert codes(client, "/a", "/a") == [200, 429]
    assert ("key" in client.get("/a").json()) == ours


def test_a_refusal_is_no_fault_to_dependencies_with_yield(ask, kit):
    async def session():
        try:
            yield
        except HTTPException:
            raise
        except Exception as fault:
            raise HTTPException(500) from fault

    client = ask(app_with(session, RateLimit("1/minute", kit=kit)))
    assert codes(client, "/a", "/a") == [200, 429]


def test_websockets_are_limited_before_their_handler_runs(ask, kit):
    api, ran = FastAPI(), []

    @api.websocket("/ws")
    async def socket(websocket: WebSocket, _: Annotated[Decision, Depends(RateLimit("1/minute", kit=kit))]) -> None:
        ran.append(1)
        await websocket.accept()
        await websocket.close()

    client = ask(api)
    with client.websocket_connect("/ws"):
        pass
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws"):
        pass
    assert refused.value.status_code == 429

    async def without_extension(scope, receive, send):
        await api({**scope, "extensions": {}}, receive, send)

    with pytest.raises(WebSocketDisconnect) as closed, ask(without_extension).websocket_connect("/ws"):
        pass
    assert closed.value.code == 1008
    assert ran == [1]


def test_a_handlers_own_response_carries_the_fields_where_the_middleware_is_around(ask, kit):
    api = FastAPI()
    api.add_middleware(RateLimitMiddleware, "9/minute", kit=kit)

    @api.get("/", dependencies=[Depends(RateLimit("5/minute", kit=kit))])
    async def page() -> JSONResponse:
        return JSONResponse({})

    assert ask(api).get("/").headers.get_list("ratelimit-policy") == ['"9/minute";q=9;w=60, "5/minute";q=5;w=60']


def leased(kit, **options) -> FastAPI:
    api = FastAPI()
    held = Exclusive("report:<item_id>", kit=kit, **options)

    @api.get("/{item_id}")
    async def report(
        item_id: int, lease: Annotated[Lease, Depends(held)], takes: float = 0, chunks: int = 0
    ) -> StreamingResponse:
        await anyio.sleep(takes)

        async def body():
            for _ in range(chunks):
                yield "x"
                await anyio.sleep(0.05)
            yield str(lease.fence)

        return StreamingResponse(body())

    return api


@pytest.mark.skipif(
    tuple(map(int, fastapi.__version__.split(".")[:2])) < (0, 118), reason="dependencies end when the handler does"
)
def test_a_lease_is_given_and_held_until_the_last_byte(ask, kit):
    client = ask(leased(kit))
    mutex = Mutex("exclusive", kit=kit)
    fences = [int(client.get("/7").text) for _ in range(2)]
    assert fences[0] < fences[1]
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.get, "/7?chunks=20")
        until(lambda: mutex.blocking.holder("report:7") is not None)
        busy = client.get("/7")
        assert client.get("/8").status_code == 200
        assert (busy.status_code, busy.headers["content-type"]) == (409, "application/problem+json")
        assert busy.headers["retry-after"]
        assert answer.result(20).text.startswith("x" * 20)
    assert mutex.blocking.holder("report:7") is None


def test_a_lease_that_is_lost_is_answered_with_503(ask, kit):
    client = ask(leased(kit, ttl=0.3))
    mutex = Mutex("exclusive", kit=kit)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.get, "/7?takes=20")
        until(lambda: mutex.blocking.break_lock("report:7"))
        assert answer.result(20).status_code == 503


def test_a_busy_lock_of_the_handlers_own_is_its_own_error(ask, kit):
    other = Mutex("other", kit=kit)
    api = FastAPI()

    @api.get("/")
    async def handler(lease: Annotated[Lease, Depends(Exclusive("one", kit=kit))]) -> None:
        await other.with_lock_or_raise("b", anyio.lowlevel.checkpoint, wait=0)

    client = ask(api)
    with other.blocking.lock("b"), pytest.raises(LockError, match="of mutex 'other'"):
        client.get("/")
    assert client.get("/").status_code == 200


def test_on_conflict_and_wrong_options_of_a_lease(ask, kit):
    client = ask(leased(kit, on_conflict="skip"))
    with Mutex("exclusive", kit=kit).blocking.lock("report:7"):
        assert client.get("/7").status_code == 204
    with pytest.raises(ConfigurationError, match="did you mean 'on_conflict'"):
        Exclusive("x", on_conflct="skip")
    client = ask(leased(SyncKit("redis://127.0.0.1:1")))
    assert client.get("/7").status_code == 503


def test_the_kit_is_a_dependency_that_tests_may_replace(ask, kit):
    api = FastAPI()

    @api.get("/")
    async def page(given: KitDep) -> str:
        return given.namespace

    api.dependency_overrides[default_kit] = lambda: kit
    assert ask(api).get("/").json() == kit.namespace


def test_a_task_is_a_dependency_with_its_options(ask, kit):
    jobs = Jobs("mail", kit=kit)

    @jobs.task(schema=Email)
    async def send_email(email: Email) -> None: ...

    sends = Sends(send_email, tag="welcome")
    api = FastAPI()

    @api.post("/")
    async def post(mailer: Annotated[Sender[..., Email], Depends(sends)]) -> str:
        return (await mailer.send(to="a@example.com")).id

    job = jobs.blocking.get(ask(api).post("/").json())
    assert job is not None
    assert (job.data, job.tag) == (Email(to="a@example.com"), "welcome")
    with pytest.raises(ConfigurationError, match="tagg"):
        Sends(send_email, tagg="x")


def test_refusals_are_documented_on_request(ask, kit):
    api = FastAPI()

    @api.get("/", dependencies=[Depends(RateLimit("5/minute", kit=kit))], responses=problems(429, 409))
    async def page() -> str:
        return "x"

    responses = ask(api).get("/openapi.json").json()["paths"]["/"]["get"]["responses"]
    assert set(responses) == {"200", "409", "429"}
    assert "application/problem+json" in responses["429"]["content"]
    assert "Retry-After" in responses["429"]["headers"]
    with pytest.raises(ConfigurationError, match="problems takes"):
        problems(418)


def test_wrong_options_are_refused_where_they_are_written(kit):
    with pytest.raises(ConfigurationError, match="did you mean 'limit'"):
        RateLimit(limits=5, kit=kit)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="needs limit="):
        RateLimit(kit=kit)
