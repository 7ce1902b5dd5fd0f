"""Event loops as threads see them: who they are, whether they live, whether they beat."""

from __future__ import annotations

import asyncio
import re
import threading
import time

import anyio
import anyio.lowlevel
import pytest
import trio
import uvloop

from sync_kit._io import loops
from sync_kit._io.loops import Loop, current_token
from tests.io.tools import until

pytestmark = pytest.mark.anyio
RUNNERS = {"asyncio": asyncio.run, "uvloop": uvloop.run, "trio": lambda coroutine: trio.run(lambda: coroutine)}
every_runner = pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "BEAT", 0.01)


async def next_beat(loop: Loop) -> None:
    before = loop.beat
    await until(lambda: loop.beat > before, 1)


def test_outside_of_a_loop_there_is_no_token():
    assert current_token() is None


async def test_the_token_is_the_same_throughout_a_loop(anyio_backend):
    token = current_token()
    await anyio.lowlevel.checkpoint()
    assert current_token() is token
    assert Loop(token).is_asyncio is (anyio_backend[0] == "asyncio")
    assert await anyio.to_thread.run_sync(current_token) is None


@every_runner
def test_a_loop_knows_that_it_has_ended(run):
    async def body() -> Loop:
        loop = Loop(current_token())
        assert not loop.ended
        return loop

    first, second = run(body()), run(body())
    assert first.ended
    assert second.ended
    assert first._token is not second._token
    first.call_soon(pytest.fail)  # ignored: nothing of it lives any more


async def test_a_live_loop_beats_while_it_is_watched(quick):
    loop = Loop(current_token())
    loop.watch("a")
    for _ in range(3):
        await next_beat(loop)
    loop.unwatch("a")
    await until(lambda: not loop._beating, 1)


async def test_a_hogged_loop_stops_to_beat_and_goes_on_later(quick):
    loop = Loop(current_token())
    loop.watch("a")
    await next_beat(loop)
    seen: list[float] = []

    def look() -> None:
        for _ in range(8):
            seen.append(loop.beat)
            time.sleep(0.01)

    watcher = threading.Thread(target=look)
    watcher.start()
    watcher.join()  # the loop stands still meanwhile
    assert len(set(seen)) == 1
    assert time.monotonic() - loop.beat >= 0.07
    await until(lambda: loop.beat > seen[-1], 1)
    loop.unwatch("a")
    await until(lambda: not loop._beating, 1)


async def test_two_watchers_keep_one_beat(quick):
    loop = Loop(current_token())
    loop.watch("a")
    loop.watch("b")
    loop.unwatch("a")
    await next_beat(loop)
    loop.unwatch("b")
    await until(lambda: not loop._beating, 1)
    loop.watch("c")
    await next_beat(loop)
    loop.unwatch("c")
    await until(lambda: not loop._beating, 1)


def stand_still(seconds):
    time.sleep(seconds)


async def test_a_late_beat_is_reported_with_what_was_at_stake(quick, caplog, monkeypatch):
    monkeypatch.setattr("sync_kit._io.loops.LATE", 0.1)
    loop = Loop(current_token())
    for number in range(5):
        loop.watch(f"lease {number}")
    await next_beat(loop)
    assert caplog.records == []
    stand_still(0.2)
    await next_beat(loop)
    (record,) = caplog.records
    assert re.search(r"did not run for 0\.\d s.*: lease 0, lease 1, lease 2, \.\.\.$", record.message)
    for number in range(5):
        loop.unwatch(f"lease {number}")
    await until(lambda: not loop._beating, 1)


async def test_watching_again_before_the_last_beat_is_over(quick):
    loop = Loop(current_token())
    for _ in range(20):
        loop.watch("a")
        loop.unwatch("a")
    loop.watch("a")
    await next_beat(loop)
    loop.unwatch("a")
    await until(lambda: not loop._beating, 1)


async def test_a_thread_can_call_into_the_loop():
    loop, called = Loop(current_token()), []
    await anyio.to_thread.run_sync(loop.call_soon, lambda: called.append(current_token()))
    await until(lambda: called)
    assert called in ([current_token()], [None])  # trio runs it outside of any task
