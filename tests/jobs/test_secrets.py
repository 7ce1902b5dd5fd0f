"""Secrets in payloads: they arrive, and nobody shows them."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from sync_kit import Jobs
from tests.jobs.conftest import status

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
