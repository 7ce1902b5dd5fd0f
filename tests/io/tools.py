"""Small scripts, and the smallest object that runs effects on a kit: async and, as `blocking`, on threads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from sync_kit._io.flow import Eval, Pop
from sync_kit._io.scripts import Script
from tests.support.ticks import elapsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from sync_kit import SyncKit
    from sync_kit._io.flow import Effect, Flow

ROOT = Path(__file__).resolve().parents[2]


def script(name: str, args: str, body: str) -> Script:
    """A script with one key and a proper header."""
    return Script(name, f"-- {name}: of the tests\n-- KEYS: key\n-- ARGV: {args}\n-- returns: ok, value\n\n{body}\n")


ECHO = script("echo", "text", "return {'ok', ARGV[1]}")
PUT = script("put", "value", "redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)\nreturn {'ok'}")
PUSH = script(
    "push", "value", "redis.call('RPUSH', KEYS[1], ARGV[1])\nredis.call('PEXPIRE', KEYS[1], 60000)\nreturn {'ok'}"
)
COUNT = script(
    "count", "by", "redis.call('INCRBY', KEYS[1], ARGV[1])\nredis.call('PEXPIRE', KEYS[1], 60000)\nreturn {'ok'}"
)
FAIL = script("fail", "text", "return redis.error_reply('ERR ' .. ARGV[1])")


def one(effect: Effect) -> Flow[Any]:
    """The flow of a single effect."""
    reply = yield effect
    return reply


class Caller:
    """Runs single effects on a kit; `options` are those of `Eval`."""

    def __init__(self, kit: SyncKit, **options: Any) -> None:
        self.kit = kit
        self.options = options

    @property
    def blocking(self) -> BlockingCaller:
        return BlockingCaller(self)

    def eval(self, script: Script, *args: str | bytes | int, key: str = "{t}") -> Eval:
        return Eval(script, (key,), args, **self.options)

    async def run(self, flow: Flow[Any]) -> Any:
        return await self.kit.driver.run(flow)

    async def call(self, script: Script, *args: str | bytes | int, key: str = "{t}") -> Any:
        return await self.run(one(self.eval(script, *args, key=key)))

    async def say(self, text: str) -> str:
        reply = await self.call(ECHO, text)
        return str(reply[1].decode())

    async def pop(self, key: str, seconds: float) -> Any:
        return await self.run(one(Pop((key,), seconds)))


class BlockingCaller:
    """The blocking twin of a `Caller`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def run(self, flow: Flow[Any]) -> Any:
        return self._caller.kit.run_blocking(flow, "caller.run(...)")

    def call(self, script: Script, *args: str | bytes | int, key: str = "{t}") -> Any:
        return self.run(one(self._caller.eval(script, *args, key=key)))

    def say(self, text: str) -> str:
        return str(self.call(ECHO, text)[1].decode())

    def pop(self, key: str, seconds: float) -> Any:
        return self.run(one(Pop((key,), seconds)))


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition, with a deadline."""
    deadline = elapsed() + seconds
    while not condition():
        assert elapsed() < deadline, "the condition did not come true"
        await anyio.sleep(0.005)


def soon(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition in a plain test, with a deadline."""
    deadline = elapsed() + seconds
    while not condition():
        assert elapsed() < deadline, "the condition did not come true"
        time.sleep(0.005)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails when the block takes longer, by the time that this process had."""
    start = elapsed()
    yield
    took = elapsed() - start
    assert took < seconds, f"took {took:.3f} s, not {seconds} s at most"


def named(url: str, name: str) -> str:
    """The url with a client name, so that `connections` finds who belongs to it."""
    return f"{url}?client_name={name}"


def connections(client: redis.Redis, name: str) -> list[str]:
    """Ids of the connections that carry the name."""
    found: Any = client.client_list()
    return [one["id"] for one in found if one["name"] == name]


def kill(client: redis.Redis, name: str) -> int:
    """CLIENT KILL for every connection that carries the name; returns how many there were."""
    ids = connections(client, name)
    for each in ids:
        client.client_kill_filter(_id=each)
    return len(ids)


def whole_story(error: BaseException) -> str:
    """All that a chain of errors says: tracebacks, texts, reprs, also of the links that tracebacks hide."""
    told, seen, open_ends = ["".join(traceback.format_exception(error))], set(), [error]
    while open_ends:
        each = open_ends.pop()
        if id(each) not in seen:
            seen.add(id(each))
            told += [str(each), repr(each), repr(each.args)]
            open_ends += [link for link in (each.__cause__, each.__context__) if link is not None]
    return "\n".join(told)


PREAMBLE = """
import asyncio, logging, os, sys, threading
logging.getLogger("asyncio").setLevel(logging.ERROR)  # the debug mode of -X dev reports slow callbacks
from sync_kit import SyncKit
from tests.io.tools import Caller
"""


def run_program(text: str, *args: str) -> str:
    """Run a program in a fresh interpreter with every warning an error; returns what it printed."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", PREAMBLE + text, *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, env={**os.environ})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()
