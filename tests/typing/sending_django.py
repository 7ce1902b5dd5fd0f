"""What type checkers must say of `send` and its kin in Django: each line that is marked is an error, and no other is.

Nothing here runs; tests/typing/test_typing.py compares it with what mypy and pyright find.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from pydantic import BaseModel
from typing_extensions import assert_type

from sync_kit import Job, Schedule
from sync_kit_django import Jobs, Receipt
from sync_kit_django.testing import SentJob, assert_not_sent, assert_sent, override_jobs

jobs = Jobs("typed", database="default", on_commit=True)


class Email(BaseModel):
    to: str
    copies: int = 0


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@jobs.task(schema=Email, retries=2, timeout=None, give_up_on=ValueError)
def email(payload: Email) -> None: ...


@jobs.task(schema=Point)
async def point(payload: Point, job: Job) -> None: ...


@jobs.task(schema=int)
def number(payload: int) -> None: ...


@jobs.task(schema=list[int])
async def numbers(payload: list[int]) -> None: ...


@jobs.task(schema=int | str)
async def either(payload: int | str, job: Job) -> None: ...


@jobs.task(schema=Literal["on", "off"])
def switch(payload: Literal["on", "off"]) -> None: ...


@jobs.task(schema=Any)
def anything_at_all(payload: Any) -> None: ...


def plain_code() -> None:
    assert_type(email.send(to="a", copies=1), Receipt)
    email.send(Email(to="a"))
    email.send_on_commit(to="a")
    assert_type(email.send_many([Email(to="a")]), list[Receipt])
    email.send_many_on_commit(Email(to=name) for name in "abc")
    email.using(delay=1, on_commit=False, database="other").send(to="a")
    email.using(timeout=None).send_on_commit(Email(to="a"))
    point.send(1, y=2)
    point.send(Point(1))
    number.send(1)
    numbers.send([1])
    either.send("a")
    switch.send("on")
    assert_type(email.send(to="a").duplicate, bool | None)
    assert_type(jobs.get("a"), Job | None)
    assert_type(jobs.schedules.list(), list[Schedule])

    email.send()  # expect-error
    email.send(to=1)  # expect-error
    email.send(too="a")  # expect-error
    email.send("a")  # expect-error
    email.send(Email(to="a"), copies=1)  # expect-error
    email.send_on_commit(to=1)  # expect-error
    email.send_many([Point(1)])  # expect-error
    email.send_many_on_commit([{"to": "a"}])  # expect-error
    email.using(delay=1).send(to=1)  # expect-error
    email.using(delay=1).send_on_commit(too="a")  # expect-error
    point.send(x="1")  # expect-error
    point.send(1, 2, 3)  # expect-error
    number.send("12")  # expect-error
    number.send()  # expect-error
    numbers.send(["a"])  # expect-error
    either.send(1.5)  # expect-error
    switch.send("maybe")  # expect-error
    anything_at_all.send()  # expect-error
    await_nothing = email.send(to="a")
    assert_type(await_nothing, Receipt)


async def async_code() -> None:
    assert_type(await email.asend(to="a", copies=1), Receipt)
    assert_type(await email.asend_many([Email(to="a")]), list[Receipt])
    await email.using(at=2.0).asend(Email(to="a"))
    await either.asend(1)

    await email.asend()  # expect-error
    await email.asend(copies="many")  # expect-error
    await email.send(to="a")  # expect-error
    await email.using(delay=1).asend(to=1)  # expect-error
    await point.asend(y=1)  # expect-error
    await number.asend_many(["12"])  # expect-error
    await either.asend(1.5)  # expect-error


def options_are_checked() -> None:
    email.using(delay="soon")  # expect-error
    email.using(on_commit="yes")  # expect-error
    email.using(database=1)  # expect-error
    email.using(dela=1)  # expect-error
    jobs.task(schema=Email, retries="many")  # expect-error
    jobs.task(schema=int, tiemout=1)  # expect-error
    Jobs("typed", on_comit=True)  # expect-error


@jobs.every(60, retries=2, missed="skip")
def beat() -> None: ...


@jobs.cron("@daily", tz="Europe/Berlin")
async def nightly(job: Job) -> None: ...


@jobs.every(60, payload=Email(to="a"))
@jobs.task(schema=Email)
def often(email: Email) -> None: ...


def schedules_are_tasks() -> None:
    assert_type(beat.send(), Receipt)
    nightly.send()
    often.send(to="a")
    assert_type(jobs.schedules.run("a"), Receipt | None)

    beat.send(1)  # expect-error
    often.send(too="a")  # expect-error
    jobs.every(60, missed="some")  # expect-error
    jobs.cron(5)  # expect-error


@override_jobs("record")
def testing_knows_tasks_of_either_kind() -> None:
    assert_type(assert_sent(email, to="a"), list[SentJob])
    assert_not_sent(email.core)
    with override_jobs("inline") as sent:
        assert_type(sent[0], SentJob)

    override_jobs("eager")  # expect-error
