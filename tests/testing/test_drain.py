"""A real queue is worked off until it is empty, and what is delayed is not waited for."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from anyio import to_thread

from sync_kit import Backoff, ConfigurationError, Jobs, Queue, Retry, SyncKit, Unavailable
from sync_kit.testing import Drained, FailedJobsError, NotDrainedError, drain, drain_blocking
from tests.support.ticks import elapsed
from tests.testing.conftest import mail_of

pytestmark = pytest.mark.anyio


async def counts(jobs: Jobs) -> tuple[int, int, int]:
    """Waiting, delayed, active."""
    found = await jobs.counts()
    return found.waiting, found.delayed, found.active


async def test_what_waits_is_run_and_the_queue_is_empty(mail):
    await mail.send_email.send(to="ann")
    await mail.count.send_many(range(20))
    assert await drain(mail.jobs) == Drained(completed=21, failed=0, retried=0, parked=0, failures=())
    assert len(mail.ran) == 21
    assert await counts(mail.jobs) == (0, 0, 0)


async def test_an_empty_queue_is_done_at_once(mail):
    assert (await drain(mail.jobs)).completed == 0


async def test_delays_are_jumped_over_in_the_order_in_which_they_end(mail):
    for delay in (3000, 1000, 2000):
        await mail.count.using(delay=delay).send(delay)
    await mail.count.send(0)
    began = elapsed()
    await drain(mail.jobs, concurrency=1)
    assert mail.ran == [0, 1000, 2000, 3000]
    assert elapsed() - began < 10


async def test_hundreds_of_delayed_jobs_keep_their_order(mail):
    for number in reversed(range(250)):
        await mail.count.using(delay=1000 + number).send(number)
    await drain(mail.jobs, concurrency=1)
    assert mail.ran == [*range(250)]


async def test_the_pause_before_a_retry_is_jumped_over(mail):
    mail.failures += [Retry(after=3600), Retry(after=7200)]
    await mail.send_email.send(to="ann")
    drained = await drain(mail.jobs)
    assert (drained.completed, drained.retried) == (1, 2)
    assert [job.attempts for _, job in mail.ran] == [1, 2, 3]


async def test_a_retry_comes_before_what_is_due_later_than_it(mail):
    @mail.jobs.task(schema=int, retries=1, backoff=Backoff(base=300, jitter=0))
    def unlucky(number: int) -> None:
        mail.ran.append(number)
        if mail.ran.count(number) == 1:
            raise OSError("once")

    await unlucky.send(1)
    await mail.count.using(delay=3600).send(2)
    await drain(mail.jobs, concurrency=1)
    assert mail.ran == [1, 1, 2]


async def test_what_jobs_send_is_run_too_also_from_queue_to_queue(mail, kit):
    other = Jobs("other", kit=kit)

    @other.task(schema=int)
    async def ping(number: int) -> None:
        if number:
            await pong.using(delay=60).send(number - 1)

    @mail.jobs.task(schema=int)
    async def pong(number: int) -> None:
        await ping.send(number)
        await mail.count.send(number)

    await ping.send(10)
    assert (await drain(other, mail.jobs)).completed == 11 + 10 + 10
    assert mail.ran == [*reversed(range(10))]


async def test_a_queue_with_a_handler_is_drained_too(kit):
    got: list[Any] = []
    orders = Queue("orders", schema=int, kit=kit, max_deliveries=2)

    def handle(order: int) -> None:
        got.append(order)
        if order == 3:
            raise ValueError("no such order")

    await orders.send_many([1, 2])
    await orders.send(3, delay=60)
    with pytest.raises(FailedJobsError, match="no such order"):
        await drain(orders.processing(handle))
    assert sorted(got) == [1, 2, 3, 3]
    assert (await orders.size()).failed == 1


async def test_a_failed_job_is_an_error_that_has_the_handlers_own_behind_it(mail):
    mail.failures += [ValueError("seen")]
    await mail.count.send_many([1, 2, 3])
    with pytest.raises(FailedJobsError, match="1 of the jobs failed:\n  mail/count .*: ValueError: seen") as failed:
        await drain(mail.jobs, concurrency=1)
    assert isinstance(failed.value.__cause__, ValueError)
    assert failed.value.__cause__.__traceback__ is not None
    assert mail.ran == [1, 2, 3]


async def test_a_failed_job_may_be_what_the_test_wants_to_see(mail):
    mail.failures += [ValueError("seen")]
    receipt = await mail.count.send(1)
    drained = await drain(mail.jobs, raise_failed=False)
    assert (drained.completed, drained.failed) == (0, 1)
    assert drained.failures == (f"mail/count {receipt.id}: ValueError: seen",)


async def test_hooks_are_called(mail):
    mail.failures += [OSError("one")]
    await mail.send_email.send(to="ann")
    await drain(mail.jobs)
    assert mail.hooks == ["retry 1 one", "success 2"]


async def test_what_is_left_after_the_timeout_is_listed(mail):
    @mail.jobs.task(schema=int)
    async def stuck(number: int) -> None:
        await anyio.sleep(600)

    active = await stuck.send(1)
    waiting = await mail.count.send(2)
    delayed = await mail.count.using(delay=3600).send(3)
    began = elapsed()
    with pytest.raises(NotDrainedError, match="not drained within 1 s") as left:
        await drain(mail.jobs, timeout=1, concurrency=1)
    assert elapsed() - began < 20
    assert left.value.left == [
        f"mail/stuck {active.id}: active, 1 attempts",
        f"mail/count {waiting.id}: waiting, 0 attempts",
        f"mail/count {delayed.id}: delayed, 0 attempts",
    ]
    assert isinstance(left.value, TimeoutError)
    assert await counts(mail.jobs) == (2, 1, 0)


async def test_a_plain_handler_that_never_ends_does_not_keep_the_test(mail):
    @mail.jobs.task(schema=int, timeout=None)
    def stuck(number: int) -> None:
        free.wait(600)

    free = threading.Event()
    await stuck.send(1)
    began = elapsed()
    with pytest.raises(NotDrainedError):
        await drain(mail.jobs, timeout=0.2)
    assert elapsed() - began < 20
    free.set()


async def test_jobs_that_send_each_other_for_ever_end_in_a_timeout(mail):
    @mail.jobs.task(schema=int)
    async def again(number: int) -> None:
        await again.using(delay=60).send(number + 1)

    await again.send(1)
    with pytest.raises(NotDrainedError):
        await drain(mail.jobs, timeout=0.5)


async def test_a_paused_queue_is_not_drained_and_the_error_says_so(mail):
    await mail.count.send(1)
    await mail.jobs.pause()
    with pytest.raises(NotDrainedError, match="whether the queue is paused"):
        await drain(mail.jobs, timeout=0.2)
    await mail.jobs.resume()


async def test_parked_jobs_are_reported_and_not_waited_for(mail, kit):
    await mail.count.send(1)
    stranger = Jobs("mail", kit=kit)
    assert (await drain(stranger)).parked == 1


async def test_parked_jobs_of_a_task_that_is_known_by_now_are_run(mail, kit):
    await mail.count.send_many(range(10))
    await drain(Jobs("mail", kit=kit))
    assert await drain(mail.jobs) == Drained(completed=10, failed=0, retried=0, parked=0, failures=())


async def test_the_worker_of_a_drain_leaves_nothing_behind(mail):
    await mail.count.send(1)
    await drain(mail.jobs)
    assert await mail.jobs.workers() == []
    assert not mail.jobs.observers


async def test_a_server_that_is_away_is_an_error(nowhere):
    with pytest.raises(Unavailable):
        await drain(nowhere.jobs, timeout=0.5)


async def test_options_that_do_not_exist_are_refused(mail):
    with pytest.raises(ConfigurationError, match="did you mean 'timeout'"):
        await drain(mail.jobs, timeuot=3)  # type: ignore[arg-type]


async def test_the_blocking_twin_does_the_same(mail):
    def test() -> Drained:
        mail.count.blocking.send(1)
        mail.send_email.using(delay=3600).blocking.send(to="ann")
        return drain_blocking(mail.jobs)

    assert (await to_thread.run_sync(test)).completed == 2
    mail.failures += [ValueError("seen")]
    await mail.count.send(1)
    with pytest.raises(FailedJobsError):
        await to_thread.run_sync(drain_blocking, mail.jobs)


async def test_the_blocking_twin_is_refused_in_an_event_loop(mail):
    with pytest.raises(ConfigurationError, match="await drain"):
        drain_blocking(mail.jobs)


def test_the_blocking_twin_comes_back_from_a_handler_that_blocks_its_event_loop(mail, monkeypatch):
    @mail.jobs.task(schema=int)
    async def stuck(number: int) -> None:
        free.wait(600)

    monkeypatch.setattr("sync_kit.testing.draining.GRACE", 0.3)
    free = threading.Event()
    stuck.blocking.send(1)
    with pytest.raises(NotDrainedError, match="blocks the event loop") as left:
        drain_blocking(mail.jobs, timeout=2)
    assert "active" in left.value.left[0]
    free.set()
    for thread in threading.enumerate():
        if thread.name == "sync-kit-drain":
            thread.join(20)


async def test_queues_of_a_cluster_are_drained_too(cluster, namespace):
    async with SyncKit(cluster.url, namespace=namespace) as kit:
        several = [mail_of(Jobs(name, kit=kit)) for name in ("a", "b", "c")]
        for mail in several:
            await mail.count.using(delay=3600).send(1)
        assert (await drain(*(mail.jobs for mail in several))).completed == 3
        assert [mail.ran for mail in several] == [[1]] * 3
        await to_thread.run_sync(kit.sweep)
    await to_thread.run_sync(kit.close)
