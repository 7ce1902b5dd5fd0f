"""Tasks of django.tasks, as a project has them; in no `tasks.py`, so nobody imports this module before it is needed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import django

from sync_kit import current_job

if TYPE_CHECKING or django.VERSION < (6,):
    from django_tasks import task
else:
    from django.tasks import task

ran: list[Any] = []
"""What ran in this process, in order."""


class Busy(Exception):
    """Somebody has no time."""


@task
def add(a: int, b: int = 0) -> int:
    """Adds."""
    return a + b


@task()
async def add_async(a: int, b: int = 0) -> int:
    await asyncio.sleep(0)
    return a + b


@task(queue_name="mail", priority=7)
def send_mail(to: str) -> None:
    ran.append(to)


@task
def remember(what: Any) -> Any:
    ran.append(what)
    return what


@task
async def remember_async(what: Any) -> Any:
    ran.append(what)
    return what


@task(takes_context=True)
def describe(context: Any, what: str) -> dict[str, Any]:
    ran.append(context.task_result)
    return {"attempt": context.attempt, "id": context.task_result.id, "what": what}


@task(takes_context=True)
async def describe_async(context: Any, what: str) -> dict[str, Any]:
    ran.append(context.task_result)
    return {"attempt": context.attempt, "id": context.task_result.id, "what": what}


@task(takes_context=True)
def busy_until(context: Any, attempt: int) -> int:
    """Raises until its third run, say."""
    ran.append([error.exception_class_path for error in context.task_result.errors])
    if context.attempt < attempt:
        raise Busy(f"not in run {context.attempt}")
    return int(context.attempt)


@task
def fail(why: str) -> None:
    raise Busy(why)


@task
async def fail_async(why: str) -> None:
    raise Busy(why)


@task
async def sleep(seconds: float) -> str:
    ran.append("sleeps")
    await asyncio.sleep(seconds)
    return "slept"


@task
def make_odd() -> object:
    return object()


@task
def make_much(size: int) -> str:
    return "x" * size


@task
def exit_now() -> None:
    raise SystemExit(3)


@task
def tell_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def plain_function() -> None:
    """No task."""
    ran.append("a plain function")


def hidden() -> None:
    """A function that a task of another name has."""


hidden_task = task(hidden)


@task(takes_context=True)
def die_until(context: Any, attempt: int) -> int:
    """Takes its worker along."""
    if context.attempt < attempt:
        os.kill(os.getpid(), signal.SIGKILL)
    return int(context.attempt)


@task
def count_orders() -> int:
    from tests.on_django.shop.models import Order

    return Order.objects.count()


@task
def log_a_line() -> None:
    job = current_job()
    assert job is not None
    job.log("a line of the task's own")
    job.log("run 1 on a host, begun yesterday: with pleasure")
    job.log("run 7 on host, begun yesterday: with pleasure")
    job.log("run 7 on host, begun 2026-13-01T00:00: x")
    raise Busy("after a line")


@task
def by_number(number: int, note: str = "") -> int:
    return number


@task
def write_order(number: str) -> None:
    from tests.on_django.shop.models import Order

    Order.objects.create(number=number)
