"""Jobs are packed, with their ids, before they are delivered: later, or once more."""

from __future__ import annotations

import pytest

from sync_kit import Jobs
from sync_kit.errors import ConfigurationError, DuplicateJobError, InvalidPayloadError
from sync_kit.jobs.parcel import deliver, deliver_blocking
from sync_kit.testing import inline, recorded

pytestmark = pytest.mark.anyio


@pytest.fixture
def task(kit):
    jobs = Jobs("parcels", kit=kit)

    @jobs.task(schema=int, result_ttl=60)
    async def double(number: int) -> int:
        return 2 * number

    return double


async def echo(text: str) -> None: ...


def ids(receipts):
    return [receipt.id for receipt in receipts]


async def test_a_packed_job_is_stored_under_the_id_that_it_has(task):
    parcel = task.pack([1, 2])
    assert (await task.jobs.counts()).waiting == 0
    assert await deliver(parcel) == parcel.receipts()
    assert [(await task.jobs.get(job_id)).data for job_id in ids(parcel.receipts())] == [1, 2]


async def test_a_parcel_that_is_delivered_again_is_the_same_jobs(task):
    parcel = task.using(delay=60).pack([1, 2])
    assert await deliver(parcel) == await deliver(parcel)
    assert (await task.jobs.counts()).delayed == 2


async def test_a_parcel_with_unique_keys_that_is_delivered_again_is_no_duplicate_of_itself(task):
    parcel = task.using(key=str, on_duplicate="raise").pack([1, 2])
    assert await deliver(parcel) == await deliver(parcel) == parcel.receipts()
    with pytest.raises(DuplicateJobError):
        await deliver(task.using(key=str, on_duplicate="raise").pack([2]))


async def test_a_schedule_can_be_packed_too(task):
    parcel = task.using(interval=60).pack([1])
    assert await task.jobs.schedules.list() == []
    assert await deliver(parcel) == await deliver(parcel) == parcel.receipts()
    assert ids(parcel.receipts()) == [schedule.name for schedule in await task.jobs.schedules.list()]


async def test_what_is_recorded_or_run_has_the_id_that_was_packed(task):
    parcel = task.pack([1])
    with recorded() as sent:
        assert ids(await deliver(parcel)) == [sent[0].id] == ids(parcel.receipts())
    with inline() as sent:
        (receipt,) = await deliver(parcel)
    assert [receipt.id] == [sent[0].id] == ids(parcel.receipts())
    assert await receipt.result() == 2


async def test_what_is_wrong_is_said_before_anything_is_delivered(task):
    small = Jobs("small", max_payload=3, kit=task.jobs.kit).task(schema=str)(echo)
    with pytest.raises(InvalidPayloadError):
        small.pack(["more than three bytes"])
    with pytest.raises(ConfigurationError):
        task.using(interval=60, name="one").pack([1, 2])


def test_a_parcel_is_delivered_without_an_event_loop_too(task):
    parcel = task.pack([1])
    assert deliver_blocking(parcel, "send(...)") == parcel.receipts()
    assert task.jobs.blocking.counts().waiting == 1
