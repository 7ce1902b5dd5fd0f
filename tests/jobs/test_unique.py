"""Unique keys: at most one job with a key that has not ended, and no key outlives its job."""

from __future__ import annotations

import pickle
from typing import Any

import anyio
import pytest

from sync_kit import ConfigurationError, DuplicateJobError, Jobs
from sync_kit.queue.records import Keep, Outcome
from tests.jobs.conftest import Note, status, until
from tests.queue.hands import Hands, expire

pytestmark = pytest.mark.anyio


@pytest.fixture
def write(jobs):
    @jobs.task(schema=Note, key=lambda note: note.text)
    async def write(note: Note) -> None: ...

    return write


async def keys(client, namespace):
    return await anyio.to_thread.run_sync(client.hgetall, f"{namespace}:q:{{notes}}:unique")


async def test_a_second_send_returns_the_first_receipt(face, jobs, write):
    sender = face(write)
    first = await sender.send(text="a")
    second = await sender.send(text="a", number=2)
    other = await sender.send(text="b")
    assert (first.duplicate, second.duplicate, other.duplicate) == (False, True, False)
    assert (second.id, second.task) == (first.id, "write")
    assert (await jobs.counts()).waiting == 2
    assert (await jobs.get(first.id)).key == "a"


@pytest.mark.parametrize("place", ["delayed", "parked", "between retries", "running"])
async def test_the_key_is_held_in_every_state_before_the_end(kit, jobs, write, place):
    first = await write.using(delay=60 if place == "delayed" else None, retries=3).send(text="a")
    hands = Hands(kit, "notes")
    words: dict[str, Any] = {"parked": ("park", 0.0), "between retries": ("retry", 60.0)}

    def move():
        if place != "delayed":
            (claim,) = hands.exchange(want=1).claims
        if place in words:
            word, delay = words[place]
            hands.exchange(Outcome(claim.id, claim.generation, word, delay))

    await anyio.to_thread.run_sync(move)
    assert (await write.send(text="a")).id == first.id


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "expired", "killed three times"])
async def test_the_key_is_free_when_its_job_has_ended(kit, jobs, write, client, namespace, end):
    first = await write.send(text="a")
    hands = Hands(kit, "notes")

    def run():
        if end == "cancelled":
            hands.run(hands.desk.cancel_flow(first.id))
        elif end == "killed three times":
            for _ in range(3):
                hands.take(1)
                expire(hands, client, first.id)
                hands.exchange()
        else:
            (claim,) = hands.exchange(want=1).claims
            words: dict[str, Any] = {"completed": "done", "failed": "fail", "expired": "park"}
            hands.exchange(Outcome(claim.id, claim.generation, words[end]))
            client.zadd(hands.key("parked"), {first.id: 1}, xx=True)
            hands.exchange()

    await anyio.to_thread.run_sync(run)
    assert await keys(client, namespace) == {}
    assert (await jobs.get(first.id)).completed_at is not None
    second = await write.send(text="a")
    assert (second.duplicate, second.id != first.id) == (False, True)


async def test_a_stale_run_cannot_free_the_key_of_a_later_owner(kit, write, client, namespace):
    first = await write.send(text="a")
    hands = Hands(kit, "notes")

    def lose():
        (stale,) = hands.exchange(want=1, worker="frozen").claims
        for _ in range(3):
            expire(hands, client, first.id)
            hands.exchange(want=1)
        return stale

    stale = await anyio.to_thread.run_sync(lose)
    second = await write.send(text="a")
    turn = await anyio.to_thread.run_sync(lambda: hands.exchange(Outcome(stale.id, stale.generation, "done")))
    assert turn.refused == [first.id]
    assert list((await keys(client, namespace)).values()) == [second.id.encode()]


async def test_raise_names_the_key_and_the_job_that_has_it(face, write):
    first = await write.send(text="a")
    with pytest.raises(DuplicateJobError, match="'a' already") as caught:
        await face(write.using(on_duplicate="raise")).send(text="a")
    assert (caught.value.key, caught.value.job_id) == ("a", first.id)


async def test_raise_says_of_all_that_was_sent_with_a_duplicate_what_became_of_it(jobs, write):
    first = await write.send(text="a")
    with pytest.raises(DuplicateJobError) as caught:
        await write.using(on_duplicate="raise").send_many([{"text": text} for text in "bac"])
    said = [(receipt.duplicate, receipt.id == first.id) for receipt in caught.value.receipts]
    assert said == [(False, False), (True, True), (False, False)]
    for receipt in caught.value.receipts:
        assert await jobs.get(receipt.id) is not None
    assert pickle.loads(pickle.dumps(caught.value)).receipts == caught.value.receipts


async def test_replace_cancels_a_job_that_has_not_begun(jobs, write):
    first = await write.using(delay=60).send(text="a")
    second = await write.using(on_duplicate="replace").send(text="a", number=2)
    old = await jobs.get(first.id)
    assert (old.status, old.error) == ("cancelled", f"replaced by {second.id}")
    assert (second.duplicate, (await jobs.get(second.id)).status) == (False, "waiting")


async def test_replace_lets_a_running_job_end_and_then_runs_the_new_one(jobs):
    running, seen, go = [], [], anyio.Event()

    @jobs.task(schema=Note, key="only", on_duplicate="replace")
    async def write(note: Note) -> None:
        running.append(note.number)
        assert len(running) == 1, "never two at a time"
        if note.number == 1:
            await go.wait()
        seen.append(note.number)
        running.remove(note.number)

    await write.send(text="a", number=1)
    async with jobs.worker(concurrency=5, poll_interval=60):
        await until(lambda: _is(running, [1]))
        second = await write.send(text="a", number=2)
        third = await write.send(text="a", number=3)
        assert [(await jobs.get(r.id)).status for r in (second, third)] == ["cancelled", "waiting"]
        assert (await jobs.counts()).waiting == 1
        go.set()
        await status(jobs, third.id, "completed", 5)
    assert seen == [1, 3]


async def test_a_replaced_run_that_fails_is_not_tried_again(jobs):
    began, go = anyio.Event(), anyio.Event()

    @jobs.task(schema=Note, key="only", on_duplicate="replace", retries=5)
    async def write(note: Note) -> None:
        if note.number == 1:
            began.set()
            await go.wait()
            raise ValueError("no ink")

    first = await write.send(text="a", number=1)
    async with jobs.worker(poll_interval=60):
        with anyio.fail_after(10):
            await began.wait()
        second = await write.send(text="a", number=2)
        go.set()
        await status(jobs, second.id, "completed", 5)
        job = await jobs.get(first.id)
    assert (job.status, job.attempts, job.error) == ("cancelled", 1, f"replaced by {second.id}")


async def test_a_job_that_waits_for_a_running_one_can_be_cancelled(jobs):
    began = anyio.Event()

    @jobs.task(schema=Note, key="only", on_duplicate="replace")
    async def write(note: Note) -> None:
        began.set()
        await anyio.sleep_forever()

    first = await write.send(text="a")
    async with jobs.worker(drain_timeout=0):
        with anyio.fail_after(10):
            await began.wait()
        second = await write.send(text="b")
        assert [job.id for job in await jobs.list(status="waiting")] == [second.id]
        assert await jobs.cancel(second.id)
        assert (await write.using(on_duplicate="return").send(text="c")).id == first.id
        await jobs.cancel(first.id)


async def test_keys_of_different_tasks_and_queues_are_different(kit, jobs, write):
    @jobs.task(schema=Note, key="a")
    async def other(note: Note) -> None: ...

    elsewhere = Jobs("letters", kit=kit)

    @elsewhere.task(schema=Note, name="write", key="a")
    async def third(note: Note) -> None: ...

    for task in (write, other, third):
        assert not (await task.send(text="a")).duplicate


async def test_keys_may_hold_anything(jobs, write):
    for text in ("a b", "a:b", "ä {x}", "a\nb", "x" * 1000, "%20", "-"):
        first = await write.send(text=text)
        assert (await write.send(text=text)).id == first.id
        assert (await jobs.get(first.id)).key == text
    async with jobs.worker():
        await until(lambda: _completed(jobs, 7))


async def test_many_are_sent_with_one_round_trip_for_each_hundred(jobs, write):
    receipts = await write.send_many([Note(text=str(n % 150)) for n in range(300)])
    assert sum(receipt.duplicate for receipt in receipts) == 150
    assert [r.id for r in receipts[:150]] == [r.id for r in receipts[150:]]


async def test_it_costs_one_call(jobs, write, client):
    await write.send(text="warm")
    before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    await write.send(text="a")
    await write.send(text="a")
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 2


async def test_a_failed_job_takes_its_key_again_when_it_is_retried(kit, jobs, write):
    first = await write.send(text="a")
    hands = Hands(kit, "notes")

    def fail():
        (claim,) = hands.exchange(want=1).claims
        hands.exchange(Outcome(claim.id, claim.generation, "fail"))

    await anyio.to_thread.run_sync(fail)
    second = await write.send(text="a")
    assert not await jobs.retry(first.id), "another job has its key"
    assert await jobs.retry_failed() == 0
    await jobs.cancel(second.id)
    assert await jobs.retry(first.id)
    assert (await write.send(text="a")).id == first.id


@pytest.mark.parametrize("options", [{"key": ""}, {"key": 5}, {"key": "x" * 1001}, {"on_duplicate": "ignore"}])
async def test_wrong_options_are_refused_at_once(jobs, write, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        write.using(**options)


async def test_a_function_that_makes_no_key_is_refused_before_anything_is_sent(jobs, write):
    with pytest.raises(ConfigurationError, match="key must be"):
        await write.using(key=lambda note: None).send_many([Note(text="a"), Note(text="b")])
    assert (await jobs.counts()).waiting == 0


async def test_what_is_sent_while_a_cancelled_job_still_ends_runs_after_it(jobs):
    began, go, ran = anyio.Event(), anyio.Event(), []

    @jobs.task(schema=Note, key="only")
    async def write(note: Note) -> None:
        try:
            if note.number == 1:
                began.set()
                await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await go.wait() if note.number == 1 else None
            ran.append(note.number)

    first = await write.send(text="a", number=1)
    async with jobs.worker(poll_interval=60):
        with anyio.fail_after(10):
            await began.wait()
        await jobs.cancel(first.id)
        second = await write.send(text="a", number=2)
        third = await write.send(text="a", number=3)
        assert (second.duplicate, third.duplicate, third.id) == (False, True, second.id)
        go.set()
        await status(jobs, second.id, "completed", 5)
    assert ran == [1, 2]


async def test_jobs_that_were_replaced_are_kept_up_to_a_number(kit, client, namespace):
    jobs = Jobs("notes", kit=kit)
    jobs.keep = Keep(completed_count=20)

    @jobs.task(schema=Note, key="only", on_duplicate="replace")
    async def write(note: Note) -> None: ...

    await write.using(delay=60).send_many([Note(text="a", number=n) for n in range(300)])
    assert (await jobs.counts()).cancelled == 20
    assert client.hlen(f"{namespace}:q:{{notes}}:body") == 21


async def test_a_purge_frees_the_keys_of_what_it_forgets(kit, jobs, write, client, namespace):
    await write.send(text="a")
    await write.using(delay=60).send(text="b")
    hands = Hands(kit, "notes")
    assert await anyio.to_thread.run_sync(lambda: hands.run(hands.desk.purge_flow())) == 2
    assert await keys(client, namespace) == {}
    assert not (await write.send(text="a")).duplicate


async def test_a_key_whose_job_was_removed_by_other_means_is_free(jobs, write, client, namespace):
    first = await write.send(text="a")
    for key in ("body", "state", "ready"):
        client.delete(f"{namespace}:q:{{notes}}:{key}")
    second = await write.send(text="a")
    assert (second.duplicate, second.id != first.id) == (False, True)


async def test_a_rule_for_duplicates_needs_a_key(jobs):
    with pytest.raises(ConfigurationError, match="give a key="):

        @jobs.task(schema=Note, on_duplicate="replace")
        async def other(note: Note) -> None: ...

    @jobs.task(schema=Note)
    async def plain(note: Note) -> None: ...

    with pytest.raises(ConfigurationError, match="give a key="):
        plain.using(on_duplicate="raise")

    async def slow(note):
        return "a"

    with pytest.raises(ConfigurationError, match="not an async one"):
        plain.using(key=slow)


async def _is(values, wanted):
    return values == wanted


async def _completed(jobs, count):
    return (await jobs.counts()).completed == count
