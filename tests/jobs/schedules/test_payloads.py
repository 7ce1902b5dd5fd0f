"""Schedules live longer than a version of the code: their payloads are upgraded, masked and run around as any."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from sync_kit import Job, Jobs, current_job
from tests.jobs.conftest import Note, status, until
from tests.jobs.schedules.conftest import fired, schedule

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]  # the loop makes no difference


class Login(BaseModel):
    user: str
    password: SecretStr


async def test_a_payload_of_an_older_version_is_upgraded(kit, jobs):
    class Old(BaseModel):
        words: str

    old = jobs.task(schema=Old, name="write")(lambda old: None)
    await old.using(interval=3600, start_immediately=True, name="digest").send(words="a")
    newer: Jobs = Jobs("notes", kit=kit)
    seen: list[Any] = []
    newer.task(schema=Note, name="write", version=2, upgrade={1: lambda old: {"text": old["words"]}})(seen.append)
    assert (await schedule(newer, "digest")).data == Note(text="a")
    async with newer.worker():
        await status(newer, (await fired(newer, "digest")).last_job, "completed")
    assert seen == [Note(text="a")]


async def test_a_newer_version_waits_for_a_worker_that_knows_it(kit, jobs):
    newer: Jobs = Jobs("notes", kit=kit)

    @newer.every(3600, start_immediately=True, name="write", version=2)
    async def write() -> None: ...

    jobs.task(schema=Note, name="write")(lambda note: None)
    await kit.driver.run(newer.schedules.timetable.put_flow([made for _, made in newer.declared.values()]))
    assert (await schedule(newer, "write")).task == "write"
    async with jobs.worker(poll_interval=0.05):
        await until(jobs.workers)
        assert (await schedule(jobs, "write")).runs == 0
        async with newer.worker():
            await fired(newer, "write")


async def test_secrets_arrive_and_are_masked_where_they_are_shown(kit, jobs):
    seen: list[Login] = []
    task = jobs.task(schema=Login, name="login")(seen.append)
    await task.using(interval=3600, start_immediately=True, name="x").send(user="a", password="hush")
    assert "hush" not in repr(await jobs.schedules.list())
    assert "hush" not in repr(await Jobs("notes", kit=kit).schedules.list())
    async with jobs.worker():
        await status(jobs, (await fired(jobs, "x")).last_job, "completed")
    assert seen[0].password.get_secret_value() == "hush"


async def test_around_each_job_goes_what_goes_around_others(jobs):
    seen: list[Any] = []

    @jobs.middleware
    async def around(job: Job, call_next: Any) -> Any:
        seen.append(("around", job.schedule))
        return await call_next()

    @jobs.every(3600, start_immediately=True, result_ttl=60)
    def beat() -> str:
        seen.append(("inside", getattr(current_job(), "schedule", None)))
        return "done"

    async with jobs.worker():
        job = await status(jobs, (await fired(jobs, "beat")).last_job, "completed")
    assert seen == [("around", "beat"), ("inside", "beat")]
    assert job.result == "done"
