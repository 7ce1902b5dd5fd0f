"""Secrets in payloads: they arrive, and nobody shows them."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import pytest
from pydantic import BaseModel, ConfigDict, Secret, SecretBytes, SecretStr, WithJsonSchema

from sync_kit import Jobs, Queue
from tests.jobs.conftest import status, until

pytestmark = pytest.mark.anyio


class Card(BaseModel):
    number: SecretStr
    pin: Secret[int]


class Login(BaseModel):
    user: str
    password: SecretStr
    token: SecretBytes = SecretBytes(b"opaque")
    cards: list[Card] = []
    notes: dict[str, Secret[Card]] = {}


PAYLOAD: Any = {
    "user": "ann",
    "password": "hunter-2",
    "cards": [{"number": "4242-4242", "pin": 1234}],
    "notes": {"spare": {"number": "5151", "pin": 99}},
}
HIDDEN = ("hunter-2", "4242-4242", "1234", "5151", "opaque")


async def test_a_secret_arrives_as_it_was_sent(jobs):
    got = []

    @jobs.task(schema=Login)
    async def login(payload: Login) -> None:
        got.append(payload)

    receipt = await login.send(**PAYLOAD)
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
    (login_,) = got
    assert login_ == Login(**PAYLOAD)
    assert login_.password.get_secret_value() == "hunter-2"
    assert login_.notes["spare"].get_secret_value().number.get_secret_value() == "5151"


async def test_a_secret_is_masked_wherever_a_job_is_shown_or_logged(jobs, kit, caplog):
    caplog.set_level(logging.DEBUG)

    @jobs.task(schema=Login)
    async def login(payload: Login) -> None:
        raise ConnectionError("the door is closed")

    receipt = await login.send(**PAYLOAD)
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed")
    stranger: Any = await Jobs("notes", kit=kit).get(receipt.id)  # a process that does not know the task
    shown = [repr(job), str(job.data), repr(stranger), job.traceback, caplog.text]
    assert stranger.data == "**********"
    assert not [word for word in HIDDEN for text in shown if word in text]


async def test_a_secret_is_masked_when_its_schema_has_changed(jobs, kit):
    @jobs.task(schema=Login)
    async def login(payload: Login) -> None: ...

    receipt = await login.send(**PAYLOAD)
    later = Jobs("notes", kit=kit)

    @later.task(schema=int, name="login")
    async def other(number: int) -> None: ...

    seen: Any = await later.get(receipt.id)
    assert seen.data == "**********"
    async with later.worker():
        with anyio.fail_after(20):
            job = await status(later, receipt.id, "failed")
    assert not [word for word in HIDDEN if word in repr(job)]


@dataclass
class Pair:
    name: str
    code: SecretStr


class Odd(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")
    when: Annotated[SecretStr, WithJsonSchema({"type": "string"})] = SecretStr("hunter-2")


ANY_SHAPE: list[Any] = [
    (Odd, {"when": "4242-4242"}),
    (Secret[Pair], {"name": "a", "code": "5151"}),
    (Secret[list[Pair]], [{"name": "a", "code": "5151"}]),
    (deque[SecretStr], ["hunter-2"]),
    (dict[SecretStr, int], {"hunter-2": 1}),
    (dict[str, Any], {"a": SecretStr("hunter-2"), "b": [Pair("x", SecretStr("5151"))]}),
    (tuple[SecretStr, int], ("hunter-2", 5)),
]


@pytest.mark.parametrize(("schema", "payload"), ANY_SHAPE)
async def test_a_secret_arrives_whatever_it_is_in(jobs, schema, payload):
    got = []

    @jobs.task(schema=schema)
    async def take(payload: Any) -> None:
        got.append(payload)

    receipt = await take.send(payload)
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
    stored = await anyio.to_thread.run_sync(jobs.kit.thread_driver.run, jobs.desk.look_flow([receipt.id]))
    assert b"****" not in stored[0].body
    assert any(word.encode() in stored[0].body for word in HIDDEN)
    assert b'"secret":true' in stored[0].body


async def test_a_text_that_looks_like_a_mask_is_a_text(jobs):
    got = []

    @jobs.task(schema=str)
    async def take(payload: str) -> None:
        got.append(payload)

    receipt = await take.send("**********")
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
        stored = await anyio.to_thread.run_sync(jobs.kit.thread_driver.run, jobs.desk.look_flow([receipt.id]))
    assert got == ["**********"]
    assert b"secret" not in stored[0].body


async def test_a_queue_masks_the_secrets_of_its_dead_letters(kit):
    class Later(Login):
        must: int

    await Queue("logins", schema=Login, kit=kit).send(Login(**PAYLOAD))
    later = Queue("logins", schema=Later, kit=kit)

    async def handle(login: Later) -> None: ...

    async with later.process(handle):
        await until(lambda: _has_failed(later))
    (letter,) = await later.failed()
    assert letter.data == "**********"


async def _has_failed(queue):
    return (await queue.size()).failed == 1
