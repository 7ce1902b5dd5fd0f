"""`OPTIONS` of the backend, and those of single tasks: what they do, and what is said when they are wrong."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
import time
from typing import Any

import django
import pytest
from django.core.checks import run_checks
from django.test.utils import override_settings

from sync_kit import Backoff, ConfigurationError, DuplicateJobError
from sync_kit_django.backend import SyncKitTask
from sync_kit_django.backend.library import NAME, InvalidTask, TaskResultDoesNotExist, TaskResultStatus, task_backends
from sync_kit_django.backend.options import UNSET
from tests.on_django import chores as chores_here
from tests.on_django.working import default_backend, done, ended, with_options, working

pytestmark = pytest.mark.anyio

chores: Any = chores_here
task: Any = importlib.import_module(NAME).task
BACKEND = "sync_kit_django.TasksBackend"
WHERE = 'TASKS["default"]["OPTIONS"]'
TAKES_OPTIONS = django.VERSION < (6,) or django.VERSION >= (6, 1)
"""Whether `@task` takes what the class of the task takes."""


@pytest.fixture(autouse=True)
def forgotten():
    """Nothing has run yet."""
    chores.ran.clear()


async def job_of(result: Any) -> Any:
    for queue in default_backend().task_queues:
        if (job := await queue.get(result.id)) is not None:
            return job
    raise AssertionError("it is not there")


# what they do


async def test_options_of_the_backend_hold_for_all_of_its_tasks():
    with with_options(retries=3, timeout=None):
        job = await job_of(await chores.add.aenqueue(1))
        assert (job.max_retries, job.timeout) == (3, None)


async def test_without_options_tasks_are_not_retried_and_may_run_for_thirty_seconds():
    job = await job_of(await chores.add.aenqueue(1))
    assert (job.max_retries, job.timeout) == (0, 30)


async def test_options_of_one_task_go_before_those_of_the_backend_and_using_before_both():
    with with_options(retries=3, timeout=9, tasks={"tests.on_django.chores.add": {"timeout": 60}}):
        assert [(job.max_retries, job.timeout) for job in [await job_of(await chores.add.aenqueue(1))]] == [(3, 60)]
        assert (await job_of(await chores.fail.aenqueue("x"))).timeout == 9
        job = await job_of(await chores.add.using(retries=0, timeout=None).aenqueue(1))
        assert (job.max_retries, job.timeout) == (0, None)


async def test_using_keeps_what_it_does_not_name():
    changed = chores.add.using(retries=2).using(priority=3).using(timeout=5)
    assert (changed.retries, changed.priority, changed.timeout, changed.key) == (2, 3, 5, UNSET)
    assert chores.add.retries is UNSET


@pytest.mark.skipif(not TAKES_OPTIONS, reason="@task of Django 6.0 takes no further arguments")
def test_the_decorator_takes_options():
    made = task(retries=3, timeout=60, key=lambda number, note="": str(number), backoff=Backoff(base=2))(
        chores.by_number.func
    )
    assert type(made) is SyncKitTask
    assert (made.retries, made.timeout, made.backoff, made.priority) == (3, 60, Backoff(base=2), 0)
    with pytest.raises(TypeError, match="retrys"):
        task(retrys=3)(chores.by_number.func)
    with pytest.raises(InvalidTask, match="retries must be a whole number, not 'many'"):
        task(retries="many")(chores.by_number.func)


async def test_a_task_of_the_module_that_says_how_it_runs_is_run_so(monkeypatch):
    said = dataclasses.replace(chores.fail, retries=1, backoff=Backoff(base=0.3, jitter=0))
    monkeypatch.setattr(chores, "fail", said)
    with with_options(keep=4000):  # a queue that has not heard of the task
        began = time.monotonic()
        result = await done(await said.aenqueue("no time"))
        assert result.attempts == 2
        assert time.monotonic() - began >= 0.3


async def test_a_backoff_can_be_said_in_the_settings_without_an_import():
    with with_options(retries=1, backoff={"base": 0.3, "jitter": 0}):
        began = time.monotonic()
        assert (await done(await chores.fail.aenqueue("no time"))).attempts == 2
        assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("options", [{"give_up_on": [chores.Busy]}, {"retry_for": OSError}])
async def test_errors_that_are_not_worth_a_retry_fail_at_once(options):
    with with_options(retries=5, **options):
        assert (await done(await chores.fail.aenqueue("no time"))).attempts == 1


async def test_a_return_value_is_kept_as_long_as_the_task_unless_it_is_to_go_earlier():
    with with_options(keep=7200) as backend:
        kept = await done(await chores.add.aenqueue(1))
        gone = await done(await chores.add.using(result_ttl=0).aenqueue(1))
        assert (kept.status, kept.return_value) == (TaskResultStatus.SUCCESSFUL, 1)
        assert (gone.status, gone.return_value) == (TaskResultStatus.SUCCESSFUL, None)
        [queue, _] = backend.task_queues
        assert queue.keep.completed == 7200
        assert await queue.result(kept.id) == {"return_value": 1, "worker": kept.worker_ids[0]}


async def test_a_task_that_is_not_kept_any_longer_does_not_exist():
    with with_options(keep=0.05):
        result = await chores.add.aenqueue(1)
        async with working():
            with pytest.raises(TaskResultDoesNotExist):
                for number in range(200):  # what ends sweeps up what has ended
                    await ended(await chores.add.aenqueue(number))
                    await default_backend().aget_result(result.id)


# unique keys


async def test_a_second_job_with_a_key_is_the_first_one():
    keyed = chores.by_number.using(key=lambda number, note="": f"number {number}")
    first = await keyed.aenqueue(1, note="first")
    second = await keyed.aenqueue(1, note="second")
    other = await keyed.aenqueue(2)
    assert (second.id, second.kwargs, second.enqueued_at) == (first.id, {"note": "first"}, first.enqueued_at)
    assert other.id != first.id
    await done(first)
    assert (await keyed.aenqueue(1)).id != first.id


def test_the_same_in_code_without_an_event_loop():
    keyed = chores.by_number.using(key="only one")
    assert keyed.enqueue(1).id == keyed.enqueue(2).id


async def test_a_second_job_with_a_key_may_be_refused_or_take_the_place_of_the_first():
    first = await chores.by_number.using(key="k").aenqueue(1)
    with pytest.raises(DuplicateJobError):
        await chores.by_number.using(key="k", on_duplicate="raise").aenqueue(2)
    second = await chores.by_number.using(key="k", on_duplicate="replace").aenqueue(2)
    assert second.id != first.id
    await first.arefresh()
    assert first.status == TaskResultStatus.FAILED


async def test_a_key_can_be_said_in_the_settings():
    by_note = {"tests.on_django.chores.by_number": {"key": lambda number, note="": note}}
    with with_options(tasks=by_note):
        first = await chores.by_number.aenqueue(1, note="a")
        assert (await chores.by_number.aenqueue(2, note="a")).id == first.id


# what is said when they are wrong


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retrys": 3}, f"{WHERE} has no option 'retrys': did you mean 'retries'?"),
        ({"key": "k"}, f"{WHERE} has no option 'key'"),
        ({"retries": -1}, f'{WHERE}["retries"] must be from 0'),
        ({"retries": "3"}, f"{WHERE}[\"retries\"] must be a whole number, not '3'"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"result_ttl": "1h"}, f'{WHERE}["result_ttl"] must be seconds'),
        ({"keep": -1}, f'{WHERE}["keep"] must be at least 0'),
        ({"max_payload": 0}, "max_payload must be from 1"),
        ({"on_commit": "yes"}, f'{WHERE}["on_commit"] must be True or False'),
        ({"backoff": 3}, f'{WHERE}["backoff"] must be a Backoff or a dict'),
        ({"backoff": {"bas": 3}}, f"{WHERE}[\"backoff\"] has no option 'bas': did you mean 'base'?"),
        ({"backoff": {"base": -1}}, "base must be at least 0"),
        ({"give_up_on": ["ValueError"]}, f'{WHERE}["give_up_on"] must be exception types'),
        ({"tasks": ["shop.tasks.add"]}, f'{WHERE}["tasks"] must be a dict'),
        (
            {"tasks": {"tests.on_django.chores.add": {"timeot": 3}}},
            f"""{WHERE}["tasks"]["tests.on_django.chores.add"] has no option 'timeot': did you mean 'timeout'?""",
        ),
        ({"tasks": {"tests.on_django.chores.add": {"on_duplicate": "raise"}}}, "give a key=, too"),
        ({"tasks": {"tests.on_django.chores.ad": {}}}, '["tests.on_django.chores.ad"] is about no task'),
        ({"tasks": {"tests.on_django.chores.plain_function": {}}}, "plain_function is no task"),
    ],
)
def test_a_mistake_in_the_options_is_found_by_the_system_checks(options, said):
    with with_options(**options) as backend:
        assert chores.add.using(priority=1).priority == 1  # code is imported all the same: the checks come later
        assert [said in error.msg for error in checked(backend)] == [True]


def test_all_mistakes_are_found_at_once():
    with with_options(retries=-1, keep=-1, tasks={"tests.on_django.chores.add": {"timeot": 3}}) as backend:
        assert len(checked(backend)) == 3


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        ([], "is empty, which lets tasks name any queue"),
        ("default", "must be a list of names"),
        ([""], "must be a list"),
        (3, "must be a list"),
        (None, "must be a list"),
    ],
)
def test_queues_must_be_named(queues, said):
    with override_settings(TASKS={"default": {"BACKEND": BACKEND, "QUEUES": queues}}):
        assert [said in error.msg for error in checked(default_backend())] == [True]


def test_options_that_are_right_are_no_news():
    with with_options(retries=3, timeout=60, backoff=Backoff(), tasks={"tests.on_django.chores.add": {"retries": 1}}):
        assert checked(default_backend()) == []
    assert checked(default_backend()) == []


def test_manage_py_check_says_so():
    with with_options(retrys=3):
        assert [error.id for error in run_checks() if "retrys" in error.msg] == ["sync_kit.E030"]


async def test_nothing_is_sent_with_options_that_are_wrong():
    with with_options(retrys=3), pytest.raises(ConfigurationError, match="did you mean 'retries'"):
        await chores.add.aenqueue(1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": -1}, "retries must be from 0"),
        ({"timeout": "60"}, "timeout must be seconds"),
        ({"on_duplicate": "raise"}, "give a key=, too"),
        ({"key": ""}, "key must be a non-empty str"),
        ({"result_ttl": -1}, "result_ttl must be at least 0"),
    ],
)
def test_a_mistake_in_using_makes_no_task(options, said):
    with pytest.raises(InvalidTask, match=said):
        chores.add.using(**options)


def test_an_option_that_using_does_not_have_is_refused_with_a_guess():
    with pytest.raises(ConfigurationError, match="using has no option 'retrys': did you mean 'retries'"):
        chores.add.using(retrys=3)


def checked(backend: Any) -> list[Any]:
    errors = [*backend.check()]
    assert all(error.hint and error.id in ("sync_kit.E030", "sync_kit.E031") for error in errors)
    return errors


# where there is no library


def ran(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)


@pytest.mark.skipif(django.VERSION >= (6,), reason="Django 6 has django.tasks")
def test_without_django_tasks_the_error_says_what_to_install():
    code = "import sys; sys.modules['django_tasks'] = None; import sync_kit_django; sync_kit_django.TasksBackend"
    told = ran(code)
    assert "ConfigurationError: sync_kit_django.TasksBackend needs django.tasks" in told.stderr
    assert 'pip install "django-tasks>=0.12"' in told.stderr


def test_who_does_not_use_the_backend_does_not_import_the_library():
    code = (
        "import sys, sync_kit_django; print([m for m in sys.modules if m.startswith(('django_tasks', 'django.tasks'))])"
    )
    told = ran(code)
    assert told.stdout.strip() == "[]", told.stdout + told.stderr


def test_other_backends_are_left_alone():
    immediate = {"BACKEND": f"{NAME}.backends.immediate.ImmediateBackend"}
    missing = {"BACKEND": "no.such.backend"}
    with override_settings(TASKS={"default": immediate, "odd": missing}):
        assert type(task_backends["default"]).__name__ == "ImmediateBackend"
