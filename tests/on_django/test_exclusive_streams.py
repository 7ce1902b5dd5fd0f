"""The lease lasts until the last byte of a stream, whoever makes it and however it ends."""

from __future__ import annotations

import gc
import gzip
import io
import time
from typing import Any

import anyio
import pytest
from django.http import FileResponse, StreamingHttpResponse
from django.test import RequestFactory
from django.test.utils import modify_settings

from sync_kit import LockLostError, Mutex
from sync_kit_django import exclusive
from tests.on_django.limited import Under, under

pytestmark = pytest.mark.anyio


@pytest.fixture
def mutex(kit):
    return Mutex("exclusive", kit=kit).blocking


def free(mutex) -> bool:
    """Wait until nobody holds it."""
    ends = time.monotonic() + 5
    while mutex.holder("one") is not None:
        assert time.monotonic() < ends, "still held"
        time.sleep(0.01)
    return True


def three(seen: list[str]):
    try:
        yield from ("a", "b", "c")
    finally:
        seen.append("closed")


async def three_later(seen: list[str]):
    try:
        for part in "abc":
            yield part
    finally:
        seen.append("closed")


def stream(seen, *, later: bool, ttl: float = 10):
    """A view whose stream tells when it is closed."""

    @exclusive("one", ttl=ttl)
    def view(request):
        return StreamingHttpResponse(three_later(seen) if later else three(seen))

    return view


def stream_async(seen, *, later: bool = True, ttl: float = 10):
    @exclusive("one", ttl=ttl)
    async def view(request):
        return StreamingHttpResponse(three_later(seen) if later else three(seen))

    return view


def test_a_stream_is_read_inside(mutex):
    response = stream([], later=False)(RequestFactory().get("/"))
    parts = iter(response)
    assert next(parts) == b"a"
    assert mutex.holder("one") is not None
    assert list(parts) == [b"b", b"c"]
    assert mutex.holder("one") is None, "before the client is told that this was all"


async def test_an_async_stream_is_read_inside(mutex):
    response = await stream_async([])(RequestFactory().get("/"))
    parts = aiter(response)
    assert await anext(parts) == b"a"
    assert await anyio.to_thread.run_sync(mutex.holder, "one") is not None
    assert [part async for part in parts] == [b"b", b"c"]
    assert await anyio.to_thread.run_sync(mutex.holder, "one") is None


async def test_a_stream_of_the_other_kind_is_read_inside(mutex):
    response = await stream_async([], later=False)(RequestFactory().get("/"))
    assert await anyio.to_thread.run_sync(mutex.holder, "one") is not None
    assert await anyio.to_thread.run_sync(list, response.streaming_content) == [b"a", b"b", b"c"]
    assert await anyio.to_thread.run_sync(mutex.holder, "one") is None
    view = stream([], later=True)
    response = await anyio.to_thread.run_sync(view, RequestFactory().get("/"))
    assert [part async for part in response] == [b"a", b"b", b"c"]
    assert await anyio.to_thread.run_sync(mutex.holder, "one") is None


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("view", [stream, stream_async])
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_both_handlers_give_the_lease_back(mutex, kind, later, view):
    client = Under(kind)
    with under(("", view([], later=later))):
        for _ in range(2):
            response = client.get("/")
            assert response.status_code == 200
            if not response.is_async:
                assert b"".join(response.streaming_content) == b"abc"
            response.close()
            assert free(mutex)
        client.head("/").close()
        assert free(mutex)


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_what_other_middlewares_make_of_a_stream_ends_the_lease_too(mutex, kind):
    client = Under(kind)
    view = stream([], later=False) if kind == "wsgi" else stream_async([])
    with under(("", view)), modify_settings(MIDDLEWARE={"prepend": "django.middleware.gzip.GZipMiddleware"}):
        response = client.get("/", headers={"accept-encoding": "gzip"})
        assert response["Content-Encoding"] == "gzip"
        if kind == "wsgi":
            assert gzip.decompress(b"".join(response.streaming_content)) == b"abc"
            assert mutex.holder("one") is None
        response.close()
        assert free(mutex)


@pytest.mark.parametrize("started", [False, True])
def test_a_client_that_goes_away_ends_stream_and_lease(mutex, started):
    seen: list[str] = []
    response = stream(seen, later=False)(RequestFactory().get("/"))
    if started:
        next(iter(response))
    response.close()
    assert seen == ["closed"] * started
    assert mutex.holder("one") is None


async def test_a_client_that_goes_away_ends_an_async_stream_and_its_lease(mutex):
    seen: list[str] = []
    response = await stream_async(seen)(RequestFactory().get("/"))
    await anext(aiter(response))
    await anyio.to_thread.run_sync(response.close)
    await anyio.to_thread.run_sync(free, mutex)
    assert seen == ["closed"]


@pytest.mark.parametrize("view", [stream, stream_async])
def test_a_response_that_is_thrown_away_ends_the_lease(mutex, view):
    made = view([], later=True, ttl=0.4)
    response = anyio.run(made, RequestFactory().get("/")) if view is stream_async else made(RequestFactory().get("/"))
    assert mutex.holder("one") is not None
    del response
    gc.collect()
    assert free(mutex)


def test_a_stream_whose_lease_is_lost_is_cut(mutex):
    response = stream([], later=False, ttl=0.3)(RequestFactory().get("/"))
    parts = iter(response)
    next(parts)
    mutex.break_lock("one")
    with pytest.raises(LockLostError):
        list(parts)
    response.close()


async def test_an_async_stream_whose_lease_is_lost_is_cancelled(mutex):
    ended = []

    @exclusive("one", ttl=0.3)
    async def view(request):
        async def parts():
            yield "a"
            try:
                await anyio.sleep(30)
            finally:
                ended.append("cancelled")

        return StreamingHttpResponse(parts())

    response = await view(RequestFactory().get("/"))
    parts = aiter(response)
    await anext(parts)
    await anyio.to_thread.run_sync(mutex.break_lock, "one")
    with pytest.raises(LockLostError), anyio.fail_after(10):
        await anext(parts)
    assert ended == ["cancelled"]


async def test_an_async_stream_whose_lease_is_lost_at_its_end_is_not_taken_for_whole(mutex):
    response = await stream_async([], ttl=5)(RequestFactory().get("/"))
    parts = aiter(response)
    await anyio.to_thread.run_sync(mutex.break_lock, "one")
    with pytest.raises(LockLostError):
        _ = [part async for part in parts]


async def test_a_lease_outlives_its_ttl_while_a_stream_is_read(mutex):
    response = await stream_async([], ttl=0.3)(RequestFactory().get("/"))
    parts = aiter(response)
    await anext(parts)
    await anyio.sleep(1)
    assert [part async for part in parts] == [b"b", b"c"]


def test_a_file_is_sent_inside(mutex):
    @exclusive("one")
    def view(request):
        return FileResponse(io.BytesIO(b"file"), filename="a.txt")

    response: Any = view(RequestFactory().get("/"))
    assert mutex.holder("one") is not None
    assert b"".join(response) == b"file"
    assert mutex.holder("one") is None
    response.close()


def test_errors_of_a_stream_are_its_own_and_end_the_lease(mutex):
    def parts():
        yield "a"
        raise ZeroDivisionError

    response = exclusive("one")(lambda request: StreamingHttpResponse(parts()))(RequestFactory().get("/"))
    with pytest.raises(ZeroDivisionError):
        list(response)
    response.close()
    assert mutex.holder("one") is None
