"""Jobs under faults: whatever dies, every job reaches one final state."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from sync_kit import Job, Jobs, SyncKit, Unavailable
from tests.jobs.conftest import Note, status, until
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def client(server):
    with server.client() as made:
        yield made


def tasks(jobs: Jobs) -> tuple[Any, list[int]]:
    """The task of these tests, and the numbers of the notes that were written."""
    written: list[int] = []

    @jobs.task(schema=Note, retries=1)
    async def write(note: Note) -> None:
        await anyio.sleep(0.001)
        if note.number == 1:
            raise ValueError("odd one")
        written.append(note.number)

    return write, written


async def _ended(jobs: Jobs, count: int) -> bool:
    counts = await jobs.counts()
    return counts.completed + counts.failed == count


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", range(1, 13))
async def test_a_worker_killed_at_any_call_loses_nothing(server, kit, namespace, client, call, when):
    jobs = Jobs("notes", kit=kit)
    write, _ = tasks(jobs)
    sent = [receipt.id for receipt in await write.send_many([Note(text="a", number=n) for n in range(5)])]
    code = await anyio.to_thread.run_sync(_run_doomed_worker, server.url, namespace, call, when)
    assert code == -signal.SIGKILL
    leases = f"{namespace}:q:{{notes}}:leases"
    orphans = client.zrange(leases, 0, -1)
    if orphans:
        client.zadd(leases, dict.fromkeys(orphans, 1), xx=True)
    async with jobs.worker(poll_interval=0.05):
        await until(lambda: _ended(jobs, 5))
    found = [await jobs.get(job) for job in sent]
    assert [job.status for job in found if job] == ["completed", "failed", "completed", "completed", "completed"]
    assert sum(job.crashes for job in found if job) == len(orphans)
    counts = await jobs.counts()
    assert (counts.waiting, counts.delayed, counts.active) == (0, 0, 0)


def _run_doomed_worker(url: str, namespace: str, call: int, when: str) -> int:
    script = Path(__file__).with_name("doomed_worker.py")
    command = [sys.executable, str(script), url, namespace, str(call), when]
    return subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, timeout=30, check=False).returncode


async def test_cut_connections_neither_strand_nor_crash_a_job(server, proxy, namespace):
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        jobs = Jobs("notes", kit=kit)
        write, written = tasks(jobs)
        await write.send_many([Note(text="a", number=n) for n in range(2, 302)])
        dice = random.Random(7)
        async with jobs.worker(concurrency=5, poll_interval=0.1), anyio.create_task_group() as group:
            group.start_soon(_cut_now_and_then, proxy, dice)
            await until(lambda: _all_written(written, 300), 40)
            group.cancel_scope.cancel()
    async with SyncKit(server.url, namespace=namespace) as kit:
        listed = await Jobs("notes", kit=kit).list(status="completed", limit=1000)
    assert len(listed) == 300
    assert sum(job.crashes for job in listed) == 0
    assert sorted(written) == list(range(2, 302))


async def _cut_now_and_then(proxy: Proxy, dice: random.Random) -> None:
    while True:
        await anyio.sleep(dice.uniform(0.01, 0.05))
        await anyio.to_thread.run_sync(proxy.cut)


async def _all_written(written: list[int], count: int) -> bool:
    return len(written) >= count


async def test_a_dropped_reply_does_not_make_a_second_job(proxy, namespace):
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        jobs = Jobs("notes", kit=kit)
        write, _ = tasks(jobs)
        await write.send(text="first", number=2)
        proxy.drop_replies = True
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: write.send(text="second", number=3))
            await anyio.sleep(0.05)
            proxy.drop_replies = False
            await anyio.to_thread.run_sync(proxy.cut)
        assert (await jobs.counts()).waiting == 2


async def test_stopping_under_load_with_network_delay_strands_nothing(server, proxy, namespace):
    proxy.delay = 0.01
    dice = random.Random(3)
    async with SyncKit(proxy.url, namespace=namespace) as kit:
        jobs = Jobs("notes", kit=kit)
        write, written = tasks(jobs)
        sent = 0
        for _ in range(15):
            await write.send_many([Note(text="a", number=n) for n in range(sent + 2, sent + 12)])
            sent += 10
            async with jobs.worker(concurrency=4, drain_timeout=dice.choice([0.0, 5.0])):
                await anyio.sleep(dice.uniform(0.0, 0.09))
            assert (await jobs.counts()).active == 0
        async with jobs.worker(concurrency=10):
            await until(lambda: _ended(jobs, sent))
        listed = await jobs.list(status="completed", limit=1000)
    assert len(listed) == sent
    assert {(job.attempts, job.crashes) for job in listed} == {(1, 0)}
    assert set(written) == set(range(2, sent + 2))


async def test_a_server_that_restarts_with_its_data_loses_no_job(own_server, caplog):
    own = own_server(appendonly=True)
    async with SyncKit(own.url, namespace="restart") as kit:
        jobs = Jobs("notes", kit=kit)
        write, written = tasks(jobs)
        await write.send_many([Note(text="a", number=n) for n in range(2, 202)])
        async with jobs.worker(concurrency=5, poll_interval=0.1):
            await until(lambda: _all_written(written, 20))
            await anyio.to_thread.run_sync(own.stop)
            await until(lambda: _said(caplog, "goes on trying"))
            await anyio.to_thread.run_sync(own.start)
            await until(lambda: _all_ended(jobs, 200), 40)
        assert set(written) == set(range(2, 202))


async def _all_ended(jobs: Jobs, count: int) -> bool:
    try:
        return await _ended(jobs, count)
    except Unavailable:
        return False


async def _said(caplog: Any, text: str) -> bool:
    return text in caplog.text


async def test_a_worker_that_starts_before_its_server_waits_for_it(own_server, caplog):
    own = own_server()
    await anyio.to_thread.run_sync(own.stop)
    async with SyncKit(own.url) as kit:
        jobs = Jobs("notes", kit=kit)
        write, written = tasks(jobs)
        async with jobs.worker():
            await until(lambda: _said(caplog, "goes on trying"))
            await anyio.to_thread.run_sync(own.start)
            receipt = await until(lambda: _try_to_send(write))
            await status(jobs, receipt.id, "completed")
    assert written == [2]


async def _try_to_send(write: Any) -> Any:
    try:
        return await write.send(text="a", number=2)
    except Unavailable:
        return None


async def test_sending_without_a_server_is_unavailable_at_once(own_server):
    own = own_server()
    await anyio.to_thread.run_sync(own.stop)
    async with SyncKit(own.url) as kit:
        write, _ = tasks(Jobs("notes", kit=kit))
        with anyio.fail_after(3), pytest.raises(Unavailable, match="is not reachable"):
            await write.send(text="a")


async def test_outcomes_are_handed_in_when_redis_is_back(own_server):
    own = own_server(appendonly=True)
    async with SyncKit(own.url) as kit:
        jobs = Jobs("notes", kit=kit)
        ended = anyio.Event()

        @jobs.task(schema=Note)
        async def write(note: Note, job: Job) -> None:
            await anyio.to_thread.run_sync(own.stop)
            ended.set()

        receipt = await write.send(text="a")
        async with jobs.worker():
            await ended.wait()
            await anyio.to_thread.run_sync(own.start)
            job = await until(lambda: _job_if_completed(jobs, receipt.id))
    assert (job.attempts, job.crashes) == (1, 0)


async def _job_if_completed(jobs: Jobs, job_id: str) -> Any:
    try:
        job = await jobs.get(job_id)
    except Unavailable:
        return None
    return job if job is not None and job.status == "completed" else None
