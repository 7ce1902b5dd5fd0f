"""Finding jobs: by status, task and tag, page by page, while they move."""

from __future__ import annotations

from itertools import chain

import anyio
import anyio.lowlevel
import pytest

from sync_kit import ConfigurationError
from tests.jobs.conftest import Note, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def write(jobs):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        if note.number < 0:
            raise ValueError

    return write


@pytest.fixture
def read(jobs):
    @jobs.task(schema=Note)
    async def read(note: Note) -> None: ...

    return read


async def pages(face, jobs, **wanted):
    """All pages of a list."""
    found, cursor = [], None
    while True:
        page = await face(jobs).list(cursor=cursor, **wanted)
        found.append([job.id for job in page])
        cursor = page.cursor
        if cursor is None:
            return found


async def test_pages_show_every_job_once_and_in_order(face, jobs, write):
    sent = [receipt.id for receipt in await write.send_many([Note(text="a", number=n) for n in range(25)])]
    found = await pages(face, jobs, status="waiting", limit=10)
    assert [len(page) for page in found] in ([10, 10, 5], [10, 10, 5, 0])
    assert [*chain(*found)] == sent


async def test_a_page_stays_right_when_jobs_come_and_go(jobs, write):
    sent = [receipt.id for receipt in await write.send_many([Note(text="a", number=n) for n in range(30)])]
    first = await jobs.list(status="waiting", limit=10)
    for gone in (*sent[:5], sent[9], sent[12]):
        await jobs.cancel(gone)
    await write.using(priority=5).send(text="before all of them")
    last = await write.send(text="behind all of them")
    second = await jobs.list(status="waiting", limit=100, cursor=first.cursor)
    assert [job.id for job in second] == [*sent[10:12], *sent[13:], last.id]


async def test_the_newest_of_those_that_ended_come_first(face, jobs, write):
    sent = []
    for number in range(6):
        sent.append((await write.send(text="a", number=number)).id)
        async with jobs.worker(concurrency=1):
            await until(lambda: _completed(jobs, len(sent)))
    assert [*chain(*await pages(face, jobs, status="completed", limit=2))] == sent[::-1]


async def _completed(jobs, count: int) -> bool:
    return bool((await jobs.counts()).completed == count)


async def test_jobs_are_found_by_task_and_by_tag(face, jobs, write, read):
    await write.send_many([Note(text="a", number=n) for n in range(150)])
    tagged = await write.using(tag="blue").send(text="b")
    other = await read.using(tag="blue").send(text="c")
    assert [job.id for job in await face(jobs).list(status="waiting", tag="blue")] == [tagged.id, other.id]
    assert [job.id for job in await face(jobs).list(status="waiting", task="read")] == [other.id]
    (found,) = await face(jobs).list(status="waiting", task="write", tag="blue")
    assert (found.id, found.tag) == (tagged.id, "blue")


async def test_a_search_looks_at_a_bounded_number_of_jobs_at_a_time(jobs, write):
    await write.send_many([Note(text="a", number=n) for n in range(1500)])
    last = await write.using(tag="blue").send(text="b")
    first = await jobs.list(status="waiting", tag="blue")
    assert first == []
    assert first.cursor is not None
    second = await jobs.list(status="waiting", tag="blue", cursor=first.cursor)
    assert [job.id for job in second] == [last.id]


async def test_a_cursor_of_something_else_is_refused(jobs):
    for wrong in ("x", "9:1:a", "0:abc:a"):
        with pytest.raises(ConfigurationError, match=r"pass on what \.cursor says"):
            await jobs.list(status="failed", cursor=wrong)


async def test_paging_stays_right_while_jobs_are_being_run(jobs, write):
    """Every job that failed before the first page is seen exactly once, however many fail meanwhile."""
    before = [receipt.id for receipt in await write.send_many([Note(text="a", number=-1) for _ in range(300)])]
    async with jobs.worker(concurrency=20):
        await until(lambda: _failed(jobs, 300))
        await write.send_many([Note(text="b", number=-2) for _ in range(300)])
        seen, cursor = [], None
        while True:
            page = await jobs.list(status="failed", limit=7, cursor=cursor)
            seen += [job.id for job in page]
            cursor = page.cursor
            if cursor is None:
                break
            await anyio.lowlevel.checkpoint()
    assert len(seen) == len(set(seen))
    assert set(before) <= set(seen)


async def _failed(jobs, count: int) -> bool:
    return bool((await jobs.counts()).failed >= count)


async def test_the_age_of_the_oldest_is_known(jobs, write, client, namespace):
    assert (await jobs.counts()).oldest is None
    old = await write.using(priority=-3).send(text="old")
    await write.send(text="new")
    ready = f"{namespace}:q:{{notes}}:ready"
    client.zincrby(ready, -90_000, old.id)
    assert (await jobs.counts()).oldest == pytest.approx(90, abs=5)
