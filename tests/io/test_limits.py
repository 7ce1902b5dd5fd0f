"""Nothing waits longer than it may: deadlines, half-open connections, servers that are deaf, closed or no Redis."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from sync_kit import ServerError, SyncKit, SyncKitError, Unavailable
from sync_kit._io.address import Address
from sync_kit._io.settings import from_url
from tests.io.tools import PUSH, PUT, Caller, script, until, whole_story, within

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)

BROKEN = script("broken", "text", "return ARGV[1] .. nonsense")


@contextmanager
def deaf(answer: bytes = b"") -> Iterator[int]:
    """A server that accepts and says `answer`, and nothing else; the value is its port."""
    kept: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                kept.append(listener.accept()[0])
                if answer:
                    kept[-1].sendall(answer)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


# -- deadlines -------------------------------------------------------------------------------------------------------


async def test_a_paused_server_is_unavailable_within_the_deadline(own_server, face, namespace):
    server = own_server()
    async with SyncKit(server.url, namespace=namespace) as kit:
        caller = face(Caller(kit, deadline=0.1))
        await caller.say("connected")
        server.pause()
        start = time.monotonic()
        with within(0.25), pytest.raises(Unavailable, match="did not answer in time") as caught:
            await caller.say("late")
        assert time.monotonic() - start >= 0.1
        assert caught.value.__cause__ is not None, "the cause is chained"
        server.resume()
        patient = face(Caller(kit))
        assert [await patient.say(str(n)) for n in range(20)] == [str(n) for n in range(20)]


async def test_replies_after_the_deadline_reach_nobody_else(own_server, namespace):
    server = own_server()
    async with SyncKit(server.url, namespace=namespace) as kit:
        hasty, patient, heard = Caller(kit, deadline=0.06), Caller(kit, deadline=5), []
        await patient.say("connected")
        server.pause()

        async def give_up(number: int) -> None:
            with pytest.raises(Unavailable):
                await hasty.say(f"hasty {number}")

        async def wait(number: int) -> None:
            heard.append(await patient.say(f"patient {number}") == f"patient {number}")

        async with anyio.create_task_group() as tasks:
            for number in range(15):
                tasks.start_soon(give_up, number)
                tasks.start_soon(wait, number)
            await anyio.sleep(0.15)
            for number in range(15, 20):
                tasks.start_soon(wait, number)
            await anyio.sleep(0.02)
            server.resume()
        assert heard == [True] * 20


async def test_client_pause_is_no_different(server, face, kit, namespace):
    caller = face(Caller(kit, deadline=0.08))
    await caller.call(PUT, "x", key=namespace)
    server.client().client_pause(900, all=True)
    with within(0.16), pytest.raises(Unavailable):
        await caller.call(PUT, "y", key=namespace)
    assert await face(Caller(kit, deadline=5)).say("after the pause") == "after the pause"


async def test_a_loop_that_is_hogged_is_not_taken_for_a_slow_server(kit):
    caller, heard = Caller(kit, deadline=0.03), []
    await caller.say("connected")

    async def say(number: int) -> None:
        heard.append(await caller.say(str(number)) == str(number))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(say, number)
        await anyio.lowlevel.checkpoint()
        time.sleep(0.09)  # noqa: ASYNC251
    assert heard == [True] * 100


async def test_a_loop_that_is_hogged_again_and_again_still_keeps_deadlines(own_server, namespace):
    server = own_server()
    async with SyncKit(server.url, namespace=namespace) as kit:
        caller = Caller(kit, deadline=0.1)
        await caller.say("connected")
        server.pause()

        async def hog() -> None:
            while True:
                time.sleep(0.03)  # noqa: ASYNC251
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hog)
            with within(1), anyio.fail_after(3), pytest.raises(Unavailable):
                await caller.say("never answered")
            tasks.cancel_scope.cancel()
        server.resume()


@on_asyncio
async def test_a_busy_loop_that_hears_the_server_is_not_unavailable(kit):
    """Every turn of the loop is longer than a tick, and a call waits longer than its deadline for its turn."""
    caller, heard = Caller(kit, deadline=0.2), []
    await caller.say("connected")

    async def say(number: int) -> None:
        heard.append(await caller.say(str(number)) == str(number))
        time.sleep(0.001)  # noqa: ASYNC251

    async with anyio.create_task_group() as tasks:
        for number in range(500):
            tasks.start_soon(say, number)
    assert heard == [True] * 500


@on_asyncio
async def test_one_slow_reply_after_a_long_silence_does_not_cost_the_connection(proxy, server, namespace):
    async with SyncKit(f"{proxy.url}?socket_timeout=0.3", namespace=namespace) as kit:
        await Caller(kit).say("connected")
        silent = time.monotonic()
        await until(lambda: time.monotonic() > silent + 0.32)  # longer than the connection's time limit
        server.client().client_pause(120, all=True)
        with pytest.raises(Unavailable):
            await Caller(kit, deadline=0.03).say("slow")
        assert await Caller(kit, deadline=2).say("still here") == "still here"
        assert proxy.accepted == 1


async def test_a_half_open_connection_is_given_up_after_its_time_limit(proxy, face, namespace):
    async with SyncKit(f"{proxy.url}?socket_timeout=0.3", namespace=namespace) as kit:
        caller = face(Caller(kit, deadline=0.05))
        await caller.say("connected")
        proxy.black_hole()
        with within(0.2), pytest.raises(Unavailable):
            await caller.say("into the hole")
        await until(lambda: proxy.connections == 0, 1.0)
        await anyio.to_thread.run_sync(proxy.heal)
        assert await caller.say("healed") == "healed"


async def test_a_half_open_connection_under_constant_load_is_given_up_too(proxy, namespace):
    async with SyncKit(f"{proxy.url}?socket_timeout=0.3", namespace=namespace) as kit:
        caller = Caller(kit, deadline=0.05)
        await caller.say("connected")
        proxy.black_hole()
        accepted = proxy.accepted
        with anyio.fail_after(2):
            while proxy.accepted == accepted:
                with pytest.raises(Unavailable):
                    await caller.say("into the hole")


# -- servers that cannot be talked to --------------------------------------------------------------------------------


async def test_a_refused_connection_is_unavailable_at_once(proxy, face, namespace):
    await anyio.to_thread.run_sync(proxy.refuse)
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        for _ in range(3):
            with within(1), pytest.raises(Unavailable, match=f"127.0.0.1:{proxy.port}/0 is not reachable"):
                await caller.say("anybody there?")
        with within(1), pytest.raises(Unavailable):
            await caller.pop("{t}", 0.1)
        await anyio.to_thread.run_sync(proxy.heal)
        assert await caller.say("there") == "there"


async def test_a_refused_connection_fails_all_that_wait_for_it(proxy, namespace):
    await anyio.to_thread.run_sync(proxy.refuse)
    async with SyncKit(proxy.url, namespace=namespace) as kit:

        async def say(number: int) -> None:
            with pytest.raises(Unavailable):
                await Caller(kit, repeat=True).say(str(number))

        with within(1):
            async with anyio.create_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(say, number)


async def test_a_server_that_accepts_but_never_answers_the_login(face, namespace):
    with deaf() as port:
        url = f"redis://:hunter2@127.0.0.1:{port}/0?socket_connect_timeout=0.1&socket_timeout=0.1"
        async with SyncKit(url, namespace=namespace) as kit:
            with within(0.6), pytest.raises(Unavailable) as caught:
                await face(Caller(kit)).say("hello?")
        assert "hunter2" not in whole_story(caught.value)


async def test_something_that_is_not_redis(face, namespace):
    with deaf(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        async with SyncKit(f"redis://127.0.0.1:{port}/0", namespace=namespace) as kit:
            with within(1), pytest.raises(Unavailable):
                await face(Caller(kit)).say("hello?")
            with within(1), pytest.raises(Unavailable):
                await face(Caller(kit)).pop("{t}", 0.01)


async def test_a_server_that_answers_before_it_was_asked(face, namespace):
    """What nobody asked for is nobody's reply."""
    with deaf(b"+gift\r\n" * 3) as port:
        async with SyncKit(f"redis://127.0.0.1:{port}/0?socket_timeout=0.1", namespace=namespace) as kit:
            for _ in range(2):
                try:
                    assert await face(Caller(kit, deadline=0.1)).call(PUT, "x") == b"gift"
                except Unavailable:
                    pass


async def test_a_database_that_the_server_does_not_have(server, face, namespace):
    async with SyncKit(server.url.replace("/0", "/99"), namespace=namespace) as kit:
        with pytest.raises(SyncKitError, match="DB index|Invalid Database"):
            await face(Caller(kit)).say("hello?")
        with pytest.raises(SyncKitError, match="DB index|Invalid Database"):
            await face(Caller(kit)).pop("{t}", 0.01)


async def test_a_host_that_does_not_exist(face, namespace):
    async with SyncKit("redis://no-such-host.invalid:6379/0", namespace=namespace) as kit:
        with pytest.raises(Unavailable, match=r"no-such-host\.invalid"):
            await face(Caller(kit)).say("hello?")


@pytest.mark.parametrize("login", ["someone:hunter2", ":hunter2"])
async def test_a_wrong_password_is_told_without_any_secret(own_server, face, namespace, login):
    server = own_server(password="the-right-one")
    async with SyncKit(f"redis://{login}@127.0.0.1:{server.port}/0", namespace=namespace) as kit:
        for effect in ("say", "pop"):
            with within(1), pytest.raises(SyncKitError) as caught:
                await (face(Caller(kit)).say("x") if effect == "say" else face(Caller(kit)).pop("{t}", 0.01))
            story = whole_story(caught.value)
            assert "password" in str(caught.value)
            assert f"127.0.0.1:{server.port}" in str(caught.value)
            assert "hunter2" not in story
            assert "the-right-one" not in story


async def test_a_missing_password(own_server, face, namespace):
    server = own_server(password="the-right-one")
    async with SyncKit(f"redis://127.0.0.1:{server.port}/0", namespace=namespace) as kit:
        for _ in range(2):
            with within(1), pytest.raises(SyncKitError, match="Authentication required"):
                await face(Caller(kit)).say("x")


# -- error replies ---------------------------------------------------------------------------------------------------


async def test_an_error_reply_names_script_key_and_remedy(kit, face, server, namespace):
    server.client().set(namespace, "a string", ex=60)
    with pytest.raises(ServerError) as caught:
        await face(Caller(kit)).call(PUSH, "x", key=namespace)
    said = str(caught.value)
    assert said.startswith(f"Redis refused push on {namespace!r}: WRONGTYPE")
    assert said.endswith("another program writes to this key, or it is left from another version: delete it")
    assert "WRONGTYPE" in str(caught.value.__cause__)


async def test_a_mistake_in_a_script_is_told_in_the_servers_words(kit, face):
    with pytest.raises(ServerError, match="broken on '{t}'.*global variable 'nonsense'; ") as caught:
        await face(Caller(kit)).call(BROKEN, "x")
    assert BROKEN.sha not in str(caught.value)


async def test_a_full_server_refuses_and_reading_goes_on(own_server, face, namespace):
    server = own_server("--maxmemory", "1")
    async with SyncKit(server.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        with pytest.raises(Unavailable, match=f"cannot serve put on {namespace!r} now: OOM .*not carried out"):
            await caller.call(PUT, "x", key=namespace)
        assert await caller.say("reading") == "reading"


async def test_a_forbidden_key_is_named(own_server, face, namespace):
    server = own_server("--user", "reader", "on", "nopass", "~allowed:*", "+@all")
    async with SyncKit(f"redis://reader:x@127.0.0.1:{server.port}/0", namespace=namespace) as kit:
        caller = face(Caller(kit))
        assert await caller.call(PUT, "x", key="allowed:1") == [b"ok"]
        with pytest.raises(ServerError, match="put on 'forbidden'"):
            await caller.call(PUT, "x", key="forbidden")
        assert await caller.call(PUT, "y", key="allowed:1") == [b"ok"]


def test_the_time_limits_of_the_url_are_kept():
    address = from_url("redis://h/0?socket_timeout=0.3&socket_connect_timeout=0.7", "ns")
    assert isinstance(address, Address)
    assert (address.timeout, address.connect_timeout) == (0.3, 0.7)
