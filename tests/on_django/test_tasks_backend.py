"""django.tasks, as its documents describe it: each line of them holds for `TasksBackend`."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID

import django
import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.test.utils import override_settings
from django.utils import timezone as django_timezone

from sync_kit import ConfigurationError, InvalidPayloadError, Jobs, Worker
from sync_kit_django import TasksBackend, _registry
from sync_kit_django.backend import SyncKitTask
from sync_kit_django.backend.library import (
    NAME,
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    signals,
    task_backends,
)
from sync_kit_django.errors import ReturnValueError
from tests.jobs.conftest import until
from tests.on_django import chores as chores_here
from tests.on_django.working import default_backend, done, ended, in_status, smuggle, true, working

if TYPE_CHECKING or django.VERSION < (6,):
    from django_tasks import default_task_backend, task
    from django_tasks.exceptions import TaskResultMismatch
else:
    from django.tasks import default_task_backend, task
    from django.tasks.exceptions import TaskResultMismatch

pytestmark = pytest.mark.anyio

chores: Any = chores_here  # the options that our tasks have are not in the types of the library

READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
FAILED, SUCCESSFUL = TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL
BACKEND = "sync_kit_django.TasksBackend"


@pytest.fixture(autouse=True)
def forgotten():
    """Nothing has run yet."""
    chores.ran.clear()


@pytest.fixture
def backend() -> Any:
    return default_backend()


# what is enqueued


async def test_aenqueue_returns_a_result_that_is_ready():
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    result = await chores.add.aenqueue(1, b=2)
    assert (result.status, result.is_finished, result.attempts) == (READY, False, 0)
    assert (result.args, result.kwargs, result.backend) == ([1], {"b": 2}, "default")
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert (result.errors, result.worker_ids) == ([], [])
    assert before <= result.enqueued_at <= datetime.now(timezone.utc)
    assert result.task == chores.add
    assert 0 < len(result.id) < 64
    with pytest.raises(ValueError, match="Task has not finished yet"):
        assert result.return_value


async def test_awaiting_uses_no_thread(backend, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a thread is used")

    monkeypatch.setattr(SyncToAsync, "__call__", refuse)
    result = await chores.add.aenqueue(1)
    await result.arefresh()
    assert (await backend.aget_result(result.id)).id == result.id
    assert (await done(await chores.add_async.aenqueue(1, 2))).return_value == 3


def test_enqueue_does_the_same_in_code_without_an_event_loop():
    result = chores.add.enqueue(1, b=2)
    again = chores.add.get_result(result.id)
    assert (again.id, again.status, again.args, again.kwargs) == (result.id, READY, [1], {"b": 2})
    assert again.enqueued_at == result.enqueued_at
    assert again.task == chores.add


async def test_enqueue_in_an_event_loop_says_what_to_await():
    with pytest.raises(ConfigurationError, match=r"await tests.on_django.chores.add.aenqueue\(...\)"):
        chores.add.enqueue(1)
    with pytest.raises(ConfigurationError, match=r"await aget_result\(...\)"):
        chores.add.get_result("01234567-89ab-7def-8123-456789abcdef")


@pytest.mark.parametrize("odd", [object(), datetime.now(timezone.utc), {1, 2}, b"\xff", float("nan"), float("inf")])
async def test_arguments_that_are_no_json_are_refused_and_nothing_is_sent(backend, odd):
    for args, kwargs in [((odd,), {}), ((), {"what": odd}), (([{"deep": odd}],), {})]:
        with pytest.raises((TypeError, ValueError)):
            await chores.remember.aenqueue(*args, **kwargs)
    assert [(await queue.counts()).waiting for queue in backend.task_queues] == [0, 0]


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        ((1, 2), [1, 2]),
        (b"bytes", "bytes"),
        ({1: "a"}, {"1": "a"}),
        ("\x00\n*", "\x00\n*"),
        ("**********", "**********"),
        (10**30, 10**30),
        (1.5, 1.5),
    ],
)
async def test_arguments_arrive_as_json_has_them_and_the_result_says_so_at_once(given, arrives):
    result = await chores.remember.aenqueue(given)
    assert result.args == [arrives]
    await done(result)
    assert (result.return_value, chores.ran) == (arrives, [arrives])
    assert (await chores.remember.aget_result(result.id)).args == [arrives]


async def test_arguments_that_are_too_large_are_refused():
    with pytest.raises(InvalidPayloadError, match="max_payload"):
        await chores.remember.aenqueue("x" * 200_000)


# what runs


@pytest.mark.parametrize("function", [chores.add, chores.add_async])
async def test_a_task_runs_and_its_result_says_all_of_it(function):
    result = await function.aenqueue(1, b=2)
    async with working() as worker:
        await ended(result)
    assert (result.status, result.is_finished, result.return_value) == (SUCCESSFUL, True, 3)
    assert (result.attempts, result.worker_ids, result.errors) == (1, [worker.id], [])
    assert result.enqueued_at <= result.finished_at
    assert result.started_at == result.last_attempted_at <= result.finished_at


async def test_a_task_can_be_called_directly():
    assert chores.add.call(1, 2) == 3
    assert await chores.add_async.acall(1, 2) == 3
    assert await chores.add.acall(1, 2) == 3


async def test_a_plain_function_runs_on_a_thread():
    assert (await done(await chores.tell_thread.aenqueue())).return_value is False


@pytest.mark.parametrize("function", [chores.fail, chores.fail_async])
async def test_a_task_that_raises_has_failed_with_its_error(function):
    result = await function.aenqueue("no time")
    async with working() as worker:
        await ended(result)
    assert (result.status, result.is_finished, result.attempts, result.worker_ids) == (FAILED, True, 1, [worker.id])
    [error] = result.errors
    assert error.exception_class is chores.Busy
    assert error.exception_class_path == "tests.on_django.chores.Busy"
    assert error.traceback.startswith("Traceback (most recent call last)")
    assert "no time" in error.traceback
    assert "chores.py" in error.traceback
    assert "sync_kit" not in error.traceback  # it begins with the function
    with pytest.raises(ValueError, match="Task failed"):
        assert result.return_value


async def test_an_exit_in_a_task_is_an_error_of_the_task():
    result = await done(await chores.exit_now.aenqueue())
    assert (result.status, result.errors[0].exception_class) == (FAILED, SystemExit)


async def test_arguments_that_do_not_fit_the_function_fail_the_task():
    result = await done(await chores.add.aenqueue(1, 2, 3))
    assert result.errors[0].exception_class is TypeError


async def test_a_return_value_that_is_no_json_fails_the_task():
    result = await done(await chores.make_odd.aenqueue())
    assert (result.status, result.errors[0].exception_class) == (FAILED, ReturnValueError)
    assert issubclass(ReturnValueError, TypeError)
    assert "Unsupported type" in result.errors[0].traceback


@pytest.mark.parametrize("function", [chores.make_odd, chores.make_much])
async def test_a_task_that_did_its_work_is_not_run_again_for_what_it_returned(function):
    args = [200_000] if function is chores.make_much else []
    assert (await done(await function.using(retries=3).aenqueue(*args))).attempts == 1


async def test_a_return_value_that_is_too_large_fails_the_task_and_says_what_to_do():
    result = await done(await chores.make_much.aenqueue(200_000))
    assert (result.status, result.errors[0].exception_class) == (FAILED, ReturnValueError)
    assert "return its key" in result.errors[0].traceback


async def test_a_result_is_running_while_it_runs():
    result = await chores.sleep.aenqueue(30)
    async with working(drain_timeout=0) as worker:
        await until(true(lambda: chores.ran == ["sleeps"]))
        await result.arefresh()
        assert (result.status, result.is_finished, result.finished_at) == (RUNNING, False, None)
        assert (result.worker_ids, result.attempts) == ([worker.id], 1)
        assert result.started_at == result.last_attempted_at is not None
        with pytest.raises(ValueError, match="Task has not finished yet"):
            assert result.return_value


async def test_a_shutdown_hands_a_task_back_and_is_no_attempt():
    result = await chores.sleep.aenqueue(0.3)
    async with working(drain_timeout=0):
        await until(true(lambda: chores.ran == ["sleeps"]))
    await result.arefresh()
    assert (result.status, result.attempts, result.errors) == (READY, 0, [])
    await done(result)
    assert (result.status, result.attempts, result.errors, result.return_value) == (SUCCESSFUL, 1, [], "slept")


# contexts


@pytest.mark.parametrize("function", [chores.describe, chores.describe_async])
async def test_a_task_that_takes_its_context_is_given_it(function):
    result = await done(await function.aenqueue("this"))
    assert result.return_value == {"attempt": 1, "id": result.id, "what": "this"}
    [seen] = chores.ran
    assert (seen.status, seen.args, seen.attempts) == (RUNNING, ["this"], 1)
    assert seen.worker_ids == result.worker_ids
    assert seen.task == function
    assert seen.started_at is not None
    assert seen.enqueued_at == result.enqueued_at


def test_a_context_must_be_taken_by_the_first_argument():
    with pytest.raises(InvalidTask, match="first argument of 'context'"):
        SyncKitTask(**_plain(takes_context=True))


# results, later and elsewhere


async def test_a_result_is_found_by_its_id_from_the_task_and_from_the_backend(backend):
    result = await done(await chores.add.aenqueue(1, 2))
    for found in (await chores.add.aget_result(result.id), await backend.aget_result(result.id)):
        assert found == result
        assert found.return_value == 3
    assert await sync_to_async(chores.add.get_result)(result.id) == result
    assert await sync_to_async(backend.get_result)(result.id) == result
    assert await default_task_backend.aget_result(result.id) == result


async def test_a_result_is_refreshed_by_hand_alone():
    result = await chores.add.aenqueue(1, 2)
    await done(await chores.add.aget_result(result.id))
    assert result.status == READY
    await sync_to_async(result.refresh)()
    assert (result.status, result.return_value) == (SUCCESSFUL, 3)


async def test_an_id_may_have_been_in_a_uuid_field(backend):
    result = await chores.add.aenqueue(1)
    assert (await chores.add.aget_result(UUID(result.id))).id == result.id
    assert (await sync_to_async(backend.get_result)(UUID(result.id))).id == result.id


@pytest.mark.parametrize("odd", ["", " ", "123", "ü", "\ud800", "01234567-89ab-7def-8123-456789abcdef", 123, None])
async def test_a_result_that_does_not_exist_says_so(backend, odd):
    for look in (backend.aget_result, chores.add.aget_result):
        with pytest.raises(TaskResultDoesNotExist):
            await look(odd)
    with pytest.raises(TaskResultDoesNotExist):
        await sync_to_async(backend.get_result)(odd)


async def test_a_result_of_another_task_is_a_mismatch():
    result = await chores.add.aenqueue(1, 2)
    with pytest.raises(TaskResultMismatch, match="chores.add"):
        await chores.fail.aget_result(result.id)
    with pytest.raises(TaskResultMismatch, match="chores.add"):
        await sync_to_async(chores.fail.get_result)(result.id)


async def test_results_of_both_queues_are_found(backend):
    result = await chores.send_mail.aenqueue("ann@example.com")
    found = await backend.aget_result(result.id)
    assert (found.task, found.task.queue_name, found.task.priority) == (chores.send_mail, "mail", 7)


# using


async def test_using_makes_another_task_and_leaves_the_first():
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    changed = chores.add.using(priority=5, queue_name="mail", run_after=later, backend="default")
    assert (changed.priority, changed.queue_name, changed.run_after, changed.backend) == (5, "mail", later, "default")
    assert (chores.add.priority, chores.add.queue_name, chores.add.run_after) == (0, "default", None)
    assert (changed.func, changed.name, changed.module_path) == (chores.add.func, "add", "tests.on_django.chores.add")
    result = await changed.aenqueue(1)
    found = await chores.add.aget_result(result.id)
    assert (found.task.priority, found.task.queue_name) == (5, "mail")
    assert abs(found.task.run_after - later) < timedelta(milliseconds=1)
    assert found.status == READY


def test_a_task_cannot_be_changed():
    with pytest.raises(AttributeError):
        chores.add.priority = 3


async def test_a_task_that_is_to_run_after_a_time_runs_not_before():
    due = datetime.now(timezone.utc) + timedelta(seconds=0.5)
    result = await done(await chores.add.using(run_after=due).aenqueue(1))
    assert result.started_at >= due - timedelta(milliseconds=2)


async def test_a_time_that_has_passed_is_now():
    for past in (datetime.now(timezone.utc) - timedelta(days=1), datetime.min.replace(tzinfo=timezone.utc)):
        assert (await done(await chores.add.using(run_after=past).aenqueue(1))).return_value == 1


def test_a_time_that_nobody_waits_for_is_refused_by_using():
    with pytest.raises(InvalidTask, match="later than the year 2199"):
        chores.add.using(run_after=datetime.max.replace(tzinfo=timezone.utc))


async def test_a_priority_is_a_whole_number_as_django_has_it():
    result = await chores.add.using(priority=5.0).aenqueue(1)
    assert (await chores.add.aget_result(result.id)).task.priority == 5


def test_a_naive_time_is_refused_where_times_are_aware():
    with pytest.raises(InvalidTask, match="aware"):
        chores.add.using(run_after=datetime.now())


async def test_naive_times_are_those_of_the_project_without_time_zones():
    with override_settings(USE_TZ=False):
        later = django_timezone.now() + timedelta(hours=1)
        assert later.tzinfo is None
        result = await chores.add.using(run_after=later).aenqueue(1)
        found = await chores.add.aget_result(result.id)
        assert abs(found.task.run_after - later) < timedelta(milliseconds=1)
        assert (result.enqueued_at.tzinfo, found.enqueued_at) == (None, result.enqueued_at)


async def test_higher_priorities_run_first_and_equal_ones_in_order():
    for priority in (-100, 0, 100, 5):
        for number in (1, 2):
            await chores.remember_async.using(priority=priority).aenqueue([priority, number])
    async with working(concurrency=1):
        await until(true(lambda: len(chores.ran) == 8))
    assert chores.ran == [[priority, number] for priority in (100, 5, 0, -100) for number in (1, 2)]


@pytest.mark.parametrize("priority", [101, -101, 1.5])
def test_priorities_are_whole_numbers_within_bounds(priority):
    with pytest.raises(InvalidTask, match="whole number between -100 and 100"):
        chores.add.using(priority=priority)


def test_queues_that_the_backend_does_not_have_are_refused():
    with pytest.raises(InvalidTask, match="Queue 'letters' is not valid for backend"):
        chores.add.using(queue_name="letters")


def test_backends_that_do_not_exist_are_refused():
    with pytest.raises(Exception, match="unknown"):
        chores.add.using(backend="unknown")


# what is no task


def test_tasks_are_functions_of_a_module():
    def inner() -> None: ...

    for odd in (inner, lambda: None, len):
        with pytest.raises(InvalidTask, match="module level"):
            task(odd)


async def test_a_task_that_a_worker_could_not_find_is_refused_before_it_is_sent():
    with pytest.raises(InvalidTask, match="chores.hidden is no task"):
        await chores.hidden_task.aenqueue()


async def test_a_task_of_the_script_that_was_started_is_refused(monkeypatch):
    def tell() -> None: ...

    tell.__module__, tell.__qualname__ = "__main__", "tell"
    monkeypatch.setattr(sys.modules["__main__"], "tell", task(tell), raising=False)
    with pytest.raises(InvalidTask, match="move it into a module"):
        await sys.modules["__main__"].tell.aenqueue()


async def test_a_job_with_arguments_that_are_none_has_failed_and_can_be_looked_at(backend):
    path = "tests.on_django.chores.add"
    job_id = await smuggle(backend.task_queues[0], path, {"args": 3, "kwargs": "x", "run_after": "now", "more": 1})
    result = await done(await backend.aget_result(job_id))
    assert (result.status, result.args, result.kwargs) == (FAILED, [], {})
    assert [error.exception_class.__name__ for error in result.errors] == ["InvalidPayloadError"]


async def test_a_job_for_anything_but_a_task_fails_and_is_not_called(backend):
    queue = backend.task_queues[0]
    job_id = await smuggle(queue, "tests.on_django.chores.plain_function")
    async with working():
        job = await until(in_status(queue, job_id, "failed"))
    assert "chores.plain_function is no task" in job.error
    assert chores.ran == []


async def test_a_job_of_code_that_this_worker_does_not_have_waits_for_one_that_has_it(backend, caplog):
    queue = backend.task_queues[0]
    job_id = await smuggle(queue, "tests.on_django.chores_of_tomorrow.add")
    async with working():
        await until(in_status(queue, job_id, "parked"))
    assert "chores_of_tomorrow" in caplog.text
    with pytest.raises(InvalidTask, match="cannot be imported"):
        await backend.aget_result(job_id)


# signals


async def test_signals_are_sent_when_a_task_is_enqueued_started_and_finished(listening):
    result = await chores.add.aenqueue(1, 2)
    assert listening == [("task_enqueued", TasksBackend, result.id, READY)]
    await done(result)
    assert listening[1:] == [
        ("task_started", TasksBackend, result.id, RUNNING),
        ("task_finished", TasksBackend, result.id, SUCCESSFUL),
    ]


@pytest.mark.parametrize("function", [chores.fail, chores.fail_async])
async def test_the_signal_of_a_task_that_failed_says_so(listening, function):
    result = await done(await function.aenqueue("no time"))
    assert listening[1:] == [
        ("task_started", TasksBackend, result.id, RUNNING),
        ("task_finished", TasksBackend, result.id, FAILED),
    ]


async def test_a_finished_result_in_a_signal_is_complete():
    kept: list[Any] = []

    def keep(task_result: Any, **_: Any) -> None:
        kept.append(task_result)

    signals.task_finished.connect(keep)
    try:
        good, bad = await chores.sleep.aenqueue(0.01), await chores.fail.aenqueue("no time")
        async with working():
            await ended(good)
            await ended(bad)
    finally:
        signals.task_finished.disconnect(keep)
    by_id = {result.id: result for result in kept}
    assert by_id[good.id].return_value == "slept"
    for ended_here in kept:
        assert ended_here.started_at == ended_here.last_attempted_at < ended_here.finished_at
    assert by_id[bad.id].errors == bad.errors
    assert by_id[bad.id].worker_ids == bad.worker_ids


@pytest.mark.parametrize("function", [chores.add, chores.add_async])
async def test_receivers_that_raise_hurt_no_job(function, caplog):
    def broken(**_: Any) -> None:
        raise RuntimeError("the receiver is broken")

    async def broken_too(**_: Any) -> None:
        raise RuntimeError("the receiver is broken, too")

    told = (signals.task_enqueued, signals.task_started, signals.task_finished)
    for signal in told:
        signal.connect(broken)
        signal.connect(broken_too)
    try:
        result = await done(await function.aenqueue(1, 2))
        assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 3, 1)
    finally:
        for signal in told:
            assert signal.disconnect(broken)
            assert signal.disconnect(broken_too)
        gc.collect()  # the thread of `async_to_sync` ends with what holds it, such as the traceback of an error


def test_enqueue_sends_its_signal_too(listening):
    result = chores.add.enqueue(1)
    assert listening == [("task_enqueued", TasksBackend, result.id, READY)]


async def test_the_log_of_the_library_says_what_happened_with_the_error(caplog):
    with caplog.at_level(logging.DEBUG, logger=NAME):
        result = await done(await chores.fail_async.aenqueue("no time"))
    said = [record for record in caplog.records if record.name == NAME and result.id in record.getMessage()]
    assert [record.levelname for record in said] == ["DEBUG", "INFO", "ERROR"]
    assert said[-1].exc_info[0] is chores.Busy


@pytest.fixture
def listening():
    """What the signals say."""
    heard: list[tuple[str, Any, str, Any]] = []
    receivers = {}
    for name in ("task_enqueued", "task_started", "task_finished"):

        def hear(sender: Any, task_result: Any, _name: str = name, **_: Any) -> None:
            heard.append((_name, sender, task_result.id, task_result.status))

        receivers[name] = hear
        getattr(signals, name).connect(hear)
    yield heard
    for name, receiver in receivers.items():
        getattr(signals, name).disconnect(receiver)


# the backend


def test_the_backend_says_what_it_supports(backend):
    assert type(backend) is TasksBackend
    assert backend.task_class is SyncKitTask
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority
    assert backend.queues == {"default", "mail"}


def test_the_queues_are_known_to_workers_without_any_import_of_tasks(backend):
    names = _registry.queues_by_name()
    assert {"tasks.default", "tasks.mail"} <= set(names)
    assert backend.task_queues == [names["tasks.default"], names["tasks.mail"]]


async def test_each_thread_has_a_backend_and_all_have_the_same_queues(backend):
    other = await sync_to_async(lambda: TasksBackend("default", backend_settings()), thread_sensitive=False)()
    assert other is not backend
    assert other.task_queues == backend.task_queues


async def test_jobs_of_the_same_name_do_not_mix_with_the_queues_of_tasks(backend, kit):
    jobs = Jobs("default", kit=kit)
    await chores.add.aenqueue(1)
    assert (await jobs.counts()).waiting == 0
    assert (await backend.task_queues[0].counts()).waiting == 1


async def test_two_backends_with_queues_of_the_same_name_do_not_mix():
    settings = {"default": backend_settings(), "reports": {"BACKEND": BACKEND}, "a.b": {"BACKEND": BACKEND}}
    with override_settings(TASKS=settings):
        result = await chores.add.using(backend="reports").aenqueue(1)
        assert result.backend == "reports"
        reports: Any = task_backends["reports"]
        with pytest.raises(TaskResultDoesNotExist):
            await task_backends["default"].aget_result(result.id)
        found = await task_backends["reports"].aget_result(result.id)
        assert (found.id, found.backend, found.task.backend) == (result.id, "reports", "reports")
        assert {"tasks.default", "tasks-reports.default", "tasks-a%2Eb.default"} <= set(_registry.queues_by_name())
        async with Worker(*reports.task_queues, poll_interval=0.05):
            await ended(found)
        assert found.return_value == 1
    assert "tasks-reports.default" not in _registry.queues_by_name()


async def test_a_task_keeps_its_name_where_people_look(backend):
    result = await chores.add.aenqueue(1)
    [job] = await backend.task_queues[0].list(status="waiting", task="tests.on_django.chores.add")
    assert (job.id, job.task) == (result.id, "tests.on_django.chores.add")


@pytest.mark.skipif(django.VERSION < (6, 1), reason="tasks can be pickled from Django 6.1 on")
def test_a_task_survives_pickling_with_its_options():
    changed = chores.add.using(retries=3, timeout=None)
    assert pickle.loads(pickle.dumps(changed)) == changed


def test_a_task_can_be_copied_with_its_options():
    changed = chores.add.using(retries=3, timeout=None)
    assert copy.copy(changed) == changed


def backend_settings() -> Any:
    from django.conf import settings

    return settings.TASKS["default"]


def _plain(**changes: Any) -> dict[str, Any]:
    own = {name: getattr(chores.add, name) for name in ("func", "priority", "backend", "queue_name", "run_after")}
    return {**own, **changes}
