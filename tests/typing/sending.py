"""What type checkers must say of `send` and its kin: each line that is marked is an error, and no other is.

Nothing here runs; tests/typing/test_typing.py compares it with what mypy and pyright find.
"""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple

import pydantic.dataclasses
from pydantic import BaseModel, Field, RootModel
from typing_extensions import TypedDict, assert_type

from sync_kit import Job, Jobs, Receipt, Schedule

jobs = Jobs("typed")


class Email(BaseModel):
    to: str
    copies: int = 0


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@pydantic.dataclasses.dataclass
class Size:
    width: int


class Shape(TypedDict):
    points: list[int]


class Pair(NamedTuple):
    left: int
    right: str


class Color(Enum):
    RED = "red"


class Numbers(RootModel[list[int]]):
    pass


@jobs.task(schema=Email, retries=2, timeout=None, give_up_on=ValueError)
async def email(payload: Email) -> None: ...


@jobs.task(schema=Point)
def point(payload: Point, job: Job) -> None: ...


@jobs.task(schema=Size)
def size(payload: Size) -> None: ...


@jobs.task(schema=Shape)
async def shape(payload: Shape) -> None: ...


@jobs.task(schema=Pair)
async def pair(payload: Pair) -> None: ...


@jobs.task(schema=Color)
async def color(payload: Color) -> None: ...


@jobs.task(schema=Numbers)
async def root(payload: Numbers) -> None: ...


@jobs.task(schema=int)
async def number(payload: int) -> None: ...


@jobs.task(schema=str)
async def text(payload: str) -> None: ...


@jobs.task(schema=list[int])
async def numbers(payload: list[int]) -> None: ...


@jobs.task(schema=dict[str, int])
async def table(payload: dict[str, int]) -> None: ...


@jobs.task(schema=Annotated[int, Field(gt=0)], name="above zero")
async def positive(payload: int) -> None: ...


@jobs.task(schema=int | str)
async def either(payload: int | str, job: Job) -> None: ...


@jobs.task(schema=int | None)
async def maybe(payload: int | None) -> None: ...


@jobs.task(schema=Literal["on", "off"])
async def switch(payload: Literal["on", "off"]) -> None: ...


@jobs.task(schema=Email | Point)
async def one_of_two(payload: Email | Point) -> None: ...


@jobs.task(schema=object)  # mypy takes Any for a class of that name, and would let nothing else pass
async def anything(payload: object) -> None: ...


@jobs.task(schema=Any)
async def anything_at_all(payload: Any) -> None: ...


async def models_take_their_fields_or_a_ready_one() -> None:
    assert_type(await email.send(to="a", copies=1), Receipt)
    await email.send(to="a")
    await email.send(Email(to="a"))
    await email.using(delay=1).send(to="a")
    email.blocking.send(to="a")
    email.using(retries=1).blocking.send(Email(to="a"))
    assert_type(await email.send_many([Email(to="a")]), list[Receipt])
    email.blocking.send_many(Email(to=name) for name in "abc")
    await root.send(Numbers([1]))
    await root.send([1])

    await email.send()  # expect-error
    await email.send(copies=1)  # expect-error
    await email.send(to=1)  # expect-error
    await email.send(to="a", copies="many")  # expect-error
    await email.send(too="a")  # expect-error
    await email.send(to="a", bcc="b")  # expect-error
    await email.send("a")  # expect-error
    await email.send(Email(to="a"), copies=1)  # expect-error
    await email.send(Point(1))  # expect-error
    await email.using(delay=1).send(to=1)  # expect-error
    email.blocking.send(to=1)  # expect-error
    email.blocking.send()  # expect-error
    email.using(delay=1).blocking.send(too="a")  # expect-error
    await email.send_many([Point(1)])  # expect-error
    await email.send_many([{"to": "a"}])  # expect-error
    email.blocking.send_many([1])  # expect-error


async def dataclasses_take_what_their_constructor_takes_or_a_ready_one() -> None:
    await point.send(x=1, y=2)
    await point.send(1, y=2)
    await point.send(Point(1))
    await point.send_many([Point(1)])
    await size.send(width=1)
    size.blocking.send(Size(1))

    await point.send()  # expect-error
    await point.send(x="1")  # expect-error
    await point.send(1, z=2)  # expect-error
    await point.send(1, 2, 3)  # expect-error
    await point.send(Point(1), y=2)  # expect-error
    await point.using(at=2.0).send(y=1)  # expect-error
    point.blocking.send(y=1)  # expect-error
    await point.send_many([1])  # expect-error
    await size.send(width="1")  # expect-error
    await size.send(height=1)  # expect-error


async def classes_take_one_payload() -> None:
    await number.send(1)
    await text.send("12")
    await numbers.send([1])
    await table.send({"a": 1})
    await shape.send({"points": [1]})
    await shape.send(Shape(points=[1]))
    await pair.send(Pair(1, "a"))
    await color.send(Color.RED)
    await number.using(delay=1).send(1)
    number.blocking.send(1)
    await number.send_many([1, 2])
    await shape.send_many([{"points": [1]}])

    await number.send()  # expect-error
    await number.send("12")  # expect-error
    await number.send(1, 2)  # expect-error
    await number.send(x=1)  # expect-error
    await number.send(payload=1)  # expect-error
    await number.using(delay=1).send("12")  # expect-error
    number.blocking.send("12")  # expect-error
    await number.send_many(["12"])  # expect-error
    number.blocking.send_many(["12"])  # expect-error
    await text.send()  # expect-error
    await text.send(12)  # expect-error
    await numbers.send()  # expect-error
    await numbers.send(1, 2)  # expect-error
    await numbers.send(["a"])  # expect-error
    await table.send({"a": "b"})  # expect-error
    await table.send(a=1)  # expect-error
    await shape.send()  # expect-error
    await shape.send({"points": ["a"]})  # expect-error
    await shape.send({"dots": [1]})  # expect-error
    await pair.send(1, "a")  # expect-error
    await color.send("red")  # expect-error


async def other_types_take_one_payload_of_what_the_handler_takes() -> None:
    await positive.send(1)
    await either.send(1)
    await either.send("a")
    await maybe.send(None)
    await switch.send("on")
    await one_of_two.send(Point(1))
    await anything.send(1)
    await anything.send({"a": None})
    either.blocking.send("a")
    await positive.using(delay=1).send(1)
    await either.send_many([1, "a"])

    await positive.send()  # expect-error
    await positive.send("a")  # expect-error
    await positive.send(1, 2)  # expect-error
    positive.blocking.send("a")  # expect-error
    await positive.using(delay=1).send("a")  # expect-error
    await positive.send_many(["a"])  # expect-error
    await either.send(1.5)  # expect-error
    await maybe.send("a")  # expect-error
    await switch.send("maybe")  # expect-error
    await one_of_two.send(to="a")  # expect-error
    await anything.send()  # expect-error
    await anything.send(1, 2)  # expect-error
    await anything.send(a=1)  # expect-error
    await anything_at_all.send()  # expect-error
    await anything_at_all.send(1, 2)  # expect-error


def options_are_checked() -> None:
    email.using(delay="soon")  # expect-error
    jobs.task(schema=Email, retries="many")  # expect-error
    jobs.task(schema=int, tiemout=1)  # expect-error
    jobs.task(schema=int | str, retry=1)  # expect-error


@jobs.every(60, retries=2, missed="skip")
async def beat() -> None: ...


@jobs.cron("@daily", tz="Europe/Berlin")
def nightly(job: Job) -> None: ...


@jobs.every(60, payload=Email(to="a"))
@jobs.task(schema=Email)
async def often(email: Email) -> None: ...


async def schedules_are_tasks() -> None:
    assert_type(await beat.send(), Receipt)
    assert_type(await nightly.send(), Receipt)
    await often.send(to="a")
    await email.using(interval=60, start_immediately=True, name="a").send(to="a")
    await email.using(cron="* * * * *", tz="UTC", missed="all", overlap=True).send(to="a")
    for schedule in await jobs.schedules.list():
        assert_type(schedule, Schedule)
    assert_type(jobs.schedules.blocking.run("a"), Receipt | None)

    await beat.send(1)  # expect-error
    await beat.send(a=1)  # expect-error
    await often.send(too="a")  # expect-error
    email.using(interval="often")  # expect-error
    email.using(cron="* * * * *", missed="some")  # expect-error
    jobs.every(60, missed="some")  # expect-error
    jobs.every("60")  # expect-error
    jobs.cron(5)  # expect-error
