"""A schedule is state with a name: sending it again makes no second one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import anyio
import pytest

from sync_kit import ConfigurationError, Jobs, Receipt
from tests.jobs.conftest import Note

pytestmark = pytest.mark.anyio


@pytest.fixture
def write(jobs):
    @jobs.task(schema=Note, retries=1)
    async def write(note: Note) -> None: ...

    return write


async def test_the_receipt_has_the_name_of_the_schedule(write, face):
    receipt = await face(write.using(interval=60, name="digest")).send(text="a")
    assert receipt == Receipt("digest", "write", schedule=True)


async def test_what_was_sent_is_shown(jobs, write, face, shelf):
    sender = write.using(cron="0 3 * * *", tz="Europe/Berlin", name="digest", missed="all", overlap=True, priority=2)
    await face(sender).send(text="a")
    (found,) = await face(jobs.schedules).list()
    assert found == await face(jobs.schedules).get("digest")
    assert (found.name, found.task, found.data) == ("digest", "write", Note(text="a"))
    assert (found.interval, found.cron, found.tz) == (None, "0 3 * * *", "Europe/Berlin")
    assert (found.missed, found.overlap, found.paused, found.declared) == ("all", True, False, False)
    assert (found.last_at, found.last_job, found.runs) == (None, None, 0)
    assert found.next_at.timestamp() * 1000 == shelf.slot("digest") > shelf.now()


async def test_the_first_slot_is_an_interval_away(write, shelf):
    before = shelf.now()
    await write.using(interval=60, name="digest").send(text="a")
    assert before <= shelf.slot("digest") - 60_000 <= shelf.now()


async def test_or_at_once_if_told(write, shelf):
    await write.using(interval=timedelta(hours=1), start_immediately=True, name="digest").send(text="a")
    assert shelf.slot("digest") <= shelf.now()


@pytest.mark.parametrize(
    "options", [{"interval": 60}, {"cron": "* * * * *"}, {"interval": 60, "start_immediately": True}]
)
async def test_three_deploys_are_one_schedule(jobs, write, shelf, options):
    await write.using(**options).send(text="a")
    (before,) = await jobs.schedules.list()
    shelf.move(before.name, 1000)
    for _ in range(2):
        await write.using(**options).send(text="a")
    (after,) = await jobs.schedules.list()
    assert after.next_at == before.next_at - timedelta(seconds=1)


async def test_without_a_name_the_payload_is_part_of_it(jobs, write):
    sent = [await write.using(interval=60).send(text=text) for text in "abb"]
    assert len({receipt.id for receipt in sent}) == len(await jobs.schedules.list()) == 2
    assert all(receipt.id.startswith("write:") for receipt in sent)


async def test_a_changed_payload_replaces_the_old_one_and_the_slot_stays(jobs, write, shelf):
    await write.using(interval=60, name="digest").send(text="a")
    shelf.move("digest", 1000)
    slot = shelf.slot("digest")
    await write.using(interval=60, name="digest").send(text="b")
    (found,) = await jobs.schedules.list()
    assert found.data == Note(text="b")
    assert shelf.slot("digest") == slot


@pytest.mark.parametrize("options", [{"interval": 30}, {"cron": "*/30 * * * * *"}])
async def test_a_changed_rule_begins_anew_from_now(jobs, write, shelf, options):
    await write.using(interval=3600, name="digest").send(text="a")
    await write.using(**options, name="digest").send(text="a")
    (found,) = await jobs.schedules.list()
    assert (found.interval, found.cron) == (options.get("interval"), options.get("cron"))
    assert shelf.now() < shelf.slot("digest") <= shelf.now() + 30_000


async def test_changed_options_leave_the_slot(jobs, write, shelf):
    await write.using(interval=60, name="digest").send(text="a")
    slot = shelf.slot("digest")
    await write.using(interval=60, name="digest", missed="skip", overlap=True, timeout=5).send(text="a")
    assert shelf.slot("digest") == slot
    (found,) = await jobs.schedules.list()
    assert (found.missed, found.overlap) == ("skip", True)


async def test_many_schedules_at_once(jobs, write):
    sent = await write.using(interval=60).send_many([Note(text=str(n)) for n in range(230)])
    assert {receipt.id for receipt in sent} == {found.name for found in await jobs.schedules.list()}


async def test_of_many_at_the_same_time_one_is_whole(jobs, write, shelf):
    async def put(number):
        await write.using(interval=100 + number, name="digest").send(text="a", number=number)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(put, number)
    (found,) = await jobs.schedules.list()
    assert found.interval == 100 + found.data.number
    assert 0 < shelf.slot("digest") - shelf.now() <= 1000 * found.interval


async def test_a_skewed_clock_of_the_client_changes_nothing(write, shelf, monkeypatch):
    real = datetime.now(timezone.utc).timestamp()
    monkeypatch.setattr("time.time", lambda: real + 86400)
    monkeypatch.setattr("time.time_ns", lambda: int((real + 86400) * 1e9))
    await write.using(interval=60, name="a").send(text="a")
    await write.using(cron="* * * * *", name="b").send(text="a")
    assert shelf.now() < shelf.slot("a") <= shelf.now() + 60_000
    assert shelf.now() < shelf.slot("b") <= shelf.now() + 60_000


async def test_nothing_is_left_after_delete(jobs, write, client, namespace, face):
    await write.using(interval=60, name="digest").send(text="a")
    assert await face(jobs.schedules).delete("digest")
    assert not await face(jobs.schedules).delete("digest")
    assert await face(jobs.schedules).get("digest") is None
    assert client.keys(f"{namespace}:*") == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"interval": 60, "cron": "* * * * *"}, "not both"),
        ({"interval": 60, "delay": 5}, "not both"),
        ({"cron": "* * * * *", "at": 2_000_000_000}, "not both"),
        ({"interval": 60, "tz": "UTC"}, "with cron= only"),
        ({"name": "digest"}, "interval= or cron="),
        ({"overlap": True}, "interval= or cron="),
        ({"interval": 60, "missed": "some"}, "missed must be one of"),
        ({"interval": 60, "overlap": 1}, "overlap must be True or False"),
        ({"interval": 60, "name": ""}, "the name of a schedule"),
        ({"intervall": 60}, "did you mean 'interval'"),
    ],
)
def test_wrong_options_are_refused(kit, options, said):
    task = Jobs("notes", kit=kit).task(schema=Note, name="write")(lambda note: None)
    with pytest.raises(ConfigurationError, match=said):
        task.using(**options)


async def test_a_task_with_a_unique_key_has_no_schedule(jobs, write):
    keyed = jobs.task(schema=Note, name="keyed", key="one")(lambda note: None)
    for sender in (keyed.using(interval=60), write.using(interval=60, key="one")):
        with pytest.raises(ConfigurationError, match="has a unique key"):
            await sender.send(text="a")
    with pytest.raises(ConfigurationError, match="has a unique key"):
        jobs.every(60, payload=Note(text="a"))(keyed)


async def test_a_schedule_has_no_result_of_its_own(write):
    receipt = await write.using(interval=60).send(text="a")
    with pytest.raises(ConfigurationError, match="has no result"):
        await receipt.result()


async def test_several_payloads_need_several_names(write):
    with pytest.raises(ConfigurationError, match="leave name= out"):
        await write.using(interval=60, name="digest").send_many([Note(text="a"), Note(text="b")])
