"""What the server says becomes one of two errors: not now, or never like this."""

from __future__ import annotations

import threading
import time

import anyio
import pytest
import redis
from redis.exceptions import ResponseError

from sync_kit import RateLimiter, ServerError, SyncKit, Unavailable
from sync_kit._io import translate
from sync_kit._io.flow import Eval, Pop
from tests.io.tools import ECHO, PUSH, PUT, Caller, script

pytestmark = pytest.mark.anyio

SPIN = script(
    "spin",
    "ms",
    "local t = redis.call('TIME')\nlocal ends = t[1] * 1000 + t[2] / 1000 + ARGV[1]\nrepeat\n"
    "  t = redis.call('TIME')\nuntil t[1] * 1000 + t[2] / 1000 > ends\nreturn {'ok'}",
)
CALL = Eval(ECHO, ("{t}",), ("x",))


@pytest.mark.parametrize("word", sorted(translate._NOT_NOW))
def test_each_word_for_not_now_is_unavailable_with_its_remedy(word):
    """As the parser of redis-py, of whatever version, hands it over."""
    reply = redis.connection.DefaultParser.parse_error(f"{word} in the server's own words")
    error = translate.outcome("h:1/0", CALL, reply)
    assert isinstance(error, Unavailable)
    assert error.__cause__ is reply
    for part in (word, "in the server's own words", "echo on '{t}'", "h:1/0", translate._NOT_NOW[word]):
        assert part in str(error)
    assert word == "LOADING" or "The call was not carried out" in str(error)


@pytest.mark.parametrize("text", ["ERR no", "WRONGTYPE no", "NOPERM no", "EXECABORT no", "a text of one's own"])
def test_every_other_error_reply_stays_a_server_error(text):
    error = translate.outcome("h:1/0", CALL, redis.connection.DefaultParser.parse_error(text))
    assert isinstance(error, ServerError)


def test_an_answer_without_an_error_stays_what_it_is():
    assert translate.outcome("h:1/0", CALL, [b"ok"]) == [b"ok"]
    assert translate.outcome("h:1/0", Pop(("k",), 1), None) is None


def test_a_redirection_without_a_cluster_url_says_what_to_write():
    error = translate.outcome("h:1/0", CALL, redis.exceptions.MovedError("1 h:2"))
    assert isinstance(error, ServerError)
    assert "redis+cluster://" in str(error)
    assert isinstance(error.__cause__, ResponseError)


async def test_a_replica_is_unavailable_until_it_is_a_primary_again(own_server, face, namespace):
    server = own_server()
    other = own_server()
    async with SyncKit(server.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        assert await caller.call(PUT, "x") == [b"ok"]
        server.client().replicaof("127.0.0.1", other.port)
        with pytest.raises(Unavailable, match="READONLY.*it is a replica.*not carried out"):
            await caller.call(PUT, "y")
        with pytest.raises(Unavailable, match="waiting on '{l}'.*READONLY"):
            await caller.pop("{l}", 0.1)
        server.client().execute_command("REPLICAOF", "NO", "ONE")
        assert await caller.call(PUT, "z") == [b"ok"]
        assert await caller.pop("{l}", 0.01) is None
    await anyio.to_thread.run_sync(kit.close)


async def test_too_few_replicas(own_server, face, namespace):
    server = own_server("--min-replicas-to-write", "1")
    async with SyncKit(server.url, namespace=namespace) as kit:
        with pytest.raises(Unavailable, match="NOREPLICAS.*min-replicas-to-write.*not carried out"):
            await face(Caller(kit)).call(PUSH, "x")
    await anyio.to_thread.run_sync(kit.close)


async def test_a_policy_for_outages_applies_to_a_full_server(own_server, face, namespace):
    server = own_server("--maxmemory", "1")
    async with SyncKit(server.url, namespace=namespace) as kit:
        limiter = RateLimiter("api", limit=5, window=60, on_error="allow", kit=kit)
        assert (await face(limiter).check("user")).allowed
    await anyio.to_thread.run_sync(kit.close)


async def test_a_busy_server_is_unavailable_for_the_moment(own_server, face, namespace):
    server = own_server("--busy-reply-threshold", "10")
    spinning = threading.Thread(target=spin, args=[server.port])
    async with SyncKit(server.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        await caller.say("connected")
        spinning.start()
        said = ""
        until = time.monotonic() + 5
        while "BUSY" not in said and time.monotonic() < until:
            try:
                await caller.say("x")
            except Unavailable as error:
                said = str(error)
        assert "BUSY" in said
        assert "SCRIPT KILL" in said
        await anyio.to_thread.run_sync(spinning.join)
        assert await caller.say("again") == "again"
    await anyio.to_thread.run_sync(kit.close)


def spin(port: int) -> None:
    with redis.Redis(port=port, socket_timeout=10) as client:
        client.eval(SPIN.source, 1, "{t}", 400)


async def test_loading_is_not_now(own_server, face, namespace):
    server = own_server("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    with server.client().pipeline(transaction=False) as filling:
        for number in range(2000):
            filling.set(f"key:{number}", "x" * 50)
        filling.execute()
    server.client().save()
    server.kill()
    server.start()  # it answers INFO meanwhile
    async with SyncKit(server.url, namespace=namespace) as kit:
        with pytest.raises(Unavailable, match="LOADING.*reads its data from disk"):
            await face(Caller(kit)).say("x")
    await anyio.to_thread.run_sync(kit.close)
