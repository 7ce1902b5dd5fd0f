"""Flows: operations written once for async and blocking code.

A flow is a generator that yields *effects* and returns a result. It decides; a driver performs
the effects. A flow never yields inside `finally`: it could not be finished after a cancellation,
so clean-up that needs Redis belongs to the facade. (psycopg 3 is built like this.)
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    import anyio

    from sync_kit._io.scripts import Arg, Packed, Script

T = TypeVar("T")


class Eval:
    """Run a script; answers with its reply.

    Args:
        script: what to run.
        keys: its keys, all with one hash tag.
        args: its arguments, perhaps encoded before.
        deadline: seconds to wait for the reply once connected; None for the connection's own.
        repeat: the call carries an id, so it may be sent again after a lost connection.
    """

    __slots__ = ("args", "deadline", "keys", "repeat", "script")

    def __init__(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Arg] | Packed,
        *,
        deadline: float | None = None,
        repeat: bool = False,
    ) -> None:
        self.script = script
        self.keys = keys
        self.args = args
        self.deadline = deadline
        self.repeat = repeat


class Sleep:
    """Wait for `seconds`."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Pop:
    """Wait at most `seconds` for an element of one of some lists and take it; answers with it, or None if none came.

    The lists, all with one hash tag, are looked at in their order. Only ever a wake-up hint: a cancelled
    pop may lose its element. It waits for a millisecond at least, because to Redis 0 means for ever.
    """

    __slots__ = ("keys", "seconds")

    def __init__(self, keys: Sequence[str], seconds: float) -> None:
        self.keys = keys
        self.seconds = max(seconds, 0.001)


class Batch:
    """Run several scripts in one round trip, in order (in a cluster: one for each node, in order there).

    Answers with a list: for each call its reply, or the `SyncKitError` that it ended with. Each call has
    its own deadline; blocking code waits for every single reply as long as the most patient call does.
    """

    __slots__ = ("calls",)

    def __init__(self, calls: Sequence[Eval]) -> None:
        self.calls = calls


class Wait:
    """Wait at most `seconds` until `event` is set: of anyio in async code, of threading in threads."""

    __slots__ = ("event", "seconds")

    def __init__(self, event: anyio.Event | threading.Event, seconds: float) -> None:
        self.event = event
        self.seconds = seconds


Effect = Eval | Sleep | Pop | Batch | Wait
Flow = Generator[Effect, Any, T]
