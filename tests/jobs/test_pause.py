"""A paused queue: everything is accepted, and nothing is begun."""

from __future__ import annotations

import anyio
import pytest

from sync_kit import Jobs
from tests.jobs.conftest import Note, status

pytestmark = pytest.mark.anyio


async def test_a_paused_queue_accepts_and_does_not_begin(jobs, face):
    begun: list[str] = []

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        begun.append(note.text)
        if note.text == "long":
            await go_on.wait()

    go_on = anyio.Event()
    long = await write.send(text="long")
    async with jobs.worker(concurrency=3, poll_interval=0.05):
        await status(jobs, long.id, "active")
        assert await face(jobs).pause()
        assert not await face(jobs).pause()
        waiting = await write.send(text="short")
        await anyio.sleep(0.3)  # some poll intervals
        assert begun == ["long"]
        go_on.set()
        await status(jobs, long.id, "completed")
        assert (await jobs.get(waiting.id)).status == "waiting"
        assert await face(jobs).resume()
        assert not await face(jobs).resume()
        await status(jobs, waiting.id, "completed")


async def test_it_holds_for_workers_that_start_later_and_for_this_queue_only(jobs, kit):
    other = Jobs("letters", kit=kit)

    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    @other.task(schema=Note, name="write")
    async def post(note: Note) -> None: ...

    await jobs.pause()
    paused, posted = await write.send(text="a"), await post.send(text="a")
    async with jobs.worker(poll_interval=0.05), other.worker(poll_interval=0.05):
        await status(other, posted.id, "completed")
        await anyio.sleep(0.2)
        assert (await jobs.get(paused.id)).status == "waiting"
    await jobs.resume()
