"""What is sent is kept, nothing runs, and no server is needed."""

from __future__ import annotations

import threading
from datetime import datetime, timezone

import pytest
from anyio import to_thread

from sync_kit import ConfigurationError, InvalidPayloadError, Jobs, Unavailable
from sync_kit.testing import assert_not_sent, assert_sent, inline, recorded
from tests.testing.conftest import Email

pytestmark = pytest.mark.anyio


async def test_what_is_sent_is_kept_and_nothing_runs(nowhere):
    with recorded() as sent:
        receipt = await nowhere.send_email.send(to="ann@example.com")
        more = await nowhere.count.send_many([1, 2])
    assert [job.id for job in sent] == [receipt.id, *(each.id for each in more)]
    assert [(job.queue, job.task, job.data) for job in sent] == [
        ("mail", "send_email", Email(to="ann@example.com")),
        ("mail", "count", 1),
        ("mail", "count", 2),
    ]
    assert receipt.task == "send_email"
    assert nowhere.ran == []


async def test_after_the_block_jobs_go_to_redis_again(nowhere):
    with recorded():
        await nowhere.count.send(1)
    with pytest.raises(Unavailable):
        await nowhere.count.send(2)


def test_blocking_senders_are_recorded_too(nowhere):
    with recorded() as sent:
        nowhere.send_email.blocking.send(to="ann@example.com")
        nowhere.count.blocking.send_many([1, 2])
    assert [job.data for job in sent] == [Email(to="ann@example.com"), 1, 2]


async def test_a_blocking_call_in_an_event_loop_is_refused_as_ever(nowhere):
    with recorded() as sent, pytest.raises(ConfigurationError, match=r"await count\.send"):
        nowhere.count.blocking.send(1)
    assert sent == []


async def test_the_options_of_the_sender_are_kept(nowhere):
    noon = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
    with recorded() as sent:
        await nowhere.send_email.using(delay=60, priority=5, tag="welcome", timeout=None).send(to="ann")
        await nowhere.send_email.using(at=noon, retries=7).send(to="bob")
    first, second = (job.options for job in sent)
    assert (first["delay"], first["priority"], first["tag"]) == (60, 5, "welcome")
    assert (first["retries"], first["timeout"]) == (2, None)
    assert (second["at"], second["retries"], second["timeout"]) == (noon.timestamp(), 7, 30)


async def test_a_payload_that_the_schema_refuses_is_refused_and_nothing_is_kept(nowhere):
    with recorded() as sent:
        with pytest.raises(InvalidPayloadError):
            await nowhere.send_email.send(to=7)
        with pytest.raises(InvalidPayloadError):
            await nowhere.count.send_many([1, "many"])
    assert sent == []


async def test_a_payload_that_does_not_survive_the_trip_is_refused(nowhere):
    @nowhere.jobs.task(schema=float)
    async def weigh(grams: float) -> None: ...

    with recorded() as sent, pytest.raises(InvalidPayloadError):
        await weigh.send(float("nan"))
    assert sent == []


async def test_the_payload_is_what_the_handler_would_get_not_the_object_that_was_sent(nowhere):
    email = Email(to="ann")
    with recorded() as sent:
        await nowhere.send_email.send(email)
    email.to = "somebody else"
    assert sent[0].data == Email(to="ann")


async def test_all_threads_are_recorded(nowhere):
    with recorded() as sent:
        await to_thread.run_sync(nowhere.count.blocking.send, 1)
        thread = threading.Thread(target=nowhere.count.blocking.send, args=(2,))
        thread.start()
        await to_thread.run_sync(thread.join)
    assert [job.data for job in sent] == [1, 2]


async def test_of_two_blocks_the_inner_one_keeps_and_is_asked(nowhere):
    with recorded() as outer:
        await nowhere.count.send(1)
        with recorded() as inner:
            await nowhere.count.send(2)
            assert_sent(nowhere.count, 2)
            assert_not_sent(nowhere.count, 1)
        assert_sent(nowhere.count, 1)
        await nowhere.count.send(3)
    assert [job.data for job in outer] == [1, 3]
    assert [job.data for job in inner] == [2]


async def test_blocks_may_end_in_any_order(nowhere):
    first, second = recorded(), recorded()
    first.__enter__()
    kept = second.__enter__()
    first.__exit__()
    await nowhere.count.send(1)
    second.__exit__()
    assert [job.data for job in kept] == [1]
    with pytest.raises(Unavailable):
        await nowhere.count.send(2)


async def test_jobs_can_be_picked_and_forgotten(nowhere):
    other = Jobs("other", kit=nowhere.jobs.kit)

    @other.task(schema=int, name="count")
    async def of_the_same_name(number: int) -> None: ...

    with recorded() as sent:
        await nowhere.count.send(1)
        await of_the_same_name.send(2)
        await nowhere.send_email.send(to="ann")
        assert [job.data for job in sent.of(nowhere.count)] == [1]
        assert [job.data for job in sent.of(of_the_same_name)] == [2]
        sent.clear()
        assert_not_sent(nowhere.count)


@pytest.mark.parametrize("mode", [recorded, inline])
async def test_a_schedule_is_written_down_and_does_not_run(nowhere, mode):
    with mode() as sent:
        receipt = await nowhere.send_email.using(interval=60, name="weekly").send(to="a@b.c")
        other = await nowhere.send_email.using(cron="0 3 * * *", tz="Europe/Berlin").send(to="a@b.c")
        with pytest.raises(ConfigurationError, match="has one payload"):
            await nowhere.send_email.using(interval=60, name="weekly").send_many([{"to": "a"}, {"to": "b"}])
    assert (receipt.id, receipt.schedule, other.schedule) == ("weekly", True, True)
    assert [job.id for job in sent] == ["weekly", other.id]
    assert (sent[0].options["interval"], sent[1].options["cron"], sent[1].options["tz"]) == (
        60.0,
        "0 3 * * *",
        "Europe/Berlin",
    )
    assert nowhere.ran == []
