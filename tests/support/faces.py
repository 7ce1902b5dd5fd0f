"""One test body for the async and the blocking side of an object."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Face:
    """`face(limiter)` has the verbs of `limiter`, and all of them are awaited.

    In the async modes it is `limiter` itself. In blocking mode each verb is the one of
    `limiter.blocking`, run on a thread; what has verbs of its own (a lease) is given to `face` again.
    """

    def __init__(self, blocking: bool) -> None:
        self.blocking = blocking

    def __call__(self, thing: Any) -> Any:
        return InThread(getattr(thing, "blocking", thing)) if self.blocking else thing


class InThread:
    """Runs the verbs of a blocking object on worker threads."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        return functools.partial(Call, value) if callable(value) else value


class Call:
    """A call that has not happened yet: awaited, or entered as an async context manager."""

    def __init__(self, verb: Callable[..., Any], *args: Any, **options: Any) -> None:
        self._verb = functools.partial(verb, *args, **options)
        self._entered: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return to_thread.run_sync(self._verb).__await__()

    async def __aenter__(self) -> Any:
        def enter() -> Any:
            self._entered = self._verb()
            return self._entered.__enter__()

        return await to_thread.run_sync(enter)

    async def __aexit__(self, *error: Any) -> Any:
        return await to_thread.run_sync(functools.partial(self._entered.__exit__, *error))
