"""One scene for many misfortunes: somebody holds a lock, others wait, and something happens to Redis."""

from __future__ import annotations

from typing import Any

import anyio

from sync_kit import LockLostError
from tests.mutex.tools import eventually
from tests.support.ticks import elapsed

WAITERS = 4


class Scene:
    """One holds "a" until it sees a loss or is let go, and some wait behind it; `client` is of the server.

    Attributes:
        lease: of the holder, as soon as it has it.
        lost_at: when it left its block because of the loss (as `elapsed` counts), if it did.
        entered: the waiters who have come in, by number, and their fences.
    """

    def __init__(self, mutex, client) -> None:
        self.mutex = mutex
        self.client = client
        self.let_go = anyio.Event()
        self.lost_at: float | None = None
        self.entered: list[tuple[int, int]] = []
        self.lease: Any = None
        self._inside = 0

    @property
    def waiting(self):
        """How many stand in line."""
        return sum(self.client.llen(key) for key in self.client.keys("*:line:*"))

    async def hold(self):
        try:
            async with self.mutex.lock("a") as lease:
                self.lease = lease
                while not (lease.lost or self.let_go.is_set()):
                    await anyio.sleep(0.01)
        except LockLostError:
            self.lost_at = elapsed()

    async def wait(self, number):
        async with self.mutex.lock("a") as lease:
            self.entered.append((number, lease.fence))
            self._inside += 1
            assert self._inside == 1
            await anyio.sleep(0.01)
            self._inside -= 1

    async def _stand(self, number):
        await eventually(lambda: self.waiting == number, 5)

    async def play(self, act):
        """`act` when everybody is in place. All of it ends: each waiter comes in once, and none beside another."""
        with anyio.fail_after(25):
            async with anyio.create_task_group() as group:
                group.start_soon(self.hold)
                await eventually(lambda: self.lease is not None, 5)
                for number in range(WAITERS):
                    group.start_soon(self.wait, number)
                    await self._stand(number + 1)
                await act()
        numbers, fences = zip(*self.entered, strict=True)
        assert sorted(numbers) == list(range(WAITERS))
        assert list(fences) == sorted(set(fences))
