"""What is sent runs at once, as a worker would run it."""

from __future__ import annotations

import contextvars
import threading

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread

from sync_kit import Backoff, ConfigurationError, InvalidPayloadError, Job
from sync_kit._io.loops import current_token
from sync_kit.testing import FailedJobsError, NestedTooDeepError, assert_sent, inline, recorded
from tests.support.ticks import elapsed
from tests.testing.conftest import Email

pytestmark = pytest.mark.anyio


async def test_the_job_has_ended_when_send_returns(nowhere):
    with inline() as sent:
        receipt = await nowhere.send_email.using(tag="x", delay=3600).send(to="ann")
        await nowhere.count.send_many([1, 2])
        assert_sent(nowhere.send_email, to="ann")
    (email, job), *numbers = nowhere.ran
    assert email == Email(to="ann")
    assert (job.id, job.task, job.status, job.attempts, job.tag) == (receipt.id, "send_email", "active", 1, "x")
    assert numbers == [1, 2]
    assert len(sent) == 3


def test_it_has_ended_when_a_blocking_send_returns(nowhere):
    with inline():
        nowhere.send_email.blocking.send(to="ann")
        nowhere.count.blocking.send_many([1, 2])
    (email, job), *numbers = nowhere.ran
    assert (email.to, job.attempts, numbers) == ("ann", 1, [1, 2])


async def test_the_payload_makes_the_trip_as_json(nowhere):
    email = Email(to="ann")
    with inline():
        await nowhere.send_email.send(email)
    assert nowhere.ran[0][0] == email
    assert nowhere.ran[0][0] is not email


async def test_a_payload_that_is_refused_runs_nothing(nowhere):
    with inline() as sent, pytest.raises(InvalidPayloadError):
        await nowhere.count.send_many([1, "many"])
    assert (nowhere.ran, sent) == ([], [])


async def test_retries_follow_at_once_and_hooks_are_called(nowhere):
    @nowhere.jobs.task(schema=int, retries=1, backoff=Backoff(base=300), on_success=nowhere.hooks.append)
    async def slow(number: int, job: Job) -> None:
        if job.attempts == 1:
            raise OSError("not yet")

    nowhere.failures += [OSError("one"), OSError("two")]
    with inline():
        await nowhere.send_email.send(to="ann")
        await slow.send(1)
    assert [job.attempts for _, job in nowhere.ran] == [1, 2, 3]
    assert nowhere.hooks[:3] == ["retry 1 one", "retry 2 two", "success 3"]
    assert nowhere.hooks[3].attempts == 2


async def test_the_error_that_remains_is_raised_to_the_sender(nowhere):
    nowhere.failures += [OSError("one"), OSError("two"), OSError("three")]
    with inline(), pytest.raises(OSError, match="three"):
        await nowhere.send_email.send(to="ann")
    assert nowhere.hooks == ["retry 1 one", "retry 2 two", "failure 3 three"]


def test_the_error_that_remains_is_raised_to_a_blocking_sender(nowhere):
    nowhere.failures += [OSError("one"), OSError("two"), OSError("three"), ValueError("plain")]
    with inline():
        with pytest.raises(OSError, match="three"):
            nowhere.send_email.blocking.send(to="ann")
        with pytest.raises(ValueError, match="plain"):
            nowhere.count.blocking.send(1)
    assert nowhere.hooks == ["retry 1 one", "retry 2 two", "failure 3 three"]


async def test_all_of_several_jobs_run_before_the_first_error_is_raised(nowhere):
    nowhere.failures += [ValueError("first")]
    with inline(), pytest.raises(ValueError, match="first"):
        await nowhere.count.send_many([1, 2, 3])
    assert nowhere.ran == [1, 2, 3]


async def test_an_exit_of_a_handler_is_a_failed_job_and_does_not_end_the_test(nowhere):
    nowhere.failures += [SystemExit(3)]
    with inline(), pytest.raises(FailedJobsError, match=r"SystemExit\(3\)"):
        await nowhere.count.send(1)


async def test_a_failed_assertion_in_a_handler_fails_the_test(nowhere):
    @nowhere.jobs.task(schema=int)
    async def check(number: int) -> None:
        pytest.fail("seen")

    with inline(), pytest.raises(pytest.fail.Exception, match="seen"):
        await check.send(1)


async def test_a_run_that_overruns_its_timeout_fails(nowhere):
    @nowhere.jobs.task(schema=int, timeout=0.05)
    async def sleep(seconds: int) -> None:
        await anyio.sleep(seconds)

    @nowhere.jobs.task(schema=int, timeout=0.05)
    def block(seconds: int) -> None:
        blocked.wait(seconds)

    blocked = threading.Event()
    began = elapsed()
    with inline():
        for task in (sleep, block):
            with pytest.raises(TimeoutError):
                await task.send(50)
    blocked.set()
    assert elapsed() - began < 10


async def test_what_a_job_sends_runs_too(nowhere):
    @nowhere.jobs.task(schema=int)
    async def chain(number: int) -> None:
        nowhere.ran.append(number)
        await nowhere.count.send(-number)
        if number:
            await chain.send(number - 1)

    @nowhere.jobs.task(schema=int)
    def plain_chain(number: int) -> None:
        chain.blocking.send(number)

    with inline():
        await plain_chain.send(2)
        await to_thread.run_sync(plain_chain.blocking.send, 1)
    assert nowhere.ran == [2, -2, 1, -1, 0, 0, 1, -1, 0, 0]


async def test_a_handler_that_sends_is_not_told_of_what_fails_but_the_test_is(nowhere):
    @nowhere.jobs.task(schema=int, retries=3)
    async def outer(number: int) -> None:
        await nowhere.count.send(number)
        nowhere.ran.append("sent")

    nowhere.failures += [ValueError("inner")]
    with inline(), pytest.raises(ValueError, match="inner"):
        await outer.send(1)
    assert nowhere.ran == [1, "sent"]


@pytest.mark.parametrize("width", [1, 2])
async def test_jobs_that_send_each_other_for_ever_end_in_a_clear_error(nowhere, width):
    @nowhere.jobs.task(schema=int, retries=3)
    async def ping(number: int) -> None:
        for _ in range(width):
            await pong.send(number + 1)

    @nowhere.jobs.task(schema=int)
    def pong(number: int) -> None:
        ping.blocking.send(number + 1)

    with inline() as sent, pytest.raises(NestedTooDeepError, match="50 deep"):
        await ping.send(1)
    assert len(sent) == 50
    with inline():
        await nowhere.count.send(1)
    assert nowhere.ran == [1]


def test_plain_functions_of_a_blocking_send_run_in_the_thread_of_the_sender_without_a_loop(nowhere):
    def seen(said: object) -> None:
        nowhere.ran.append((threading.get_ident(), current_token()))

    @nowhere.jobs.task(schema=int, on_success=seen)
    def here(number: int) -> None:
        seen(number)

    with inline():
        here.blocking.send(1)
    assert nowhere.ran == [(threading.get_ident(), None)] * 2


async def test_a_plain_handler_of_an_async_send_runs_on_another_thread(nowhere):
    threads = []

    @nowhere.jobs.task(schema=int)
    def there(number: int) -> None:
        threads.append(threading.get_ident())

    with inline():
        await there.send(1)
    assert threads != [threading.get_ident()]


async def test_a_plain_function_that_wraps_an_async_one_is_awaited(nowhere):
    async def work(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        nowhere.ran.append(number)

    @nowhere.jobs.task(schema=int)
    def wraps(number: int) -> object:
        return work(number)

    with inline():
        await wraps.send(1)
        await to_thread.run_sync(wraps.blocking.send, 2)
    assert nowhere.ran == [1, 2]


async def test_handlers_see_the_context_of_the_sender_and_change_a_copy(nowhere):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    @nowhere.jobs.task(schema=int)
    async def there(number: int) -> None:
        nowhere.ran.append(variable.get())
        variable.set("changed")

    @nowhere.jobs.task(schema=int)
    def here(number: int) -> None:
        nowhere.ran.append(variable.get())
        variable.set("changed")

    variable.set("sender")
    with inline():
        await there.send(1)
        await here.send(1)
        await to_thread.run_sync(here.blocking.send, 1)
    assert nowhere.ran == ["sender"] * 3
    assert variable.get() == "sender"


async def test_a_blocking_call_in_an_event_loop_is_refused_as_ever(nowhere):
    with inline(), pytest.raises(ConfigurationError, match=r"await count\.send"):
        nowhere.count.blocking.send(1)


async def test_a_sender_that_is_cancelled_takes_its_handler_along(nowhere):
    begun = anyio.Event()

    @nowhere.jobs.task(schema=int, retries=5)
    async def sleep(number: int) -> None:
        begun.set()
        try:
            await anyio.sleep(3600)
        finally:
            nowhere.ran.append("cancelled")

    with inline():
        async with anyio.create_task_group() as group:
            group.start_soon(sleep.send, 1)
            await begun.wait()
            group.cancel_scope.cancel()
    assert nowhere.ran == ["cancelled"]


async def test_a_plain_handler_that_never_ends_does_not_keep_a_sender_that_is_cancelled(nowhere):
    @nowhere.jobs.task(schema=int, timeout=None)
    def stuck(number: int) -> None:
        free.wait(600)

    free = threading.Event()
    began = elapsed()
    with inline(), anyio.move_on_after(0.1):
        await stuck.send(1)
    assert elapsed() - began < 30
    free.set()


async def test_of_nested_blocks_the_inner_one_decides(nowhere):
    with inline():
        with recorded():
            await nowhere.count.send(1)
        assert nowhere.ran == []
        await nowhere.count.send(2)
    assert nowhere.ran == [2]
