"""Payloads over years: older ones are upgraded, newer ones wait for who can read them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from sync_kit import ConfigurationError, Jobs, UnknownTaskError
from tests.jobs.conftest import Note, status, until

pytestmark = pytest.mark.anyio


class Person(BaseModel):
    first: str
    last: str
    age: int


def to_two(old):
    first, last = old["name"].split(" ")
    return {"first": first, "last": last}


def to_three(old):
    return {**old, "age": 30}


def deploy(kit, version, schema, upgrade=None, got=None):
    """The code of one version."""
    jobs = Jobs("notes", kit=kit)

    @jobs.task(schema=schema, version=version, upgrade=upgrade)
    async def greet(payload) -> None:
        (got if got is not None else []).append(payload)

    return jobs, greet


async def test_older_payloads_are_upgraded_step_by_step(kit):
    got: list[Any] = []
    _, first = deploy(kit, 1, dict)
    _, second = deploy(kit, 2, dict)
    jobs, third = deploy(kit, 3, Person, {1: to_two, 2: to_three}, got)
    sent = [await first.send({"name": "Ann Smith"}), await second.send({"first": "Bob", "last": "Hill"})]
    sent.append(await third.send(first="Cid", last="Low", age=9))
    assert (await jobs.get(sent[0].id)).data == Person(first="Ann", last="Smith", age=30)
    async with jobs.worker(concurrency=1):
        for receipt in sent:
            await status(jobs, receipt.id, "completed")
    assert [str(person.first) for person in got] == ["Ann", "Bob", "Cid"]
    assert {(await jobs.get(receipt.id)).task for receipt in sent} == {"greet"}


async def test_a_newer_version_is_parked_until_a_worker_knows_it(kit):
    got: list[Any] = []
    old, _ = deploy(kit, 1, dict)
    new, greet = deploy(kit, 2, Person, {1: to_two}, got)
    receipt = await greet.send(first="Ann", last="Smith", age=3)
    async with old.worker():
        job = await status(old, receipt.id, "parked")
        assert "greet@2" in job.error
        assert job.data == {"first": "Ann", "last": "Smith", "age": 3}
        async with new.worker():
            await status(new, receipt.id, "completed", 30)
    assert got == [Person(first="Ann", last="Smith", age=3)]


async def test_a_version_without_an_upgrade_waits_for_an_older_worker(kit):
    old, greet = deploy(kit, 1, dict)
    new, _ = deploy(kit, 3, Person, {2: to_three})
    receipt = await greet.send({"name": "Ann Smith"})
    async with new.worker():
        await status(new, receipt.id, "parked")
        async with old.worker():
            await status(old, receipt.id, "completed", 30)


async def test_an_upgrade_that_raises_fails_the_run_as_a_handler_does(kit):
    def broken(old):
        raise KeyError("name")

    _, greet = deploy(kit, 1, dict)
    new, _ = deploy(kit, 2, Person, {1: broken})
    receipt = await greet.using(retries=1).send({"nom": "Ann"})
    async with new.worker():
        job = await status(new, receipt.id, "failed")
    assert (job.error, job.attempts, job.data) == ("KeyError: 'name'", 2, {"nom": "Ann"})


async def test_an_upgrade_to_what_the_schema_refuses_fails_for_good(kit):
    _, greet = deploy(kit, 1, dict)
    new, _ = deploy(kit, 2, Person, {1: lambda old: {"first": 1}})
    receipt = await greet.using(retries=5).send({"name": "Ann"})
    async with new.worker():
        job = await status(new, receipt.id, "failed")
    assert (job.attempts, "refused by its schema" in job.error) == (1, True)


@pytest.mark.parametrize(
    ("version", "upgrade"),
    [
        (0, None),
        (1.5, None),
        (True, None),
        (3, {1: to_two}),
        (2, {1: to_two, 2: to_three}),
        (2, {0: to_two, 1: to_two}),
    ],
)
async def test_versions_with_a_hole_are_refused_when_registered(kit, version, upgrade):
    with pytest.raises(ConfigurationError, match=r"version|upgrade"):
        deploy(kit, version, dict, upgrade)


async def test_a_task_must_not_look_like_a_version_of_another(jobs):
    with pytest.raises(ConfigurationError, match="versions are told by version="):

        @jobs.task(schema=Note, name="write@2")
        async def write(note: Note) -> None: ...


async def test_a_task_is_found_by_its_name(jobs):
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    assert jobs.named("write") is write
    with pytest.raises(UnknownTaskError, match="did you mean 'write'"):
        jobs.named("writ")


async def test_the_listing_by_task_has_all_versions(kit):
    _, first = deploy(kit, 1, dict)
    jobs, second = deploy(kit, 2, dict, {1: to_two})
    await first.send({"name": "Ann Smith"})
    await second.send({"first": "Bob", "last": "Hill"})
    listed = await until(lambda: jobs.list(status="waiting", task="greet"))
    assert len(listed) == 2
