"""`@mutex.exclusive("report:<number>")` on functions, async and not."""

from __future__ import annotations

import enum
import inspect
import threading
import uuid

import anyio
import anyio.lowlevel
import pytest

from sync_kit import ConfigurationError, LockError, Mutex
from tests.mutex.tools import eventually, locks


@pytest.fixture
def mutex(kit):
    return Mutex("reports", wait=5, kit=kit)


@pytest.mark.anyio
async def test_only_one_call_for_each_value_runs_at_a_time(mutex, client):
    running: list[int] = []

    @mutex.exclusive("report:<number>", on_conflict="wait")
    async def build(number: int, text: str = "x") -> str:
        assert number not in running
        running.append(number)
        await anyio.sleep(0.005)
        running.remove(number)
        return f"{text}{number}"

    results = []

    async def call(number):
        results.append(await build(number, text="r"))

    async with anyio.create_task_group() as group:
        for each in range(9):
            group.start_soon(call, each % 3)
    assert sorted(results) == sorted(["r0", "r1", "r2"] * 3)
    assert locks(client) == []


@pytest.mark.anyio
async def test_busy_is_raised_skipped_or_waited_for(mutex, client):
    ran = []

    def made(**options):
        @mutex.exclusive("report:<number>", **options)
        async def build(number: int) -> str:
            ran.append(number)
            return "done"

        return build

    held = await mutex.acquire("report:7", ttl=30)
    with pytest.raises(LockError, match="report:7"):
        await made()(7)
    with pytest.raises(LockError):
        await made(on_conflict="raise")(7)
    assert await made(on_conflict="skip")(7) is None
    assert ran == []
    assert await made(on_conflict="skip")(8) == "done"
    with pytest.raises(LockError):
        await made(on_conflict="wait", wait=0.05)(7)
    async with anyio.create_task_group() as group:
        group.start_soon(made(on_conflict="wait"), 7)
        await eventually(lambda: client.keys("*:line:*"), 2)
        await held.release()
    assert ran == [8, 7]


def test_plain_functions_are_exclusive_too(mutex, client):
    inside, most = [0], [0]

    @mutex.exclusive("report:<number>", on_conflict="wait")
    def build(number: int) -> int:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        inside[0] -= 1
        return number

    threads = [threading.Thread(target=build, args=(7,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1]
    held = mutex.blocking.acquire("report:7")
    assert held is not None

    @mutex.exclusive("report:<number>", on_conflict="skip")
    def skipped(number: int) -> int:
        return number

    assert skipped(7) is None
    assert skipped(8) == 8
    held.release()
    assert locks(client) == []


@pytest.mark.anyio
async def test_a_lock_error_of_the_function_itself_is_not_skipped(mutex):
    @mutex.exclusive("a", on_conflict="skip")
    async def build() -> None:
        raise LockError("mutex 'other'", "b", "host:1", 1.0)

    with pytest.raises(LockError, match="other"):
        await build()


@pytest.mark.anyio
async def test_a_recursive_call_is_told_so(mutex):
    @mutex.exclusive("a", on_conflict="skip")
    async def build(depth: int) -> None:
        if depth:
            await build(depth - 1)

    with pytest.raises(LockError, match="this very task"):
        await build(1)


def test_name_signature_and_text_stay(mutex):
    def build(number: int, *, text: str = "x") -> str:
        """Builds."""
        return text

    wrapped = mutex.exclusive("report:<number>")(build)
    assert (wrapped.__name__, wrapped.__doc__) == ("build", "Builds.")
    assert inspect.signature(wrapped) == inspect.signature(build)

    async def build_async(number: int) -> None: ...

    assert inspect.iscoroutinefunction(mutex.exclusive("report:<number>")(build_async))


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("args", "kwargs", "resource"),
    [
        ((7,), {}, "t:7:default"),
        ((), {"number": 7}, "t:7:default"),
        ((7, "b"), {}, "t:7:b"),
        (("a:b", "c"), {}, "t:a%3Ab:c"),
        (("a", "b:c"), {}, "t:a:b%3Ac"),
        ((uuid.UUID(int=1), Color.RED), {}, "t:00000000-0000-0000-0000-000000000001:Color.RED"),
    ],
    ids=["positional", "keyword", "both", "colon in the first", "colon in the second", "objects"],
)
def test_values_come_from_the_call_and_cannot_pose_as_two_parts(mutex, args, kwargs, resource):
    @mutex.exclusive("t:<number>:<part>")
    def held(number: object, part: object = "default") -> bool:
        return mutex.blocking.holder(resource) is not None

    assert held(*args, **kwargs)


def test_more_keywords_are_known_at_the_call(mutex):
    @mutex.exclusive("report:<number>")
    def build(**options: int) -> bool:
        return mutex.blocking.holder(f"report:{options['number']}") is not None

    assert build(number=7)
    with pytest.raises(ConfigurationError, match="<number>"):
        build(other=7)


def test_methods_are_functions(mutex):
    class Reports:
        @mutex.exclusive("report:<number>")
        def build(self, number: int) -> bool:
            return mutex.blocking.holder(f"report:{number}") is not None

    assert Reports().build(7)


def test_an_unknown_name_is_refused_when_it_is_applied(mutex):
    with pytest.raises(ConfigurationError, match="<size>.*use one of number, text"):

        @mutex.exclusive("report:<size>")
        def build(number: int, text: str) -> None: ...


def test_converters_are_refused_with_the_reason(mutex):
    with pytest.raises(ConfigurationError, match=r"<id:int>.*write a plain name, as in <id>.*no converters"):
        mutex.exclusive("report:<id:int>")


@pytest.mark.parametrize("value", [None, object()], ids=["none", "object"])
def test_a_value_without_a_text_of_its_own_is_refused(mutex, value):
    @mutex.exclusive("report:<number>")
    def build(number: object) -> None:
        raise AssertionError("must not run")

    with pytest.raises(ConfigurationError, match="<number>"):
        build(value)


@pytest.mark.anyio
async def test_an_object_whose_calls_are_async_is_async(mutex):
    class Build:
        async def __call__(self, number: int) -> bool:
            await anyio.lowlevel.checkpoint()
            return await mutex.holder(f"report:{number}") is not None

    assert await mutex.exclusive("report:<number>")(Build())(7)


def test_a_plain_function_that_returns_something_to_await_is_refused(mutex, client):
    async def build(number: int) -> None:
        raise AssertionError("must not run without the lock")

    @mutex.exclusive("report:<number>")
    def wrapper(number: int):
        return build(number)

    with pytest.raises(ConfigurationError, match="decorate the async function itself"):
        wrapper(7)
    assert locks(client) == []


def test_it_stands_below_classmethod(mutex):
    class Reports:
        @classmethod
        @mutex.exclusive("report:<number>")
        def build(cls, number: int) -> bool:
            return mutex.blocking.holder(f"report:{number}") is not None

    assert Reports.build(7)
    with pytest.raises(ConfigurationError, match="below @classmethod"):
        mutex.exclusive("a")(classmethod(print))


def test_a_named_parameter_goes_before_a_keyword_of_the_same_name(mutex):
    @mutex.exclusive("report:<number>")
    def build(number: int, /, **options: int) -> bool:
        return mutex.blocking.holder("report:1") is not None

    assert build(1, number=2)


def test_an_empty_value_is_refused_by_name(mutex):
    @mutex.exclusive("<number>")
    def build(number: str) -> None:
        raise AssertionError("must not run")

    with pytest.raises(ConfigurationError, match="<number> in '<number>' is empty"):
        build("")


def test_generators_are_refused(mutex):
    def some():
        yield 1

    async def more():
        yield 1

    for generator in (some, more):
        with pytest.raises(ConfigurationError, match="generator"):
            mutex.exclusive("a")(generator)


@pytest.mark.parametrize(
    "options",
    [{"on_conflict": "queue"}, {"wait": -1}, {"wait": "1"}, {"ttl": 0.05}, {"ttl": float("nan")}],
    ids=["on_conflict", "negative wait", "text", "short ttl", "nan"],
)
def test_wrong_options_are_refused_at_once(options):
    """Without a kit: nothing is connected, and the default kit is not made."""
    with pytest.raises(ConfigurationError):
        Mutex("reports").exclusive("a", **options)


def test_a_call_that_does_not_fit_is_the_functions_own_error(mutex):
    @mutex.exclusive("report:<number>")
    def build(number: int) -> None: ...

    with pytest.raises(TypeError):
        build()
