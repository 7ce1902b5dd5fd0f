"""A response holds the lease of its handler until its last byte, and no longer."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from fastapi import BackgroundTasks, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sync_kit import LockLostError, Mutex
from sync_kit_starlette import exclusive, lease_of
from tests.jobs.conftest import until
from tests.starlette.asgi import asked, calling

pytestmark = pytest.mark.anyio

TTL = 0.6
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def kit(make_kit):
    made = make_kit()
    yield made
    await made.aclose()
    await anyio.to_thread.run_sync(made.close)


@pytest.fixture
def held(kit):
    """`await held()`: the holder of the lease, or None."""
    mutex = Mutex("exclusive", kit=kit)
    return lambda: mutex.holder("one")


def app_of(handler, kit, middleware=(), **options):
    return Starlette(routes=[Route("/", exclusive("one", kit=kit, **options)(handler))], middleware=middleware)


async def three(gate=None):
    for number in range(3):
        if gate is not None and number == 2:
            await gate.wait()
        yield f"{number}"


async def free(held, seconds):
    async def is_free():
        return await held() is None

    await until(is_free, seconds)


async def begun(call, messages=1):
    async def there():
        return len(call.sent) >= messages

    await until(there)


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_a_slow_client_holds_the_lease_until_it_has_read_the_last_byte(kit, held, spec):
    async def handler(request):
        return StreamingResponse(three())

    app = app_of(handler, kit)
    async with calling(app, slow=True, spec=spec) as call:
        for read in range(4):
            await begun(call, read)
            assert await (until(held) if read == 0 else held())
            call.read()
        await free(held, 10)  # before the client hears that this was all: its next request is not refused
        call.read()
        await call.ended.wait()
    assert (call.body, call.whole, call.error) == (b"012", True, None)


async def test_a_client_that_asks_again_at_once_is_not_refused_because_of_its_last_request(kit, held):
    seen = []

    async def watched(scope, receive, send):
        async def watching(message):
            if message["type"] == "http.response.body" and not message.get("more_body"):
                seen.append(await held())
            await send(message)

        await app(scope, receive, watching)

    async def stream(request):
        return StreamingResponse(three())

    async def plain(request):
        return PlainTextResponse("all")

    async def file(request):
        return FileResponse(__file__)

    for handler in (stream, plain, file):
        app = app_of(handler, kit)
        assert (await asked(watched)).whole
    assert seen == [None, None, None]


async def test_a_lease_that_is_lost_before_the_end_of_a_stream_leaves_it_without_one(kit):
    async def handler(request):
        async def body():
            yield "all"
            await Mutex("exclusive", kit=kit).break_lock("one")

        return StreamingResponse(body())

    call = await asked(app_of(handler, kit))
    assert isinstance(call.error, LockLostError)
    assert (call.body, call.whole) == (b"all", False)


async def test_the_lease_ends_before_tasks_in_the_background_run(kit, held):
    seen = []

    async def later():
        seen.append(await held())

    async def stream(request):
        return StreamingResponse(three(), background=BackgroundTask(later))

    async def plain(request):
        return PlainTextResponse("all", background=BackgroundTask(later))

    for handler in (stream, plain):
        assert (await asked(app_of(handler, kit))).whole
    api = FastAPI()

    @api.get("/")
    @exclusive("one", kit=kit)
    async def injected(tasks: BackgroundTasks) -> Response:
        tasks.add_task(later)
        return PlainTextResponse("all")

    assert (await asked(api, fastapi_middleware_astack=contextlib.AsyncExitStack())).whole
    assert seen == [None, None, None]


async def test_the_lease_of_a_file_lasts_as_long_as_the_file(kit, held, tmp_path):
    path = tmp_path / "report.bin"
    path.write_bytes(b"x" * 200_000)

    async def handler(request):
        return FileResponse(path)

    app = app_of(handler, kit)
    async with calling(app, slow=True) as call:
        call.read()
        call.read()
        await begun(call, 2)
        assert await held()
        for _ in range(10):
            call.read()
        await call.ended.wait()
    assert len(call.body) == 200_000
    assert await held() is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_file_that_the_server_sends_ends_the_lease(kit, held, tmp_path, method):
    path, seen = tmp_path / "report.bin", []
    path.write_bytes(b"x")

    async def later():
        seen.append(await held())

    async def handler(request):
        return FileResponse(path, background=BackgroundTask(later))

    call = await asked(app_of(handler, kit), method=method, extensions={"http.response.pathsend": {}})
    assert call.status == 200
    assert method == "HEAD" or call.sent[-1].get("path") == str(path) or call.body == b"x"  # older Starlettes send it
    assert seen == [None]


@pytest.mark.parametrize("extensions", [{}, {"http.response.pathsend": {}}])
async def test_a_last_message_that_has_still_to_be_read_is_sent_inside_the_lease(kit, held, tmp_path, extensions):
    path, seen = tmp_path / "report.bin", []
    path.write_bytes(b"x" * 100_000)

    async def watched(scope, receive, send):
        async def watching(message):
            if message["type"] != "http.response.start" and not message.get("more_body"):
                seen.append(await held() is not None)
            await send(message)

        await app(scope, receive, watching)

    async def handler(request):
        return FileResponse(path)

    app = app_of(handler, kit)
    await asked(watched, extensions=extensions)
    assert seen == [True]
    assert await held() is None


async def test_trailers_belong_to_the_response(kit, held):
    seen = []

    class Trailing(Response):
        async def __call__(self, scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
            await send({"type": "http.response.body", "body": b"all"})
            seen.append(await held() is not None)
            await send({"type": "http.response.trailers", "headers": []})
            seen.append(await held() is not None)

    async def handler(request):
        return Trailing()

    await asked(app_of(handler, kit))
    assert seen == [True, False]


async def test_a_response_is_what_it_was(kit):
    """Same class, same attributes, in both directions."""
    made = []

    class Special(StreamingResponse):
        __slots__ = ("mark",)
        mark: str

    async def handler(request):
        response = Special(three(), headers={"x-first": "1"})
        response.mark = "here"
        made.append(response)
        return response

    decorated = exclusive("one", kit=kit)(handler)

    async def outer(request):
        response = await decorated(request)
        assert isinstance(response, Special)
        assert (type(response).__name__, response.mark) == ("Special", "here")
        response.headers["x-second"] = "2"
        response.set_cookie("a", "b")
        made[0].status_code = 201
        return response

    call = await asked(Starlette(routes=[Route("/", outer)]))
    assert (call.status, call.body) == (201, b"012")
    assert {b"x-first", b"x-second", b"set-cookie"} <= {name for name, _ in call.sent[0]["headers"]}


async def test_one_response_may_answer_many_requests(kit):
    fixed = PlainTextResponse("fixed")

    @exclusive("<query.id>", kit=kit)
    async def handler(request):
        return fixed

    app = Starlette(routes=[Route("/", handler)])
    async with calling(app, "/?id=1", slow=True) as first, calling(app, "/?id=2", slow=True) as second:
        for call in (second, first, first, second):
            call.read()
        await first.ended.wait()
        await second.ended.wait()
    assert [first.body, second.body] == [b"fixed", b"fixed"]
    assert await Mutex("exclusive", kit=kit).holder("1") is None
    assert type(fixed) is PlainTextResponse


async def test_a_response_that_a_cache_keeps_is_sent_again_without_the_lease(kit, held):
    kept: list[Response] = []
    pickled: list[bytes] = []
    seen: list[object] = []

    @exclusive("one", kit=kit)
    async def handler(request):
        return PlainTextResponse("built", headers={"x-first": "1"})

    async def cached(request):
        if not kept:
            kept.append(await handler(request))
            pickled.extend((pickle.dumps(kept[0]), pickle.dumps(copy.deepcopy(kept[0]))))
        return pickle.loads(pickled.pop()) if request.query_params else kept[0]

    async def noting(scope, receive, send):
        await app(scope, receive, send)
        seen.append(await held())

    app = Starlette(routes=[Route("/", cached)])
    calls = [await asked(noting, path) for path in ("/", "/", "/?pickled=1", "/?pickled=1")]
    assert [(call.status, call.body, call.error) for call in calls] == [(200, b"built", None)] * 4
    assert seen == [None] * 4


async def test_a_copy_of_a_response_takes_the_lease_along(kit, held):
    async def handler(request):
        return StreamingResponse(three())

    decorated = exclusive("one", kit=kit)(handler)

    async def copying(request):
        response = copy.copy(await decorated(request))
        response.status_code = 203
        return response

    async with calling(Starlette(routes=[Route("/", copying)]), slow=True) as call:
        call.read()
        await begun(call)
        gc.collect()
        assert await held()
    assert call.status == 203
    await free(held, 3)


async def test_stacked_leases_both_last_until_the_last_byte(kit):
    @exclusive("outer", kit=kit)
    @exclusive("inner", kit=kit)
    async def handler(request):
        return StreamingResponse(three())

    mutex = Mutex("exclusive", kit=kit)
    async with calling(Starlette(routes=[Route("/", handler)]), slow=True) as call:
        call.read()
        call.read()
        await begun(call, 2)
        assert await mutex.holder("outer")
        assert await mutex.holder("inner")
    assert await mutex.holder("outer") is None
    assert await mutex.holder("inner") is None


async def test_a_timeout_around_the_endpoint_is_not_one_around_the_body(kit):
    async def handler(request):
        return StreamingResponse(three())

    decorated = exclusive("one", kit=kit)(handler)

    async def in_time(request):
        with anyio.fail_after(5):
            return await decorated(request)

    assert (await asked(Starlette(routes=[Route("/", in_time)]))).body == b"012"


async def test_a_response_that_is_thrown_away_ends_the_lease(kit, held):
    async def handler(request):
        return StreamingResponse(three())

    decorated = exclusive("one", kit=kit)(handler)

    async def other(request):
        await decorated(request)
        return PlainTextResponse("another")

    assert (await asked(Starlette(routes=[Route("/", other)]))).body == b"another"
    await free(held, 3)


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_a_client_that_goes_does_not_end_the_lease_before_the_body_has_ended(kit, held, spec):
    """The generator waits for a chunk to be read: Starlette itself leaves it to the garbage collector."""
    ended, cleaning = [], anyio.Event()

    async def body():
        try:
            while True:
                yield "more"
        finally:
            with anyio.CancelScope(shield=True):
                cleaning.set()
                await anyio.sleep(0.2)
                ended.append(await held() is not None)

    async def handler(request):
        return StreamingResponse(body())

    async with calling(app_of(handler, kit), slow=True, spec=spec) as call:
        call.read()
        call.read()
        await begun(call, 2)
        call.go()
        call.read()
        await cleaning.wait()
        assert await held()
    assert ended == [True]
    assert await held() is None


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_nor_before_a_plain_generator_has_ended_on_its_thread(kit, held, spec):
    ended, mutex = [], Mutex("exclusive", kit=kit).blocking

    def body():
        try:
            while True:
                yield "more"
        finally:
            time.sleep(0.2)
            ended.append(mutex.holder("one") is not None)

    async def handler(request):
        return StreamingResponse(body())

    async with calling(app_of(handler, kit), slow=True, spec=spec) as call:
        call.read()
        call.read()
        await begun(call, 2)
        call.go()
        call.read()
    assert ended == [True]
    assert await held() is None


async def test_nor_before_a_plain_generator_has_made_the_chunk_that_it_is_at(kit, held):
    ended, working, mutex = [], [], Mutex("exclusive", kit=kit).blocking

    def body():
        yield "first"
        working.append(True)
        time.sleep(0.3)
        ended.append(mutex.holder("one") is not None)
        yield "second"

    async def handler(request):
        return StreamingResponse(body())

    async with calling(app_of(handler, kit)):

        async def is_working():
            return working

        await until(is_working)
    assert ended == [True]
    assert await held() is None


async def test_a_generator_is_closed_in_the_task_that_ran_it(kit, held):
    """Cancel scopes around a `yield` can be left nowhere else."""
    ended = []

    async def body():
        try:
            with anyio.fail_after(30):
                while True:
                    yield "more"
        finally:
            ended.append(True)

    async def handler(request):
        return StreamingResponse(body())

    async with calling(app_of(handler, kit), slow=True) as call:
        call.read()
        call.read()
        await begun(call, 2)
    assert (ended, call.error) == ([True], None)


async def test_also_when_the_response_was_busy_with_a_chunk_of_it(kit, held):
    seen = []

    class Pondering(StreamingResponse):
        async def stream_response(self, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async for _ in self.body_iterator:
                await anyio.sleep_forever()

    async def body():
        try:
            yield "more"
        finally:
            with anyio.CancelScope(shield=True):
                seen.append(await held() is not None)

    async def handler(request):
        return Pondering(body())

    async with calling(app_of(handler, kit)) as call:
        await begun(call)
        await anyio.wait_all_tasks_blocked()
    assert seen == [True]
    assert await held() is None


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_a_handler_whose_client_is_gone_keeps_the_lease_until_it_has_ended(kit, held, kind):
    began, ended, mutex = [], [], Mutex("exclusive", kit=kit).blocking

    async def slow(request):
        began.append(True)
        await anyio.sleep(0.3)
        ended.append(await held() is not None)
        return PlainTextResponse("late")

    def plain(request):
        began.append(True)
        time.sleep(0.3)
        ended.append(mutex.holder("one") is not None)
        return PlainTextResponse("late")

    async with calling(app_of(slow if kind == "async def" else plain, kit)) as call:

        async def has_begun():
            return began

        await until(has_begun)
        call.go()
        assert await held()
    assert ended == [True]
    assert await held() is None


async def test_a_plain_handler_that_is_cancelled_keeps_the_lease_until_it_has_ended(kit, held):
    began, ended, mutex = [], [], Mutex("exclusive", kit=kit).blocking

    def plain(request):
        began.append(True)
        time.sleep(0.3)
        ended.append(mutex.holder("one") is not None)
        return PlainTextResponse("late")

    app = app_of(plain, kit)

    async def has_begun():
        return began

    async with anyio.create_task_group() as group:
        group.start_soon(asked, app)
        await until(has_begun)
        group.cancel_scope.cancel()
    assert ended == [True]
    assert await held() is None


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_also_by_the_cancellation_of_asyncio_itself(kit, held):
    import asyncio

    tasks: list[Any] = []
    began, ended, mutex = [], [], Mutex("exclusive", kit=kit).blocking

    def plain(request):
        began.append(True)
        time.sleep(0.3)
        ended.append(mutex.holder("one") is not None)
        return PlainTextResponse("late")

    async def has_begun():
        return began

    app = app_of(plain, kit)

    async def noting(scope, receive, send):
        tasks.append(asyncio.current_task())
        await app(scope, receive, send)

    async with calling(noting) as call:
        await until(has_begun)
        tasks[0].cancel()
        await call.ended.wait()
    assert ended == [True]
    assert await held() is None


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_a_plain_generator_that_runs_then_is_waited_for_too(kit, held):
    import asyncio

    tasks: list[Any] = []
    began, ended, mutex = [], [], Mutex("exclusive", kit=kit).blocking

    def body():
        yield "first"
        began.append(True)
        time.sleep(0.3)
        ended.append(mutex.holder("one") is not None)
        yield "second"

    async def has_begun():
        return began

    async def handler(request):
        tasks.append(asyncio.current_task())
        return StreamingResponse(body())

    async with calling(app_of(handler, kit), spec="2.4") as call:
        await until(has_begun)
        tasks[0].cancel()
        await call.ended.wait()
    assert ended == [True]
    assert await held() is None


async def broken(kit, held):
    async def is_held():
        return await held()

    await until(is_held)
    assert await Mutex("exclusive", kit=kit).break_lock("one")


async def test_a_lease_lost_before_the_response_begins_is_answered_with_503(kit, held):
    async def handler(request):
        await anyio.sleep(20)
        return PlainTextResponse("never")

    async with calling(app_of(handler, kit, ttl=TTL)) as call:
        await broken(kit, held)
        await call.ended.wait()
    assert (call.status, call.whole, call.error) == (503, True, None)


async def test_also_between_the_handler_and_its_response(kit, held):
    async def handler(request):
        return StreamingResponse(three())

    decorated = exclusive("one", ttl=TTL, kit=kit)(handler)

    async def outer(request):
        response = await decorated(request)
        lease = lease_of(request)
        await broken(kit, held)

        async def is_lost():
            return lease.lost

        await until(is_lost)
        return response

    call = await asked(Starlette(routes=[Route("/", outer)]))
    assert (call.status, call.whole, call.error) == (503, True, None)


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_a_lease_lost_in_the_middle_of_a_body_cuts_the_connection(kit, held, spec):
    gate, ended = anyio.Event(), []

    async def body():
        try:
            async for chunk in three(gate):
                yield chunk
        finally:
            ended.append(True)

    async def handler(request):
        return StreamingResponse(body())

    async with calling(app_of(handler, kit, ttl=TTL), spec=spec) as call:
        await begun(call, 3)
        await broken(kit, held)
        await call.ended.wait()
    assert isinstance(call.error, LockLostError)
    assert (call.status, call.body, call.whole, ended) == (200, b"01", False, [True])


async def test_a_body_that_goes_on_after_a_loss_is_not_sent(kit, held):
    async def body():
        yield "first"
        with contextlib.suppress(BaseException):
            await anyio.sleep(20)
        yield "second"

    async def handler(request):
        return StreamingResponse(body())

    async with calling(app_of(handler, kit, ttl=TTL)) as call:
        await begun(call, 2)
        await broken(kit, held)
        await call.ended.wait()
    assert isinstance(call.error, LockLostError)
    assert (call.body, call.whole) == (b"first", False)


async def test_the_apps_own_handler_answers_for_a_loss_that_came_in_time(kit, held):
    async def handler(request):
        await anyio.sleep(20)

    async def lost(request, error):
        return PlainTextResponse(f"lost {error.resource}", 500)

    app = app_of(handler, kit, ttl=TTL)
    app.add_exception_handler(LockLostError, lost)
    async with calling(app) as call:
        await broken(kit, held)
        await call.ended.wait()
    assert (call.status, call.body) == (500, b"lost one")


@pytest.mark.parametrize("endpoint", ["methods", "dispatch"])
async def test_an_endpoint_class_holds_the_lease_until_the_last_byte(kit, held, endpoint):
    class Report(HTTPEndpoint):
        async def get(self, request):
            return StreamingResponse(three())

    class Own(Report):
        async def dispatch(self):
            await super().dispatch()

    app = app_of(Report if endpoint == "methods" else Own, kit)
    async with calling(app, slow=True) as call:
        for read in range(4):
            await begun(call, read)
            assert await (until(held) if read == 0 else held())
            call.read()
        call.read()
        await call.ended.wait()
    assert (call.body, call.error) == (b"012", None)
    assert await held() is None
    assert (await asked(app, method="DELETE")).status == 405


async def test_a_dispatch_whose_lease_is_lost_is_answered_once(kit, held):
    gate = anyio.Event()

    class Own(HTTPEndpoint):
        async def dispatch(self):
            if self.scope["query_string"]:
                await anyio.sleep(20)
            await StreamingResponse(three(gate))(self.scope, self.receive, self.send)

    app = app_of(Own, kit, ttl=TTL)
    async with calling(app) as call:
        await begun(call, 3)
        await broken(kit, held)
        await call.ended.wait()
    assert isinstance(call.error, LockLostError)
    assert (call.status, call.whole) == (200, False)
    async with calling(app, "/?wait") as call:
        await broken(kit, held)
        await call.ended.wait()
    assert (call.status, call.error) == (503, None)


# older Starlettes leave the stream of the request to the garbage collector
starlettes_own = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <async_generator object Request.stream:pytest.PytestUnraisableExceptionWarning"
)


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


@starlettes_own
async def test_below_a_base_middleware_the_lease_lasts_as_long(kit, held):
    async def handler(request):
        return StreamingResponse(three())

    app = app_of(handler, kit, [Middleware(Passing)])
    async with calling(app, slow=True) as call:
        for read in range(3):  # the middleware has one piece more in hand than the client has read
            await begun(call, read)
            assert await (until(held) if read == 0 else held())
            call.read()
        call.read()
        call.read()
        await call.ended.wait()
    assert (call.body, call.whole) == (b"012", True)
    assert await held() is None


@starlettes_own
async def test_below_a_base_middleware_the_connection_is_cut_too(kit, held):
    gate = anyio.Event()

    async def handler(request):
        return StreamingResponse(three(gate))

    async with calling(app_of(handler, kit, [Middleware(Passing)], ttl=TTL)) as call:
        await begun(call, 3)
        await broken(kit, held)
        await call.ended.wait()
    assert isinstance(call.error, Exception)
    assert (call.body, call.whole) == (b"01", False)


WITHOUT_ASSERTIONS = """
import anyio, sys
from starlette.middleware import Middleware
from starlette.responses import StreamingResponse
from sync_kit import Mutex, SyncKit
from tests.starlette.asgi import asked
from tests.starlette.test_streaming import Passing, app_of

async def main():
    kit = SyncKit(sys.argv[1], namespace=sys.argv[2])

    async def body():
        yield "0"
        await Mutex("exclusive", kit=kit).break_lock("one")
        await anyio.sleep(20)

    async def handler(request):
        return StreamingResponse(body())

    call = await asked(app_of(handler, kit, [Middleware(Passing)], ttl=0.3))
    print(call.body, call.whole, type(call.error).__name__, __debug__)
    await kit.aclose()

anyio.run(main)
"""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_also_where_python_runs_without_assertions(server, namespace):
    command = [sys.executable, "-O", "-c", WITHOUT_ASSERTIONS, server.url, namespace]
    said = await anyio.run_process(command, cwd=ROOT)
    assert said.stdout.decode().split() == ["b'0'", "False", "LockLostError", "False"]
