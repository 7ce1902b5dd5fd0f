"""One worker over several queues."""

from __future__ import annotations

import functools
from collections import Counter

import anyio
import pytest

from sync_kit import ConfigurationError, Jobs, Queue, Worker
from tests.jobs.conftest import Note, until

pytestmark = pytest.mark.anyio


class Scene:
    """Two queues whose jobs say that they run, and wait until they are let go."""

    def __init__(self, kit):
        self.mail, self.reports = Jobs("mail", kit=kit), Jobs("reports", kit=kit)
        self.began: list[str] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.go = anyio.Event()
        self.tasks = {name: self.task(jobs) for name, jobs in [("mail", self.mail), ("reports", self.reports)]}

    def task(self, jobs):
        @jobs.task(schema=Note)
        async def work(note: Note) -> None:
            self.began.append(jobs.name)
            self.running[jobs.name] += 1
            self.most[jobs.name] = max(self.most[jobs.name], self.running[jobs.name])
            await self.go.wait()
            await anyio.sleep(0.001)
            self.running[jobs.name] -= 1

        return work

    async def send(self, count):
        for task in self.tasks.values():
            await task.send_many([Note(text="a", number=n) for n in range(count)])

    async def done(self, count):
        counts = [await self.mail.counts(), await self.reports.counts()]
        return [each.completed for each in counts] == [count, count]


@pytest.fixture
def scene(kit):
    return Scene(kit)


async def test_a_worker_runs_the_jobs_of_all_its_queues(scene):
    scene.go.set()
    await scene.send(30)
    async with Worker(scene.mail, scene.reports, concurrency=4):
        await until(lambda: scene.done(30))
    assert sum(scene.most.values()) <= 8


async def test_an_idle_worker_is_woken_by_each_of_them(scene):
    scene.go.set()
    async with Worker(scene.mail, scene.reports, concurrency=2, poll_interval=30):
        await anyio.sleep(0.1)
        for count in (1, 2, 3):
            await scene.send(1)
            await until(functools.partial(scene.done, count), 10)


async def test_the_slots_are_shared_by_weight_while_all_have_work(scene):
    scene.go.set()
    await scene.send(400)
    async with Worker(scene.mail, scene.reports, concurrency=4, weights={scene.mail: 3}):
        await until(lambda: _many(scene.began, 200))
    counted = Counter(scene.began[:200])
    assert 120 <= counted["mail"] <= 180, counted


async def _many(began, count):
    return len(began) >= count


async def test_in_strict_order_the_second_queue_waits_for_the_first(scene):
    scene.go.set()
    await scene.send(50)
    async with Worker(scene.mail, scene.reports, concurrency=1, strict=True):
        await until(lambda: scene.done(50))
    assert scene.began == ["mail"] * 50 + ["reports"] * 50


async def test_a_queue_has_no_more_slots_than_its_limit(scene):
    await scene.send(20)
    async with Worker(scene.mail, scene.reports, concurrency=6, limits={scene.reports: 2}):
        await until(lambda: _many(scene.began, 6))
        scene.go.set()
        await until(lambda: scene.done(20))
    assert scene.most["reports"] <= 2
    assert scene.began[:6].count("mail") == 4


async def test_what_is_free_goes_to_the_queue_that_has_work(scene):
    await scene.tasks["reports"].send_many([Note(text="a", number=n) for n in range(5)])
    async with Worker(scene.mail, scene.reports, concurrency=5, weights={scene.mail: 100}):
        await until(lambda: _many(scene.began, 5))
        scene.go.set()


async def test_jobs_and_messages_share_a_worker(kit, scene):
    scene.go.set()
    got = []

    async def handle(number: int) -> None:
        got.append(number)

    numbers = Queue("numbers", schema=int, kit=kit)
    await numbers.send_many(range(10))
    await scene.send(10)
    async with Worker(scene.mail, numbers.processing(handle), scene.reports, concurrency=3):
        await until(lambda: scene.done(10))
        await until(lambda: _many(got, 10))
    assert sorted(got) == list(range(10))


async def test_it_hands_everything_back_when_it_is_stopped(scene):
    await scene.send(5)
    async with Worker(scene.mail, scene.reports, concurrency=6, drain_timeout=0):
        await until(lambda: _many(scene.began, 6))
    for jobs in (scene.mail, scene.reports):
        counts = await jobs.counts()
        assert (counts.waiting, counts.active, counts.completed) == (5, 0, 0)
        assert {job.attempts for job in await jobs.list(status="waiting")} == {0}


def test_wrong_queues_and_options_are_refused(kit):
    mail, reports = Jobs("mail", kit=kit), Jobs("reports", kit=kit)
    for wrong, message in [
        (lambda: Worker(), "needs a queue"),
        (lambda: Worker(Queue("plain", schema=int, kit=kit)), "takes Jobs and queue.processing"),  # type: ignore[arg-type]
        (lambda: Worker(mail, mail), "same queue twice"),
        (lambda: Worker(mail, weights={reports: 2}), "none of the queues of this worker"),
        (lambda: Worker(mail, weights={mail: 0}), "weights must be from 1"),
        (lambda: Worker(mail, limits=3), "limits must be a mapping"),  # type: ignore[arg-type]
        (lambda: Worker(mail, strict=True, weights={mail: 2}), "not both"),
        (lambda: Worker(mail, concurency=3), "did you mean 'concurrency'"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(ConfigurationError, match=message):
            wrong()
