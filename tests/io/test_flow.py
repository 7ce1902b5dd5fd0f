"""Flows by hand, and what drivers owe to a flow."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from sync_kit import ServerError, Unavailable
from sync_kit._io.flow import Eval, Pop, Sleep, Wait
from tests.io.tools import COUNT, ECHO, FAIL, PUSH, PUT, Caller, one, until, within

if TYPE_CHECKING:
    from sync_kit._io.flow import Flow

pytestmark = pytest.mark.anyio


def patient(key: str) -> Flow[str]:
    """Ask; when refused or unreachable, wait and ask once more."""
    try:
        reply = yield Eval(ECHO, (key,), ("first",))
    except (ServerError, Unavailable) as error:
        yield Sleep(0.01)
        reply = yield Eval(ECHO, (key,), (type(error).__name__,))
    return str(reply[1].decode())


class Recorder:
    """A flow that notes how it ends."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def flow(self, *effects: Any) -> Flow[str]:
        try:
            for effect in effects:
                yield effect
                self.seen.append("answered")
        except GeneratorExit:
            self.seen.append("closed")
            raise
        return "done"


def test_a_flow_is_tested_without_redis():
    flow = patient("{k}")
    asked = next(flow)
    assert isinstance(asked, Eval)
    assert (asked.script, asked.keys, asked.args, asked.deadline, asked.repeat) == (
        ECHO,
        ("{k}",),
        ("first",),
        None,
        False,
    )
    with pytest.raises(StopIteration) as stop:
        flow.send([b"ok", b"first"])
    assert stop.value.value == "first"


def test_an_error_is_an_answer_too():
    flow = patient("{k}")
    next(flow)
    nap = flow.throw(Unavailable("gone"))
    assert isinstance(nap, Sleep)
    assert nap.seconds == 0.01
    again = flow.send(None)
    assert isinstance(again, Eval)
    assert again.args == ("Unavailable",)


async def test_drivers_perform_every_effect(kit, face, namespace):
    caller = face(Caller(kit))

    def all_three() -> Flow[Any]:
        pushed = yield Eval(PUSH, (f"{namespace}{{t}}",), ("x",))
        slept = yield Sleep(0.02)
        came = yield Pop((f"{namespace}{{t}}",), 0.5)
        return pushed, slept, came

    start = anyio.current_time()
    assert await caller.run(all_three()) == ([b"ok"], None, b"x")
    assert anyio.current_time() - start >= 0.02


async def test_an_error_reply_is_thrown_into_the_flow(kit, face):
    def flow() -> Flow[str]:
        try:
            yield Eval(FAIL, ("{k}",), ("no",))
        except ServerError as error:
            reply = yield Eval(ECHO, ("{k}",), (type(error).__name__,))
        return str(reply[1].decode())

    assert await face(Caller(kit)).run(flow()) == "ServerError"


async def test_what_a_flow_raises_reaches_the_caller(kit, face):
    def flow() -> Flow[None]:
        yield Eval(ECHO, ("{k}",), ("x",))
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await face(Caller(kit)).run(flow())


async def test_wrong_counts_are_thrown_into_the_flow_and_nothing_is_sent(kit, face, server, namespace):
    def flow() -> Flow[str]:
        try:
            yield Eval(PUT, (namespace,), ("a", "b"))
        except ValueError as error:
            return str(error)
        return "sent"

    assert "put.lua was called with 1 keys and 2 arguments" in await face(Caller(kit)).run(flow())
    assert not server.client().exists(namespace)


async def test_a_wait_ends_when_its_event_is_set_or_its_time_is_over(kit, face):
    caller, event = face(Caller(kit)), threading.Event() if face.blocking else anyio.Event()
    with within(0.5):
        await caller.run(one(Wait(event, 0.02)))
        await caller.run(one(Wait(event, -1)))

    async def wait() -> None:
        await caller.run(one(Wait(event, 30)))

    with within(2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(0.02)
            event.set()
    with within(0.5):
        await caller.run(one(Wait(event, 30)))


@pytest.mark.parametrize("effect", [Sleep(60), Pop(("{nothing}",), 0.6)], ids=["sleep", "pop"])
async def test_a_cancelled_flow_is_closed(kit, effect):
    recorder = Recorder()
    with anyio.move_on_after(0.02) as scope:
        await kit.driver.run(recorder.flow(effect, Sleep(60)))
    assert scope.cancelled_caught
    assert recorder.seen[-1] == "closed"


async def test_a_finished_flow_is_not_closed_early(kit, face):
    recorder = Recorder()
    assert await face(Caller(kit)).run(recorder.flow(Sleep(0), Sleep(0))) == "done"
    assert recorder.seen == ["answered", "answered"]


async def test_a_flow_without_effects_is_a_checkpoint(kit):
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        for _ in range(2):  # trio may run this task once more before the other
            assert await kit.driver.run(Recorder().flow()) == "done"
        turns.append("flow")
    assert turns == ["other", "flow"]


async def test_a_pop_takes_one_element(kit, face, server, namespace):
    client, caller = server.client(), face(Caller(kit))
    client.rpush(namespace, "a", "b")
    client.expire(namespace, 60)
    assert await caller.pop(namespace, 0.5) == b"a"
    assert client.lrange(namespace, 0, -1) == [b"b"]
    assert await caller.pop(namespace, 0.5) == b"b"
    assert await caller.pop(namespace, 0.02) is None


async def test_a_pop_without_time_left_ends_at_once(kit, face):
    """BLPOP takes 0 for ever."""
    with within(0.5):
        assert await face(Caller(kit)).pop("{nothing}", 0.0001) is None
        assert await face(Caller(kit)).pop("{nothing}", 0) is None


async def test_a_pop_wakes_up_when_an_element_comes(kit, face, server, namespace):
    client, came = server.client(), []

    async def wait() -> None:
        came.append(await face(Caller(kit)).pop(namespace, 0.9))

    with within(0.8):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await until(lambda: client.info("clients")["blocked_clients"])
            client.rpush(namespace, "x")
    assert came == [b"x"]


async def test_a_refused_pop_names_its_key_and_the_next_one_works(kit, face, server, namespace):
    server.client().set(namespace, "a string", ex=60)
    caller = face(Caller(kit))
    with pytest.raises(ServerError, match=f"waiting on '{namespace}'"):
        await caller.pop(namespace, 0.1)
    assert await caller.pop("{nothing}", 0.01) is None


async def test_calls_do_not_wait_behind_a_pop(kit):
    caller = Caller(kit)
    await caller.say("connected")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.pop, "{nothing}", 0.4)
        await anyio.sleep(0.01)
        with within(0.3):
            assert [await caller.say(str(n)) for n in range(10)] == [str(n) for n in range(10)]
        tasks.cancel_scope.cancel()


async def test_every_waiting_pop_has_its_own_element(kit, server, namespace):
    came: list[bytes | None] = []

    async def wait() -> None:
        came.append(await Caller(kit).pop(namespace, 0.5))

    client = server.client()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(wait)
        await until(lambda: client.info("clients")["blocked_clients"] == 5)
        client.rpush(namespace, *"abc")
    assert sorted(each or b"" for each in came) == [b"", b"", b"a", b"b", b"c"]


def test_a_blocking_pop_returns_within_a_second_so_that_a_thread_can_end(kit):
    with within(1.5):
        assert kit.thread_driver.run(one(Pop(("{nothing}",), 30))) is None


async def test_an_eval_is_carried_out_once(kit, face, server, namespace):
    for _ in range(5):
        await face(Caller(kit, repeat=True)).call(COUNT, 1, key=namespace)
    assert server.client().get(namespace) == b"5"
