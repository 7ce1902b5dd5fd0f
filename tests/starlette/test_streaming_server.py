"""Streams of exclusive handlers through a real server, to clients that are slow, go away, or come in crowds."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from sync_kit import Mutex
from sync_kit_starlette import exclusive
from tests.mutex.tools import wait_until

TTL = 0.6
CHUNK = b"x" * 1_000_000
CHUNKS = 30
"""More than the buffers between server and client hold."""


@pytest.fixture(params=["asyncio", "uvloop"])
def serve(request):
    """`serve(app)` is the address of a server with this app, on a thread."""
    running = []

    def start(app):
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, loop=request.param, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        running.append((server, thread, listening))
        wait_until(lambda: server.started, 10)
        return listening.getsockname()

    yield start
    for server, thread, listening in running:
        server.should_exit = True
        thread.join(20)
        listening.close()


@pytest.fixture
def held(kit):
    """`held()`: the holder of the lease, or None."""
    mutex = Mutex("exclusive", kit=kit).blocking
    return lambda: mutex.holder("one")


def app_of(handler, kit, *middleware, **options):
    route = Route("/", exclusive("one", kit=kit, **options)(handler))
    return Starlette(routes=[route], middleware=[Middleware(kind) for kind in middleware])


@contextlib.contextmanager
def reading(address):
    """A client that has asked, and reads only when told to."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(address)
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        yield client


def rest_of(client) -> bytes:
    data = bytearray()
    while part := client.recv(1 << 20):
        data += part
    return bytes(data)


def test_a_slow_client_holds_the_lease_until_the_server_has_taken_the_last_byte(kit, serve, held):
    async def body():
        for _ in range(CHUNKS):
            yield CHUNK

    async def handler(request):
        return StreamingResponse(body())

    with reading(serve(app_of(handler, kit, ttl=TTL))) as client:
        client.recv(1000)
        until = time.monotonic() + 2 * TTL
        while time.monotonic() < until:
            assert held()
            time.sleep(0.02)
        assert rest_of(client).endswith(b"0\r\n\r\n")
    wait_until(lambda: held() is None, 5)


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_client_that_goes_in_the_middle_ends_the_lease_when_the_body_has_ended(kit, serve, held, kind):
    ended = []

    async def chunks():
        try:
            while True:
                yield CHUNK
                await anyio.sleep(0.001)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3)
            ended.append(time.monotonic())

    def plain():
        try:
            while True:
                yield CHUNK
        finally:
            time.sleep(0.3)
            ended.append(time.monotonic())

    async def handler(request):
        return StreamingResponse(chunks() if kind == "async" else plain())

    with reading(serve(app_of(handler, kit))) as client:
        client.recv(1000)
        assert held()
    while not ended:
        holder = held()
        assert holder or ended, "free while the body had not ended"
    wait_until(lambda: held() is None, 5)


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_client_that_goes_while_the_handler_runs_does_not_end_the_lease(kit, serve, held, kind):
    began, ended = threading.Event(), threading.Event()

    async def slow(request):
        began.set()
        await anyio.sleep(0.3)
        ended.set()
        return PlainTextResponse("late")

    def plain(request):
        began.set()
        time.sleep(0.3)
        ended.set()
        return PlainTextResponse("late")

    with reading(serve(app_of(slow if kind == "async" else plain, kit))):
        assert began.wait(5)
    while not ended.is_set():
        holder = held()
        assert holder or ended.is_set(), "free while the handler ran"
    wait_until(lambda: held() is None, 5)


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


@pytest.mark.parametrize("middleware", [(), (Passing,)], ids=["bare", "below a base middleware"])
def test_a_lease_lost_in_the_middle_of_a_body_is_an_incomplete_body(kit, serve, held, middleware):
    async def body():
        yield "first"
        await anyio.sleep(20)

    async def handler(request):
        return StreamingResponse(body())

    host, port = serve(app_of(handler, kit, *middleware, ttl=TTL))
    with httpx.stream("GET", f"http://{host}:{port}", timeout=10) as answer:
        chunks = answer.iter_bytes()
        assert next(chunks) == b"first"
        assert Mutex("exclusive", kit=kit).blocking.break_lock("one")
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            next(chunks)
    wait_until(lambda: held() is None, 5)


def test_a_lease_lost_before_the_response_begins_is_a_503(kit, serve, held):
    async def handler(request):
        await anyio.sleep(20)

    host, port = serve(app_of(handler, kit, ttl=TTL))
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(httpx.get, f"http://{host}:{port}", timeout=10)
        wait_until(held, 5)
        assert Mutex("exclusive", kit=kit).blocking.break_lock("one")
        assert answer.result().status_code == 503


class Bodies:
    """Bodies, in turns of a kind, that note when they overlap: each takes a while to make and to clean up."""

    def __init__(self) -> None:
        self.begun = 0
        self.inside: list[int] = []
        self.overlaps: list[list[int]] = []

    def next(self):
        self.begun += 1
        return self._plain(self.begun) if self.begun % 2 else self._chunks(self.begun)

    def _enter(self, number):
        self.inside.append(number)
        if len(self.inside) > 1:
            self.overlaps.append([*self.inside])

    async def _chunks(self, number):
        self._enter(number)
        try:
            for _ in range(5):
                yield b"x" * 100_000
                await anyio.sleep(0.002)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            self.inside.remove(number)

    def _plain(self, number):
        self._enter(number)
        try:
            for _ in range(5):
                yield b"x" * 100_000
                time.sleep(0.002)
        finally:
            time.sleep(0.01)
            self.inside.remove(number)


def test_of_fifty_requests_that_come_and_go_no_two_bodies_overlap(kit, serve, held):
    bodies, chance = Bodies(), random.Random(7)

    async def handler(request):
        return StreamingResponse(bodies.next())

    host, port = serve(app_of(handler, kit, on_conflict="wait", wait=30))

    def visit(patience):
        timeout = httpx.Timeout(30, read=patience)
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.stream("GET", f"http://{host}:{port}", timeout=timeout) as answer,
        ):
            for _ in zip(range(round(patience * 10)), answer.iter_raw(), strict=False):
                pass

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(visit, [chance.choice([0.1, 0.2, 30]) for _ in range(50)]))
    wait_until(lambda: not bodies.inside and held() is None, 30)
    assert bodies.overlaps == []
    assert bodies.begun >= 10
