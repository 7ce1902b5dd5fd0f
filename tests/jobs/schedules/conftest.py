"""What the tests of schedules share."""

from __future__ import annotations

from typing import Any

import pytest

from sync_kit import Jobs
from sync_kit.jobs.schedules.keeper import Keeper
from tests.jobs.conftest import until


class Shelf:
    """The keys of the schedules of a queue, to look at and to move its time."""

    def __init__(self, client: Any, namespace: str, name: str = "notes") -> None:
        self._client = client
        self._head = f"{namespace}:q:{{{name}}}:"

    def key(self, name: str) -> str:
        return self._head + name

    def now(self) -> int:
        """The server's clock in milliseconds."""
        seconds, micros = self._client.time()
        return int(seconds * 1000 + micros // 1000)

    def slot(self, name: str) -> int | None:
        """The next slot of a schedule."""
        found = self._client.zscore(self.key("timetable"), name)
        return None if found is None else int(found)

    def move(self, name: str, ms: int) -> None:
        """Let so much time pass for a schedule: its next slot and its anchor are earlier by that."""
        self._client.zincrby(self.key("timetable"), -ms, name)
        turn = self._client.hget(self.key("turns"), name).decode().split()
        turn[1] = str(int(turn[1]) - ms)
        self._client.hset(self.key("turns"), name, " ".join(turn))


@pytest.fixture
def shelf(client, namespace):
    return Shelf(client, namespace)


class Counted:
    """Waits until a method of the keepers of this process has been carried out some more times."""

    def __init__(self, monkeypatch: Any, name: str) -> None:
        self._count = 0
        method = getattr(Keeper, name)

        async def counted(keeper: Any, *args: Any) -> Any:
            made = await method(keeper, *args)
            self._count += 1
            return made

        monkeypatch.setattr(Keeper, name, counted)

    async def __call__(self, times: int) -> None:
        wanted = self._count + times

        async def reached() -> bool:
            return self._count >= wanted

        await until(reached)


@pytest.fixture
def looked(monkeypatch):
    """`await looked(2)`: keepers have looked twice more."""
    return Counted(monkeypatch, "_look")


@pytest.fixture
def often(monkeypatch):
    """Workers say every 0.1 s that they are there, and keepers settle as often; `await often(4)`: four times more."""
    monkeypatch.setattr("sync_kit.queue.line.ATTEND", 0.1)
    monkeypatch.setattr("sync_kit.jobs.schedules.keeper.SETTLE", 0.1)
    return Counted(monkeypatch, "_settle")


async def schedule(jobs: Jobs, name: str) -> Any:
    """Wait until there is a schedule of this name, and return it."""
    return await until(lambda: jobs.schedules.get(name))


async def fired(jobs: Jobs, name: str, runs: int = 1) -> Any:
    """Wait until a schedule has sent so many jobs, and return it."""

    async def has() -> Any:
        found = await jobs.schedules.get(name)
        return found if found is not None and found.runs >= runs else None

    return await until(has)


async def slots(jobs: Jobs, name: str, status: Any = "completed") -> list[int]:
    """The slots of the jobs that a schedule sent, in milliseconds, the oldest first."""
    found = [job for job in await jobs.list(status=status, limit=1000) if job.schedule == name]
    return sorted(round(job.scheduled_at.timestamp() * 1000) for job in found if job.scheduled_at is not None)
