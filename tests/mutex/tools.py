"""What the tests of the mutex share: conditions with deadlines, the keys on the server, a history of sections."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio

from tests.support.ticks import elapsed

if TYPE_CHECKING:
    from collections.abc import Callable

POLL = 0.01


async def eventually(condition: Callable[[], Any], within: float) -> None:
    """Wait until `condition()` is true; fails after `within` seconds that this process had."""
    until = elapsed() + within
    while not condition():
        assert elapsed() < until, f"not true within {within} s"
        await anyio.sleep(POLL)


def wait_until(condition: Callable[[], Any], within: float) -> None:
    """`eventually`, but no event loop runs meanwhile."""
    until = elapsed() + within
    while not condition():
        assert elapsed() < until, f"not true within {within} s"
        time.sleep(POLL)


async def always(condition: Callable[[], Any], during: float) -> None:
    """`condition()` is true all the time for `during` seconds."""
    until = time.monotonic() + during
    while time.monotonic() < until:
        assert condition()
        await anyio.sleep(POLL)


def hog(during: float, condition: Callable[[], Any]) -> None:
    """Stop the loop for `during` seconds; `condition()` is true all the time."""
    until = time.monotonic() + during
    while time.monotonic() < until:
        assert condition()
        time.sleep(POLL)


def locks(client: Any) -> list[str]:
    """The keys of all leases, and of what belongs to waiting."""
    return sorted(str(key, "ascii") for key in client.keys("*:[ms][xm]:*") if not key.endswith(b":fence"))


def the_lock(client: Any) -> str:
    """The key of the only lease."""
    (key,) = locks(client)
    return key


class History:
    """A list in Redis to which critical sections write when they begin and end."""

    KEY = "history"

    def __init__(self, client: Any) -> None:
        self._client = client

    def note(self, what: str, fence: int) -> None:
        """Write one line."""
        self._client.rpush(self.KEY, f"{what} {fence}")

    def check(self, sections: int) -> None:
        """No two sections overlap, and the fences only grow."""
        lines = [str(line, "ascii").split() for line in self._client.lrange(self.KEY, 0, -1)]
        entered, left = lines[0::2], lines[1::2]
        assert len(lines) == 2 * sections
        assert {what for what, _ in entered} == {"enter"}
        assert entered == [["enter", fence] for _, fence in left], "every section ends before the next one begins"
        fences = [int(fence) for _, fence in entered]
        assert fences == sorted(set(fences))
