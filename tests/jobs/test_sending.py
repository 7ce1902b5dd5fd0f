"""Sending and looking, on every backend and blocking."""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from sync_kit import ConfigurationError, InvalidPayloadError, Jobs, Receipt
from sync_kit.queue.ids import made_at, make_id
from tests.jobs.conftest import Note

pytestmark = pytest.mark.anyio


@pytest.fixture
def write(jobs):
    @jobs.task(schema=Note, retries=2, timeout=7)
    async def write(note: Note) -> None:
        """Write a note."""

    return write


async def test_a_job_that_was_sent_waits(face, jobs, write):
    receipt = await face(write).send(text="hello")
    job = await face(jobs).get(receipt.id)
    assert receipt == Receipt(job.id, "write")
    assert (job.status, job.data, job.task) == ("waiting", Note(text="hello"), "write")
    assert (job.attempts, job.max_retries, job.timeout, job.crashes, job.error) == (0, 2, 7.0, 0, None)
    assert job.started_at is job.completed_at is job.scheduled_at is None
    assert abs(job.created_at - datetime.now(timezone.utc)) < timedelta(seconds=5)
    assert uuid.UUID(job.id).version == 7


async def test_ids_sort_by_time(face, jobs, write):
    receipts = await face(write).send_many([Note(text=str(n)) for n in range(250)])
    ids = [receipt.id for receipt in receipts]
    assert ids == sorted(ids)
    assert len(set(ids)) == 250
    assert (await face(jobs).counts()).waiting == 250


async def test_options_of_one_sending(face, jobs, write):
    receipt = await face(write.using(delay=60, retries=0, timeout=None)).send(text="later")
    job = await face(jobs).get(receipt.id)
    assert (job.status, job.max_retries, job.timeout) == ("delayed", 0, None)
    assert abs(job.scheduled_at - datetime.now(timezone.utc) - timedelta(seconds=60)) < timedelta(seconds=5)


@pytest.mark.parametrize("as_number", [False, True])
async def test_at_a_time(face, jobs, write, as_number):
    when = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(minutes=5)
    receipt = await face(write.using(at=when.timestamp() if as_number else when)).send(text="then")
    assert (await face(jobs).get(receipt.id)).scheduled_at == when


async def test_lists_and_counts(face, jobs, write):
    first = await face(write).send(text="1")
    second = await face(write).send(text="2")
    later = await face(write.using(delay=60)).send(text="3")
    assert [job.id for job in await face(jobs).list(status="waiting")] == [first.id, second.id]
    assert [job.id for job in await face(jobs).list(status="waiting", limit=1)] == [first.id]
    assert [job.id for job in await face(jobs).list(status="delayed")] == [later.id]
    counts = await face(jobs).counts()
    assert (counts.waiting, counts.delayed, counts.active, counts.completed, counts.failed) == (2, 1, 0, 0, 0)


async def test_an_unknown_job_is_none(face, jobs):
    assert await face(jobs).get(str(uuid.uuid4())) is None


@pytest.mark.parametrize(
    "fields", [{}, {"text": 1}, {"text": "a", "number": "many"}, {"txt": "a"}], ids=["none", "type", "value", "name"]
)
async def test_a_payload_that_the_schema_refuses_is_not_written(face, jobs, write, client, fields):
    with pytest.raises(InvalidPayloadError, match="task 'write'") as raised:
        await face(write).send(**fields)
    assert raised.value.errors
    assert client.keys() == []


async def test_one_bad_payload_of_many_writes_none(face, write, client):
    with pytest.raises(InvalidPayloadError):
        await face(write).send_many([Note(text="good"), {"text": 7}])
    assert client.keys() == []


async def test_the_values_of_a_refused_payload_are_not_repeated(face, write):
    with pytest.raises(InvalidPayloadError) as raised:
        await face(write).send(text="fine", number="hunter2")
    assert "hunter2" not in str(raised.value) + repr(raised.value.errors)


async def test_a_payload_that_is_too_large_is_named(face, write, client):
    with pytest.raises(InvalidPayloadError, match="bytes are more than"):
        await face(write).send(text="x" * 200_000)
    assert client.keys() == []


class Loose(BaseModel):
    number: float = 0.0
    data: bytes = b""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"number": float("nan")}, "does not survive the trip as JSON, number"),
        ({"data": b"\xff"}, "cannot be written as JSON"),
    ],
    ids=["nan", "bytes"],
)
async def test_a_payload_that_no_worker_could_read_is_refused(face, jobs, client, fields, message):
    @jobs.task(schema=Loose)
    async def loose(payload: Loose) -> None: ...

    with pytest.raises(InvalidPayloadError, match=message):
        await face(loose).send(**fields)
    assert client.keys() == []


async def test_fields_with_an_alias_arrive(face, jobs):
    class Camel(BaseModel):
        first_name: str = Field(alias="firstName")

    @jobs.task(schema=Camel)
    async def greet(payload: Camel) -> None: ...

    receipt = await face(greet).send(firstName="Ann")
    assert (await face(jobs).get(receipt.id)).data.first_name == "Ann"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0

    def __post_init__(self) -> None:
        if self.y < 0:
            raise ValueError("y is below zero")


class Shape(TypedDict):
    points: list[int]


async def test_schemas_of_other_kinds(face, jobs):
    @jobs.task(schema=Point)
    async def point(payload: Point) -> None: ...

    @jobs.task(schema=Shape)
    async def shape(payload: Shape) -> None: ...

    @jobs.task(schema=list[int])
    async def numbers(payload: list[int]) -> None: ...

    assert (await _sent(face, jobs, point, 1, y=2)).data == Point(1, 2)
    assert (await _sent(face, jobs, point, x=3)).data == Point(3)
    assert (await _sent(face, jobs, shape, points=[])).data == {"points": []}
    assert (await _sent(face, jobs, numbers, [1, 2**60])).data == [1, 2**60]
    for wrong in ((1, 2, 3), (1, -1)):
        with pytest.raises(InvalidPayloadError):
            await face(point).send(*wrong)


@pytest.mark.parametrize(
    ("schema", "payload", "wrong"),
    [
        (Note, Note(text="a"), Point(1)),
        (Point, Point(1), "a"),
        (Shape, {"points": [1]}, {"points": ["a"]}),
        (int, 1, "a"),
        (str, "12", 12),
        (dict[str, int], {"a": 1}, {"a": "b"}),
        (list[Note], [Note(text="a")], [1]),
        (Annotated[int, Field(gt=0)], 1, 0),
        (int | str, "a", 1.5),
        (int | None, None, "a"),
        (Point | None, Point(1), "a"),
        (Literal["on", "off"], "on", "maybe"),
        (object, {"a": [None]}, object()),
        (Any, [1, "a"], object()),
    ],
    ids="model dataclass TypedDict int str dict models Annotated union optional either Literal object Any".split(),
)
async def test_any_schema_takes_one_ready_payload(face, jobs, client, schema, payload, wrong):
    @jobs.task(schema=schema)
    async def handle(payload) -> None: ...

    for sender in (handle, handle.using(retries=1)):
        with pytest.raises(InvalidPayloadError):
            await face(sender).send(wrong)
        with pytest.raises(InvalidPayloadError):
            await face(sender).send_many([payload, wrong])
        with pytest.raises(InvalidPayloadError):
            await face(sender).send(payload, payload, payload)
    assert client.keys() == []
    receipts = [await face(handle).send(payload), *await face(handle.using(retries=1)).send_many([payload, payload])]
    for receipt in receipts:
        assert (await face(jobs).get(receipt.id)).data == payload


async def _sent(face, jobs, task, *args, **fields):
    receipt = await face(task).send(*args, **fields)
    return await face(jobs).get(receipt.id)


async def test_a_job_of_a_task_that_is_not_known_here_is_shown_as_plain_values(face, jobs, kit, write):
    receipt = await face(write).send(text="a")
    job = await face(Jobs("notes", kit=kit)).get(receipt.id)
    assert (job.task, job.data) == ("write", {"text": "a", "number": 0})


async def test_a_payload_is_stored_as_it_was_dumped(face, jobs, write, client, namespace):
    receipt = await face(write).send(text="ü\x00🙂")
    stored = client.hget(f"{namespace}:q:{{notes}}:body", receipt.id)
    task, header, payload = stored.split(b"\n", 2)
    assert task == b"write"
    assert json.loads(header) == {"retries": 2, "timeout": 7.0}
    assert payload == Note(text="ü\x00🙂").model_dump_json().encode()


async def test_a_task_is_still_a_function(write):
    assert await write(Note(text="direct")) is None
    assert write.__doc__ == "Write a note."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": 1, "at": 2.0}, "not both"),
        ({"at": datetime(2030, 1, 1)}, "time zone"),
        ({"at": timedelta(1)}, "delay="),
        ({"at": True}, "epoch seconds"),
        ({"at": float("nan")}, "epoch seconds"),
        ({"delay": -1}, "delay must be at least 0"),
        ({"delay": float("nan")}, "delay must be seconds"),
        ({"retries": -1}, "retries must be from 0"),
        ({"retries": True}, "whole number"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"retry": 1}, "did you mean 'retries'"),
    ],
    ids=str,
)
async def test_wrong_options_say_how_to_fix_them(write, options, message):
    with pytest.raises(ConfigurationError, match=message):
        write.using(**options)


def _task(jobs, **options):
    @jobs.task(**{"schema": Note, **options})
    async def other(note: Note) -> None: ...

    return other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, "retries"),
        ({"timeout": -1}, "timeout"),
        ({"name": ""}, "name of a task"),
        ({"tiemout": 1}, "did you mean 'timeout'"),
        ({"schema": type("Odd", (), {})}, "schema"),
    ],
    ids=str,
)
async def test_a_wrong_task_is_refused_when_it_is_registered(jobs, options, message):
    with pytest.raises(ConfigurationError, match=message):
        _task(jobs, **options)


async def test_a_name_that_is_taken_is_refused(jobs):
    @jobs.task(schema=Note, name="same")
    async def one(note: Note) -> None: ...

    with pytest.raises(ConfigurationError, match="'same' of 'notes' is .*one already"):

        @jobs.task(schema=Note, name="same")
        async def two(note: Note) -> None: ...


async def test_the_same_function_may_be_registered_again(jobs):
    assert [_task(jobs).name, _task(jobs).name] == ["other", "other"]


async def test_a_handler_of_the_wrong_shape_is_refused(jobs):
    with pytest.raises(ConfigurationError, match="takes 0 parameters"):

        @jobs.task(schema=Note)
        async def nothing() -> None: ...


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"poll_interval": 0}, {"drain_timeout": -1}, {"concurency": 3}]
)
async def test_wrong_worker_options(jobs, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        jobs.worker(**options)


async def test_a_wrong_status_is_refused(face, jobs):
    with pytest.raises(ConfigurationError, match="status must be one of"):
        await face(jobs).list(status="lost")


async def test_a_payload_may_be_as_large_as_it_is_told(face, kit):
    small, large = Jobs("small", max_payload=100, kit=kit), Jobs("large", max_payload=1_000_000, kit=kit)
    refused, taken = small.task(schema=str, name="a")(len), large.task(schema=str, name="a")(len)
    with pytest.raises(InvalidPayloadError, match="102 bytes are more than the 100 of max_payload="):
        await face(refused).send("x" * 100)
    receipt = await face(taken).send("x" * 200_000)
    found = await large.get(receipt.id)
    assert found is not None
    assert len(found.data) == 200_000
    with pytest.raises(ConfigurationError, match="max_payload must be"):
        Jobs("none", max_payload=0, kit=kit)


async def test_a_clock_that_was_wrong_for_a_moment_does_not_date_what_follows(jobs, monkeypatch):
    real = time.time_ns()
    with monkeypatch.context() as patch:
        patch.setattr("time.time_ns", lambda: real + 86_400 * 10**9)
        ahead = [make_id() for _ in range(3)]
    behind = [make_id() for _ in range(3)]
    assert made_at(ahead[0]) - made_at(behind[0]) > timedelta(hours=23)
    assert len({*ahead, *behind}) == 6
    assert behind == sorted(behind)
