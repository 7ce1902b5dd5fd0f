"""Plain messages: sent, processed or received, settled once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from sync_kit import Backoff, ConfigurationError, InvalidPayloadError, Jobs, Message, Queue, Retry
from tests.jobs.conftest import until

pytestmark = pytest.mark.anyio


@dataclass
class Event:
    """A payload."""

    name: str
    number: int = 0


@pytest.fixture
def events(kit):
    return Queue("events", schema=Event, max_deliveries=3, kit=kit)


async def one(queue: Queue[Any], **how: Any) -> Any:
    """The next message."""
    with anyio.fail_after(20):
        return await anext(queue.receive(**how))


async def empty(queue: Queue[Any]) -> bool:
    size = await queue.size()
    return (size.waiting, size.delayed, size.active) == (0, 0, 0)


async def test_a_message_is_received_with_its_payload_and_forgotten_when_acknowledged(events, client, namespace):
    sent = await events.send(Event("order", 7))
    message = await one(events)
    assert (message.id, message.data, message.deliveries) == (sent, Event("order", 7), 1)
    assert (await events.size()).active == 1
    assert await message.ack()
    assert await empty(events)
    head = f"{namespace}:mq:{{events}}:"
    assert [client.hlen(head + key) for key in ("body", "state", "error")] == [0, 0, 0]


async def test_a_message_is_settled_once(events):
    await events.send(Event("a"))
    message = await one(events)
    assert await message.ack()
    assert not await message.ack()
    assert not await message.nack()
    assert not await message.extend(5)


async def test_a_message_that_is_given_back_is_delivered_again_and_then_a_dead_letter(events):
    sent = await events.send(Event("a"))
    for delivery in (1, 2, 3):
        message = await one(events)
        assert message.deliveries == delivery
        assert await message.nack(error=f"no {delivery}")
    assert await empty(events)
    (letter,) = await events.failed()
    assert (letter.id, letter.data, letter.deliveries, letter.error) == (sent, Event("a"), 3, "no 3")
    assert await events.retry(sent)
    assert not await events.retry(sent)
    assert (await one(events)).deliveries == 1


async def test_a_message_can_be_given_back_for_later(events):
    await events.send(Event("a"))
    assert await (await one(events)).nack(delay=60)
    assert (await events.size()).delayed == 1


async def test_a_message_that_is_not_settled_in_time_is_delivered_to_somebody_else(events):
    await events.send(Event("a"))
    late = await one(events, lease=0.3)
    again = await one(events, poll_interval=0.05)
    assert (again.id, again.deliveries) == (late.id, 2)
    assert not await late.ack()
    assert await again.ack()


async def test_an_extended_message_stays_with_its_receiver(events, client, namespace):
    await events.send(Event("a"))
    message = await one(events, lease=5)
    leases = f"{namespace}:mq:{{events}}:leases"
    before = client.zscore(leases, message.id)
    assert await message.extend(60)
    assert client.zscore(leases, message.id) > before + 50_000
    with pytest.raises(ConfigurationError, match="lease must be"):
        await message.extend(-1)


async def test_priority_goes_before_age_and_delay_before_both(events):
    await events.send(Event("old"))
    await events.send(Event("low"), priority=-5)
    await events.send(Event("high"), priority=5)
    await events.send(Event("later"), delay=60, priority=9)
    assert [(await one(events)).data.name for _ in range(3)] == ["high", "old", "low"]


async def test_a_waiting_receiver_is_woken(events):
    received = []

    async def receive() -> None:
        received.append(await one(events, poll_interval=30))

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.sleep(0.05)
        await events.send(Event("a"))
        await until(lambda: _has(received), 10)


async def _has(some: list[Any]) -> bool:
    return bool(some)


async def test_a_receiver_that_is_cancelled_takes_nothing_along(events):
    received = []
    for step in range(40):
        await events.send(Event("a"))
        with anyio.move_on_after(0.0001 * step):
            received.append(await one(events))
    size = await events.size()
    assert (size.active, size.waiting) == (len(received), 40 - len(received))


async def test_processing_acknowledges_what_its_handler_returns_from(events):
    handled: list[tuple[Event, int]] = []

    async def handle(event: Event, message: Message[Event]) -> None:
        handled.append((event, message.deliveries))

    await events.send_many([Event("a", number) for number in range(30)])
    async with events.process(handle, concurrency=5):
        await until(lambda: empty(events))
    assert sorted(event.number for event, _ in handled) == list(range(30))
    assert {deliveries for _, deliveries in handled} == {1}


async def test_a_handler_that_raises_gets_it_again_and_then_it_is_a_dead_letter(events, caplog):
    caplog.set_level(logging.WARNING)
    runs = []

    def handle(event: Event) -> None:
        runs.append(event)
        raise ValueError("no ink")

    await events.send(Event("a"))
    async with events.process(handle):
        await until(lambda: empty(events))
    (letter,) = await events.failed()
    assert (len(runs), letter.error) == (3, "ValueError: no ink")
    assert "dead letter now" in caplog.text


async def test_a_handler_may_say_when_it_wants_it_again(events):
    async def handle(event: Event) -> None:
        raise Retry(after=60)

    await events.send(Event("a"))
    async with events.process(handle):
        await until(lambda: _delayed(events))


async def test_back_off_is_between_deliveries(events):
    async def handle(event: Event) -> None:
        raise ValueError

    await events.send(Event("a"))
    async with events.process(handle, backoff=Backoff(base=60, jitter=0)):
        await until(lambda: _delayed(events))


async def _delayed(events: Queue[Event]) -> bool:
    return (await events.size()).delayed == 1


async def test_a_timeout_is_a_delivery_that_failed(events):
    async def handle(event: Event) -> None:
        await anyio.sleep_forever()

    await events.send(Event("a"))
    async with events.process(handle, timeout=0.05):
        await until(lambda: empty(events))
    assert "took longer than 0.05 s" in (await events.failed())[0].error


async def test_a_shutdown_gives_messages_back_uncounted(events):
    started = anyio.Event()

    async def handle(event: Event) -> None:
        started.set()
        await anyio.sleep_forever()

    await events.send(Event("a"))
    async with events.process(handle, drain_timeout=0):
        await started.wait()
    assert (await one(events)).deliveries == 1


async def test_a_payload_that_the_schema_refuses_by_now_is_a_dead_letter(events, kit):
    await events.send(Event("a", 3))
    newer = Queue("events", schema=int, kit=kit)
    await newer.send(5)
    assert (await one(newer)).data == 5
    (letter,) = await newer.failed()
    assert letter.data == {"name": "a", "number": 3}
    assert "refused by its schema" in letter.error


async def test_nothing_is_sent_that_the_schema_refuses(events):
    with pytest.raises(InvalidPayloadError, match="payload of queue 'events' refused"):
        await events.send({"number": 1})
    assert await empty(events)


async def test_a_purge_forgets_what_waits_and_leaves_what_is_received(events):
    await events.send_many([Event("a", number) for number in range(250)])
    await events.send(Event("later"), delay=60)
    message = await one(events)
    assert await events.purge() == 250
    assert await message.ack()
    assert await empty(events)


async def test_nothing_is_received_from_a_paused_queue(events):
    await events.pause()
    await events.send(Event("a"))
    with anyio.move_on_after(0.3) as scope:
        await one(events, poll_interval=0.05)
    assert scope.cancelled_caught
    assert await events.resume()
    assert (await one(events)).data == Event("a")


async def test_a_queue_and_jobs_of_one_name_do_not_know_each_other(kit):
    queue, jobs = Queue("same", schema=int, kit=kit), Jobs("same", kit=kit)
    await queue.send(1)
    assert (await jobs.counts()).waiting == 0


async def test_dead_letters_are_listed_page_by_page(events):
    for number in range(5):
        await events.send(Event("a", number))
    for _ in range(15):
        await (await one(events)).nack()
    first = await events.failed(limit=2)
    second = await events.failed(limit=2, cursor=first.cursor)
    third = await events.failed(limit=2, cursor=second.cursor)
    assert len({letter.id for letter in (*first, *second, *third)}) == 5
    assert third.cursor is None
    assert await events.retry_failed() == 5
    assert not await events.delete(first[0].id), "it is no dead letter any more"


async def test_the_blocking_twin_has_the_same_verbs(face, events):
    twin = face(events)
    ids = [await twin.send(Event("a")), *await twin.send_many([Event("b"), Event("c")], priority=3)]
    assert len(set(ids)) == 3
    assert (await twin.size()).waiting == 3
    assert await twin.pause()
    assert await twin.resume()
    assert await twin.failed() == []
    assert not await twin.retry(ids[0])
    assert not await twin.delete(ids[0])
    assert await twin.retry_failed() == 0
    assert await twin.workers() == []
    assert await twin.purge() == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_deliveries": 0}, "max_deliveries must be from 1"),
        ({"keep_failed": -1}, "keep_failed must be"),
        ({"max_retries": 1}, "no option 'max_retries'"),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        Queue("events", schema=Event, **wrong)


async def test_wrong_options_of_verbs_are_refused(events):
    with pytest.raises(ConfigurationError, match="delay= or at=, not both"):
        await events.send(Event("a"), delay=1, at=1.0)
    with pytest.raises(ConfigurationError, match="priority must be from -100 to 100"):
        await events.send(Event("a"), priority=101)
    with pytest.raises(ConfigurationError, match="did you mean 'delay'"):
        await events.send(Event("a"), delai=1)
    with pytest.raises(ConfigurationError, match="takes 3 parameters"):
        events.process(lambda a, b, c: None)
    with pytest.raises(ConfigurationError, match="must be a function"):
        events.process("handle")
    with pytest.raises(ConfigurationError, match="backoff must be a Backoff"):
        events.process(lambda event: None, backoff=3)
