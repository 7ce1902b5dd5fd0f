"""Tasks of django.tasks on workers: retries, timeouts, crashes, and what a result says of all runs."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.test.utils import override_settings

from sync_kit import Backoff, JobError
from sync_kit.queue import engine
from sync_kit.testing import drain, inline, recorded
from sync_kit_django.backend import forget_queues
from sync_kit_django.backend.library import TaskResultStatus, signals
from tests.jobs.conftest import until
from tests.on_django import chores as chores_here
from tests.on_django.shop.models import Order
from tests.on_django.working import (
    default_backend,
    done,
    ended,
    in_status,
    smuggle,
    true,
    with_options,
    working,
)

pytestmark = pytest.mark.anyio

chores: Any = chores_here
READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
FAILED, SUCCESSFUL = TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL
BUSY = "tests.on_django.chores.Busy"
LEASE = 0.8


@pytest.fixture(autouse=True)
def forgotten():
    """Nothing has run yet."""
    chores.ran.clear()


# retries


async def test_a_task_is_not_run_again_unless_it_is_asked_for():
    result = await done(await chores.busy_until.aenqueue(3))
    assert (result.status, result.attempts) == (FAILED, 1)


async def test_a_task_is_retried_and_its_result_has_the_error_of_each_run():
    result = await chores.busy_until.using(retries=3).aenqueue(3)
    async with working() as worker:
        await ended(result)
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 3, 3)
    assert [error.exception_class for error in result.errors] == [chores.Busy, chores.Busy]
    assert ["not in run 1" in result.errors[0].traceback, "not in run 2" in result.errors[1].traceback] == [True, True]
    assert result.worker_ids == [worker.id] * 3
    assert result.started_at < result.last_attempted_at <= result.finished_at
    assert chores.ran == [[], [BUSY], [BUSY, BUSY]]  # what each run knew of those before it


async def test_a_task_whose_retries_are_used_up_has_failed_with_all_of_its_errors():
    result = await done(await chores.fail_async.using(retries=2).aenqueue("no time"))
    assert (result.status, result.attempts) == (FAILED, 3)
    assert [error.exception_class_path for error in result.errors] == [BUSY] * 3


async def test_a_task_is_ready_between_two_runs():
    with with_options(retries=1, backoff=Backoff(base=60, jitter=0)) as backend:
        result = await chores.fail.aenqueue("no time")
        async with working() as worker:
            await until(in_status(backend.task_queues[0], result.id, "delayed"))
        await result.arefresh()
        assert (result.status, result.is_finished, result.finished_at) == (READY, False, None)
        assert (result.attempts, result.worker_ids) == (1, [worker.id])
        assert [error.exception_class_path for error in result.errors] == [BUSY]
        assert result.started_at == result.last_attempted_at is not None


async def test_the_last_signal_comes_when_no_retry_is_left():
    heard: list[Any] = []

    def hear(task_result: Any, **_: Any) -> None:
        heard.append((task_result.status, task_result.attempts, len(task_result.errors)))

    signals.task_finished.connect(hear)
    signals.task_started.connect(hear)
    try:
        await done(await chores.fail.using(retries=1).aenqueue("no time"))
    finally:
        signals.task_finished.disconnect(hear)
        signals.task_started.disconnect(hear)
    assert heard == [(RUNNING, 1, 0), (RUNNING, 2, 1), (FAILED, 2, 2)]


async def test_the_own_words_of_a_task_in_its_log_are_no_part_of_an_error():
    result = await done(await chores.log_a_line.using(retries=1).aenqueue())
    assert [error.exception_class_path for error in result.errors] == [BUSY, BUSY]
    assert "a line of the task's own" not in result.errors[0].traceback.splitlines()


async def test_many_failures_leave_a_bounded_log_and_count_all_the_same():
    result = await done(await chores.fail.using(retries=40).aenqueue("no time " * 200))
    assert (result.status, result.attempts) == (FAILED, 41)
    assert 1 <= len(result.errors) <= 41
    assert len(result.worker_ids) == 41
    assert "unknown" in result.worker_ids  # the oldest lines are gone


# timeouts, cancellations, retries by hand


async def test_a_task_that_takes_too_long_has_failed_and_says_so():
    result = await done(await chores.sleep.using(timeout=0.1, retries=1).aenqueue(30))
    assert (result.status, result.attempts) == (FAILED, 2)
    assert [error.exception_class for error in result.errors] == [TimeoutError, TimeoutError]
    assert "longer than 0.1 s" in result.errors[-1].traceback


async def test_a_task_that_somebody_cancels_has_failed_and_says_so():
    queue = default_backend().task_queues[0]
    waiting = await chores.add.aenqueue(1)
    await queue.cancel(waiting.id)
    await waiting.arefresh()
    running = await chores.sleep.aenqueue(30)
    async with working():
        await until(true(lambda: chores.ran == ["sleeps"]))
        await queue.cancel(running.id)
        await ended(running)
    for result, attempts in [(waiting, 0), (running, 1)]:
        assert (result.status, result.attempts) == (FAILED, attempts)
        assert [error.exception_class for error in result.errors] == [JobError]
        assert "cancelled" in result.errors[0].traceback


async def test_a_failed_task_that_is_retried_by_hand_is_ready_again():
    result = await done(await chores.fail.aenqueue("no time"))
    assert await default_backend().task_queues[0].retry(result.id)
    await result.arefresh()
    assert result.status == READY
    assert (await done(result)).status == FAILED


# crashes


async def test_a_task_whose_worker_was_killed_does_not_run_for_ever_but_once_more(server, namespace, monkeypatch):
    monkeypatch.setattr(engine, "LEASE", LEASE)
    result = await chores.die_until.aenqueue(2)
    with process(server, namespace) as worker:
        await until(true(lambda: worker.poll() is not None), 40)
    await result.arefresh()
    assert result.status in (RUNNING, READY)
    await done(result)
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 2, 2)
    assert result.worker_ids[0] == "unknown"
    assert result.worker_ids[1] != "unknown"


async def test_a_task_that_kills_each_of_its_workers_has_failed_and_says_why(server, namespace, monkeypatch):
    monkeypatch.setattr(engine, "LEASE", LEASE)
    result = await chores.die_until.using(retries=5).aenqueue(99)
    for _ in range(3):
        with process(server, namespace) as worker:
            await until(true(lambda: worker.poll() is not None), 40)
    await done(result)
    assert (result.status, result.is_finished, result.attempts) == (FAILED, True, 3)
    assert [error.exception_class for error in result.errors] == [JobError]
    assert "worker died 3 times" in result.errors[0].traceback


class process:  # noqa: N801
    """A worker as a process, ended by its number."""

    def __init__(self, server: Any, namespace: str) -> None:
        import os

        told = {"TEST_URL": server.url, "TEST_NAMESPACE": namespace, "TEST_LEASE": str(LEASE)}
        module = "tests.on_django.task_worker"
        self._running = subprocess.Popen([sys.executable, "-m", module], env={**os.environ, **told})

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._running

    def __exit__(self, *_: object) -> None:
        self._running.kill()
        self._running.wait()


# code that comes and goes


async def test_a_worker_that_was_not_told_of_a_task_imports_it(server, namespace):
    result = await chores.add.aenqueue(1, 2)
    with process(server, namespace):
        await ended(result, 40)
    assert result.return_value == 3


async def test_a_task_of_tomorrows_code_waits_and_is_run_by_a_worker_that_has_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = "chores_of_tomorrow.tell"
    job_id = await smuggle(default_backend().task_queues[0], path)
    async with working():
        await until(in_status(default_backend().task_queues[0], job_id, "parked"))
    library = "django.tasks" if django.VERSION >= (6,) else "django_tasks"
    code = f"from {library} import task\n\n\n@task\ndef tell():\n    return 'tomorrow'\n"
    write(tmp_path / "chores_of_tomorrow.py", code)
    forget_queues()  # as a process that starts anew
    result = await default_backend().aget_result(job_id)
    assert (result.status, result.task.module_path) == (READY, path)
    assert (await done(result)).return_value == "tomorrow"


async def test_a_module_may_ask_the_database_while_a_worker_imports_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    asks = "from tests.on_django.shop.models import Order\n\nCOUNT = Order.objects.count()\n"
    library = "django.tasks" if django.VERSION >= (6,) else "django_tasks"
    tell = f"from {library} import task\n\n\n@task\ndef tell():\n    return COUNT\n"
    write(tmp_path / "chores_that_ask.py", asks + tell)
    queue = default_backend().task_queues[0]
    job_id = await smuggle(queue, "chores_that_ask.tell")
    async with working():
        await until(in_status(queue, job_id, "completed"))


async def test_a_module_that_cannot_be_imported_costs_no_job(tmp_path, monkeypatch, caplog):
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "chores_that_are_broken.py", "1 / 0\n")
    queue = default_backend().task_queues[0]
    job_id = await smuggle(queue, "chores_that_are_broken.add")
    async with working():
        await until(in_status(queue, job_id, "parked"))
    assert "ZeroDivisionError" in caplog.text


def test_a_worker_says_which_tasks_it_has_also_before_one_was_sent():
    default, mail = default_backend().task_queues
    assert {"tests.on_django.chores.add", "tests.on_django.chores.fail"} <= set(default.kinds)
    assert "tests.on_django.chores.hidden" not in set(default.kinds)
    assert "tests.on_django.chores.send_mail" in set(mail.kinds)
    assert len(mail.kinds) == len(set(mail.kinds))


# the rest of the house


async def test_a_plain_task_uses_the_database(tables):
    await Order.objects.acreate(number="A-1")
    assert (await done(await chores.count_orders.aenqueue())).return_value == 1


async def test_recorded_and_inline_take_tasks_too():
    with recorded() as sent:
        result = await chores.remember.aenqueue(1)
        assert result.status == READY
    assert [(job.task, job.data.args) for job in sent] == [("tests.on_django.chores.remember", [1])]
    with inline():
        await chores.remember.aenqueue(2)
    assert chores.ran == [2]


async def test_recorded_asks_no_redis_for_a_task_that_has_the_same_key():
    keyed = chores.remember.using(key="k")
    with override_settings(SYNC_KIT={"URL": "redis://127.0.0.1:1"}), recorded() as sent:
        first, second = await keyed.aenqueue(1), await sync_to_async(keyed.enqueue)(2)
        third = await keyed.aenqueue(3)
    assert {first.id, second.id, third.id} == {job.id for job in sent}


async def test_drain_works_the_queues_of_tasks_off():
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    result = await chores.add.using(run_after=later).aenqueue(1, 2)
    drained = await drain(*default_backend().task_queues)
    assert drained.completed == 1
    await result.arefresh()
    assert result.return_value == 3


async def test_a_task_costs_one_call_to_enqueue_and_one_for_each_queue_to_look_at(server):
    await chores.add.aenqueue(1)
    with server.client() as client:

        def calls() -> int:
            return int(client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])

        before = calls()
        result = await chores.add.aenqueue(1)
        assert calls() - before == 1
        await result.arefresh()
        assert calls() - before == 2  # it is in the first of two queues


async def test_a_hundred_tasks_of_each_kind_are_done_by_one_worker():
    results = [await function.aenqueue(n, 1) for n in range(100) for function in (chores.add, chores.add_async)]
    async with working(concurrency=10):
        queue = default_backend().task_queues[0]
        await until(partial(_all_done, queue, len(results)))
    assert (await default_backend().aget_result(results[-1].id)).return_value == 100


async def _all_done(queue: Any, number: int) -> bool:
    return bool((await queue.counts()).completed == number)


def write(path: Path, code: str) -> None:
    """Add a module."""
    path.write_text(code)
