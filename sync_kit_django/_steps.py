"""Steps that are written once: a generator says what to do, and code of either kind does it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

from asgiref.sync import async_to_sync

T = TypeVar("T")


class Do(NamedTuple):
    """Something to do: `plain()` in sync code, `later()`, awaited if it can be, in async code."""

    plain: Callable[[], Any]
    later: Callable[[], Any]


Steps = Generator[Do, Any, T]


def run(steps: Steps[T]) -> T:
    """Do what `steps` say, in sync code."""
    try:
        do = next(steps)
        while True:
            try:
                answer = do.plain()
            except Exception as error:
                do = steps.throw(error)
            else:
                do = steps.send(answer)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def run_async(steps: Steps[T]) -> T:
    """Do what `steps` say, in async code."""
    try:
        do = next(steps)
        while True:
            try:
                answer = do.later()
                if inspect.isawaitable(answer):
                    answer = await answer
            except Exception as error:
                do = steps.throw(error)
            else:
                do = steps.send(answer)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def ask(function: Callable[..., Any], *args: Any) -> Do:
    """Call a function of the project's own, which may be async, in code of either kind."""
    return Do(lambda: to_the_end(function(*args)), lambda: function(*args))


def in_loop() -> bool:
    """Whether an event loop runs in this thread."""
    return asyncio._get_running_loop() is not None


def to_the_end(answer: Any) -> Any:
    """What `answer` is, or what it ends with if it is to be awaited; in sync code."""
    if not inspect.isawaitable(answer):
        return answer

    async def await_it() -> Any:
        return await answer

    return async_to_sync(await_it)()
