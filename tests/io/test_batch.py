"""Several scripts in one round trip: each has its own outcome, and nothing is mixed up."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from sync_kit import ServerError, SyncKit, Unavailable
from sync_kit._io.flow import Batch, Eval
from tests.io.tools import COUNT, ECHO, FAIL, PUT, Caller, named, one, until, within

pytestmark = pytest.mark.anyio


def echo(text: object, **options: Any) -> Eval:
    return Eval(ECHO, ("{t}",), (str(text),), **options)


def echoes(count: int) -> list[Any]:
    return [[b"ok", str(number).encode()] for number in range(count)]


@pytest.fixture
def batch(kit, face):
    """`await batch(calls)` in all four modes."""

    async def run(calls: list[Eval]) -> Any:
        return await face(Caller(kit)).run(one(Batch(calls)))

    return run


async def test_answers_come_in_order(batch):
    assert await batch([echo(number) for number in range(200)]) == echoes(200)


async def test_an_empty_batch_answers_with_nothing(batch):
    assert await batch([]) == []


async def test_it_is_one_write_and_one_read(proxy, face, namespace):
    """With 50 ms each way, one round trip takes a tenth of a second and ten take a whole one."""
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        await caller.say("connected")
        proxy.delay = 0.05
        with within(0.5):
            assert await caller.run(one(Batch([echo(number, deadline=None) for number in range(10)]))) == echoes(10)
        proxy.delay = 0
    await anyio.to_thread.run_sync(kit.close)


async def test_scripts_that_the_server_does_not_know_are_sent_whole_in_a_second_round(batch, server, namespace):
    await batch([echo("known")])
    calls = [echo(0), Eval(COUNT, (namespace,), (1,)), echo(2), Eval(COUNT, (namespace,), (1,)), echo(4)]
    server.client().script_flush()
    server.client().script_load(ECHO.source)
    answers = await batch(calls)
    assert answers == [[b"ok", b"0"], [b"ok"], [b"ok", b"2"], [b"ok"], [b"ok", b"4"]]
    assert server.client().get(namespace) == b"2", "each was carried out once"


async def test_an_error_is_the_answer_of_its_own_call_only(batch):
    first, wrong, last = await batch([echo("a"), Eval(FAIL, ("{k}",), ("no",)), echo("b")])
    assert (first, last) == ([b"ok", b"a"], [b"ok", b"b"])
    assert isinstance(wrong, ServerError)
    assert "fail on '{k}'" in str(wrong)
    assert "no" in str(wrong.__cause__)


async def test_wrong_counts_send_nothing(batch, server, namespace):
    with pytest.raises(ValueError, match="echo.lua was called with"):
        await batch([Eval(COUNT, (namespace,), (1,)), Eval(ECHO, (), ())])
    assert server.client().get(namespace) is None


async def test_without_a_server_every_answer_is_unavailable(own_server, face, namespace):
    server = own_server()
    async with SyncKit(server.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        await caller.say("connected")
        server.kill()
        answers = await caller.run(one(Batch([echo("a"), echo("b", repeat=True), Eval(PUT, ("{p}",), ("x",))])))
        assert [type(answer) for answer in answers] == [Unavailable] * 3
        assert "put on '{p}'" in str(answers[2])
        server.start()
        assert await caller.run(one(Batch([echo(0), echo(1)]))) == echoes(2)
    await anyio.to_thread.run_sync(kit.close)


async def test_after_a_lost_connection_only_calls_with_an_id_are_sent_again(proxy, face, namespace, server):
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        await caller.say("connected")
        proxy.drop_replies = True
        answers: list[Any] = []
        calls = [Eval(COUNT, (f"{namespace}:{repeat}",), (1,), repeat=repeat) for repeat in (False, True)]

        async def ask() -> None:
            answers.extend(await caller.run(one(Batch(calls))))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await until(lambda: server.client().exists(f"{namespace}:True"))
            proxy.drop_replies = False
            proxy.cut()
        assert isinstance(answers[0], Unavailable)
        assert answers[1] == [b"ok"]
        assert server.client().mget(f"{namespace}:False", f"{namespace}:True") == [b"1", b"2"]
    await anyio.to_thread.run_sync(kit.close)


async def test_a_deaf_server_ends_each_call_by_its_deadline(proxy, face, namespace):
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        caller = face(Caller(kit))
        await caller.say("connected")
        proxy.black_hole()
        with within(1):
            answers = await caller.run(one(Batch([echo("a", deadline=0.1), echo("b", deadline=0.3)])))
        assert [type(answer) for answer in answers] == [Unavailable] * 2
        assert "did not answer in time" in str(answers[0])
        proxy.heal()
    await anyio.to_thread.run_sync(kit.close)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_a_cancelled_batch_leaves_the_connection_in_order(server, namespace):
    async with SyncKit(named(server.url, namespace), namespace=namespace) as kit:
        caller = Caller(kit)
        for cut in (0.0, 0.0005, 0.001):
            with anyio.move_on_after(cut):
                await caller.run(one(Batch([echo(f"lost {number}") for number in range(50)])))
            assert await caller.run(one(Batch([echo(number) for number in range(50)]))) == echoes(50)
