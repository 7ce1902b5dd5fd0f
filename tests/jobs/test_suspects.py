"""Jobs whose worker died: they run one at a time, so that a killer does not take the same neighbours along again."""

from __future__ import annotations

import anyio
import pytest

from tests.jobs.conftest import Note, until
from tests.queue.hands import Hands

pytestmark = pytest.mark.anyio


@pytest.fixture
def scene(jobs):
    running: list[int] = []
    most = [0]
    suspects: set[str] = set()

    @jobs.task(schema=Note)
    async def write(note: Note, job) -> None:
        running.append(1) if job.crashes else None
        most[0] = max(most[0], len(running))
        if job.crashes:
            suspects.add(job.id)
        await anyio.sleep(0.01)
        running.pop() if job.crashes else None

    return write, most, suspects


def lose(kit, client, namespace, count):
    """A worker takes `count` jobs and dies."""
    taken = Hands(kit, "notes").take(count, worker="dead")
    client.zadd(f"{namespace}:q:{{notes}}:leases", dict.fromkeys(taken, 1), xx=True)
    return taken


async def _completed(jobs, count):
    return (await jobs.counts()).completed == count


async def test_they_run_one_at_a_time_beside_others(kit, jobs, scene, client, namespace):
    write, most, suspects = scene
    await write.send_many([Note(text="a", number=n) for n in range(40)])
    lost = await anyio.to_thread.run_sync(lose, kit, client, namespace, 8)
    async with jobs.worker(concurrency=10, poll_interval=0.5):
        await until(lambda: _completed(jobs, 40))
    assert suspects == set(lost)
    assert most == [1]


async def test_they_do_not_wait_for_a_poll(kit, jobs, scene, client, namespace):
    write, most, _ = scene
    await write.send_many([Note(text="a", number=n) for n in range(6)])
    await anyio.to_thread.run_sync(lose, kit, client, namespace, 6)
    async with jobs.worker(concurrency=10, poll_interval=60):
        await until(lambda: _completed(jobs, 6), 10)
    assert most == [1]


async def test_two_workers_run_one_each_and_do_not_spin(kit, make_kit, jobs, scene, client, namespace):
    """A worker that may not take another one does not answer the hint that there is one."""
    write, most, _ = scene
    await write.send_many([Note(text="a", number=n) for n in range(20)])
    await anyio.to_thread.run_sync(lose, kit, client, namespace, 20)
    calls = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    async with jobs.worker(concurrency=5), jobs.worker(concurrency=5):
        await until(lambda: _completed(jobs, 20))
    calls = client.info("commandstats")["cmdstat_evalsha"]["calls"] - calls
    assert most[0] <= 2
    assert calls < 300, "about two for each job, and the test's own questions"
