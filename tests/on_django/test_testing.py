"""In tests jobs are kept, or run at once where they see what the test sees."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test.utils import override_settings

from sync_kit import ConfigurationError, testing
from sync_kit.jobs import outlet
from sync_kit.testing import FailedJobsError
from sync_kit_django import Jobs
from sync_kit_django.testing import assert_not_sent, assert_sent, override_jobs, sent_jobs
from tests.on_django.paying import ALL, apay, fail, jobs, pay
from tests.on_django.shop.models import Order

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_error_is_kept(caplog):
    """The error of a handler keeps the frames below it, and these the thread of `async_to_sync`."""
    yield
    caplog.get_records("call").clear()
    gc.collect()


def test_as_a_context_manager_it_gives_what_was_sent():
    with override_jobs("record") as sent:
        receipt = pay.send(1)
    assert [(job.id, job.queue, job.task, job.data) for job in sent] == [(receipt.id, "shop", "pay", 1)]
    assert jobs.counts().waiting == 0
    pay.send(2)
    assert (jobs.counts().waiting, len(sent)) == (1, 1)


def test_of_nested_ones_the_innermost_decides():
    with override_jobs("record") as outer:
        with override_jobs("record") as inner:
            pay.send(1)
        pay.send(2)
    assert ([job.data for job in outer], [job.data for job in inner]) == ([2], [1])


@override_jobs("record", kwarg_name="sent")
def test_as_a_decorator_of_a_function(**given):
    sent = given["sent"]
    pay.send(1)
    assert_sent(pay, 1)
    assert sent_jobs() is sent


@override_jobs("record")
async def test_as_a_decorator_of_an_async_function():
    await pay.asend(1)
    assert_sent(pay, 1, times=1)
    assert_not_sent(apay)


def test_what_is_asserted_is_told_by_tasks_of_either_kind():
    with override_jobs("record") as sent:
        pay.send(1)
        testing.assert_sent(pay, 1)
        testing.assert_sent(pay.core, 1)
        assert_sent(pay.core, 1)
        assert sent.of(pay) == sent.of(pay.core) == sent
        with pytest.raises(AssertionError, match="== shop/pay 1"):
            assert_not_sent(pay)
        with pytest.raises(AssertionError, match="Sent were"):
            testing.assert_not_sent(pay)


def test_a_failure_says_that_jobs_wait_for_a_commit():
    with override_jobs("record"), transaction.atomic():
        pay.send_many([1, 2])
        with pytest.raises(AssertionError, match="2 more wait for the end of a transaction"):
            assert_sent(pay)


def test_there_are_two_modes():
    wrong: Any = "eager"
    with pytest.raises(ConfigurationError, match="'record', 'inline'"):
        override_jobs(wrong)
    with pytest.raises(ConfigurationError, match="override_jobs"):
        sent_jobs()


def test_the_settings_say_where_jobs_go(server, namespace):
    with override_settings(SYNC_KIT={"URL": server.url, "NAMESPACE": namespace, "JOBS": {"MODE": "record"}}):
        pay.send(1)
        assert_sent(pay, 1)
        first = sent_jobs()
        with override_settings(SYNC_KIT={"URL": server.url, "NAMESPACE": "other", "JOBS": {"MODE": "record"}}):
            assert sent_jobs() is first
        inline = override_settings(SYNC_KIT={"URL": server.url, "JOBS": {"MODE": "inline"}})
        with inline, pytest.raises(ValueError, match="oh"):
            fail.send("oh")
        pay.send(2)
        assert_sent(pay, 2, times=1)
    assert outlet.current is None
    assert jobs.counts().waiting == 0


def test_wrong_settings_leave_the_mode_alone(server):
    with override_jobs("record"), override_settings(SYNC_KIT={"JOBS": {"MODE": "eager"}}):
        assert_not_sent(pay)


def test_what_a_job_fails_with_is_raised_by_send_and_by_the_commit():
    with override_jobs("inline"):
        with pytest.raises(ValueError, match="oh"):
            fail.send("oh")
        with pytest.raises(ValueError, match="oh"), transaction.atomic():
            fail.send("oh")


def test_what_fails_a_test_inside_of_a_handler_fails_the_test():
    @Jobs("tests").task(schema=int)
    def check(number: int) -> None:
        pytest.fail("not so")

    with override_jobs("inline"), pytest.raises(pytest.fail.Exception):
        check.send(1)


def test_an_exit_of_a_handler_is_no_exit_of_the_test():
    @Jobs("tests").task(schema=int)
    def leave(number: int) -> None:
        raise SystemExit(3)

    with override_jobs("inline"), pytest.raises(FailedJobsError):
        leave.send(1)


def test_a_recorded_job_has_no_result_and_an_inline_one_has(tables):
    with override_jobs("record"):
        receipt = pay.send(1)
        with pytest.raises(ConfigurationError, match="did not run"):
            receipt.result()
    order = Order.objects.create(number="A-1")
    with override_jobs("inline"):
        assert pay.send(order.pk).result() == order.pk
        receipt = apay.send(order.pk)
        assert async_to_sync(receipt.aresult)() == order.pk


def test_nothing_waits_for_redis_or_closes_the_connection_of_a_test(tables):
    with override_jobs("inline"), transaction.atomic():
        order = Order.objects.create(number="A-1")
        made = connection.connection
        for task in ALL:
            task.using(on_commit=False).send(order.pk)
        assert connection.connection is made
        assert connection.in_atomic_block
    assert connection.connection is made
