"""What is sent inside of a transaction is sent when that commits, and not at all when it does not."""

from __future__ import annotations

import pickle
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.http import HttpResponse
from django.test import Client
from django.test.utils import override_settings
from django.urls import path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_kit import ConfigurationError, DuplicateJobError, InvalidPayloadError, Unavailable
from sync_kit.queue.events import Sent
from sync_kit_django import Jobs, NotSentError
from sync_kit_django.commit import NO_ENGINE
from tests.on_django.shop.models import Order

pytestmark = pytest.mark.usefixtures("tables")


class Undone(Exception):
    pass


endings = st.sampled_from(["commits", "joins", "raises", "rolls back"])
plans = st.recursive(
    st.sampled_from(["send", "callback"]),
    lambda inner: st.tuples(endings, st.lists(inner, min_size=1, max_size=4)),
    max_leaves=12,
)


def handle(payload: Any) -> None: ...


@pytest.fixture
def jobs():
    return Jobs("shop")


@pytest.fixture
def invoice(jobs):
    @jobs.task(schema=int)
    def invoice(order: int) -> None: ...

    return invoice


def waiting(jobs):
    return [job.data for job in jobs.list(status="waiting")]


def test_a_job_is_sent_when_the_transaction_has_committed(jobs, invoice):
    with transaction.atomic():
        order = Order.objects.create(number="A-1")
        receipt = invoice.send(order.pk)
        assert receipt.id
        assert (receipt.sent, receipt.duplicate) == (False, False)
        assert (jobs.get(receipt.id), jobs.counts().waiting) == (None, 0)
    assert receipt.sent
    assert jobs.get(receipt.id).data == order.pk


def test_nothing_is_sent_after_a_rollback(jobs, invoice):
    with pytest.raises(Undone), transaction.atomic():
        receipt = invoice.send(1)
        raise Undone
    assert (receipt.sent, jobs.get(receipt.id), waiting(jobs)) == (False, None, [])
    with transaction.atomic():
        invoice.send(2)
        transaction.set_rollback(True)
    assert waiting(jobs) == []


def test_nothing_is_sent_after_the_rollback_of_a_savepoint_but_what_is_outside_of_it(jobs, invoice):
    with transaction.atomic():
        invoice.send(1)
        with pytest.raises(Undone), transaction.atomic():
            invoice.send(2)
            with transaction.atomic():
                invoice.send(3)
            raise Undone
        with transaction.atomic():
            invoice.send(4)
        invoice.send(5)
        assert waiting(jobs) == []
    assert waiting(jobs) == [1, 4, 5]


def test_a_durable_block_commits_what_was_sent_in_it(jobs, invoice):
    with transaction.atomic(durable=True), transaction.atomic(savepoint=False):
        receipts = invoice.send_many([1, 2])
        assert waiting(jobs) == []
    assert waiting(jobs) == [1, 2]
    assert all(receipt.sent for receipt in receipts)


def test_outside_of_a_transaction_a_job_is_sent_at_once(jobs, invoice):
    assert invoice.send(1).sent
    assert invoice.send_on_commit(2).sent
    assert [receipt.sent for receipt in invoice.send_many_on_commit([3])] == [True]
    assert waiting(jobs) == [1, 2, 3]


def test_a_send_outside_of_transactions_does_not_connect_to_the_database(invoice):
    made = []

    def on_a_new_thread():
        invoice.send(1)
        made.append(connection.connection)

    thread = threading.Thread(target=on_a_new_thread)
    thread.start()
    thread.join()
    assert made == [None]


def test_who_does_not_want_to_wait_says_so(jobs, invoice, server, namespace):
    with transaction.atomic():
        assert invoice.using(on_commit=False).send(1).sent
        assert not invoice.using(on_commit=False).send_on_commit(9).sent
    eager = Jobs("eager", on_commit=False)
    task = eager.task(schema=int)(handle)
    with transaction.atomic():
        assert task.send(2).sent
        assert not task.using(on_commit=True).send(3).sent
    given = {"URL": server.url, "NAMESPACE": namespace, "JOBS": {"ON_COMMIT": False}}
    with override_settings(SYNC_KIT=given), transaction.atomic():
        assert invoice.send(4).sent


def test_the_transactions_of_one_database_are_meant(jobs, invoice, server, namespace):
    with transaction.atomic(using="other"):
        assert invoice.send(1).sent
        waits = invoice.using(database="other").send(2)
        assert not waits.sent
    assert waits.sent
    mine = Jobs("mine", database="other").task(schema=int)(handle)
    with transaction.atomic():
        assert mine.send(1).sent
        assert not mine.using(database=DEFAULT_DB_ALIAS).send(2).sent
    given = {"URL": server.url, "NAMESPACE": namespace, "JOBS": {"DATABASE": "other"}}
    with override_settings(SYNC_KIT=given), transaction.atomic():
        assert invoice.send(3).sent


def test_a_database_that_is_not_there_is_named(invoice):
    with pytest.raises(ConfigurationError, match="database 'shop', which DATABASES does not have"):
        invoice.using(database="shop").send(1)


def test_a_default_that_is_empty_beside_other_databases_is_none_to_wait_for(monkeypatch, jobs, invoice):
    monkeypatch.setitem(connections.settings, "default", {**connections.settings["default"], "ENGINE": NO_ENGINE})
    with pytest.raises(ConfigurationError, match="'default', which is empty in DATABASES: .* name one of 'other'"):
        invoice.send(1)
    assert invoice.using(database="other").send(2).sent
    monkeypatch.delitem(connections.settings, "other")
    assert invoice.send(3).sent
    assert waiting(jobs) == [2, 3]


def test_a_delay_counts_from_the_commit(jobs, invoice):
    with transaction.atomic():
        receipt = invoice.using(delay=60).send(1)
        time.sleep(0.3)
        committed = datetime.now(timezone.utc)
    due = jobs.get(receipt.id).scheduled_at
    assert due >= committed + timedelta(seconds=60) - timedelta(milliseconds=50)


def test_a_payload_is_checked_at_the_call(jobs, invoice):
    wrong: Any = "no number"
    with transaction.atomic():
        with pytest.raises(InvalidPayloadError):
            invoice.send(wrong)
        with pytest.raises(InvalidPayloadError):
            invoice.send_many([1, wrong])
    assert waiting(jobs) == []


def test_what_is_carried_is_what_was_said_at_the_call(jobs, invoice):
    tenant: ContextVar[str] = ContextVar("tenant")
    jobs.carry(tenant)
    with transaction.atomic():
        tenant.set("acme")
        receipt = invoice.send(1)
        tenant.set("other")
    assert jobs.get(receipt.id).headers == {"tenant": "acme"}


def test_of_a_unique_key_the_receipt_learns_after_the_commit(jobs, invoice):
    unique = invoice.using(key="one")
    with transaction.atomic():
        first = unique.send(1)
        own = first.id
        assert (first.duplicate, first.sent) == (None, False)
        second = unique.send(2)
        assert second.id != first.id
    assert (first.id, first.duplicate) == (own, False)
    assert (second.id, second.duplicate, second.sent) == (own, True, True)
    assert waiting(jobs) == [1]


def test_a_duplicate_that_is_to_be_raised_is_raised_by_the_commit_after_all_others_are_sent(jobs, invoice):
    strict = invoice.using(key="one", on_duplicate="raise")
    first = strict.send(1)
    with pytest.raises(DuplicateJobError), transaction.atomic():
        invoice.send(2)
        second = strict.send(3)
        invoice.send(4)
        strict.send(5)
        invoice.send(6)
    assert waiting(jobs) == [1, 2, 4, 6]
    assert (second.id, second.sent, second.duplicate) == (first.id, True, True)


def test_those_that_were_sent_beside_a_duplicate_know_that_they_are(jobs, invoice):
    strict = invoice.using(key=str, on_duplicate="raise")
    first = strict.send(1)
    with pytest.raises(DuplicateJobError) as caught, transaction.atomic():
        receipts = strict.send_many([2, 1, 3])
    assert [receipt.duplicate for receipt in receipts] == [False, True, False]
    assert [receipt.sent for receipt in receipts] == [True] * 3
    assert [receipt.id for receipt in caught.value.receipts] == [receipt.id for receipt in receipts]
    assert receipts[1].id == first.id
    assert waiting(jobs) == [1, 2, 3]


def test_a_schedule_is_made_when_the_transaction_commits(jobs, invoice):
    with transaction.atomic():
        receipt = invoice.using(interval=60).send(1)
        assert (receipt.schedule, jobs.schedules.list()) == (True, [])
    assert [schedule.name for schedule in jobs.schedules.list()] == [receipt.id]


def test_there_is_no_result_before_the_commit(invoice):
    with transaction.atomic():
        receipt = invoice.send(1)
        with pytest.raises(ConfigurationError, match="is sent when its transaction commits"):
            receipt.result(timeout=1)


def test_transactions_by_hand_are_refused_since_their_end_is_not_known(jobs, invoice):
    connection.ensure_connection()
    transaction.set_autocommit(False)
    try:
        for send in (invoice.send, invoice.send_on_commit):
            with pytest.raises(ConfigurationError, match=r"autocommit of database 'default' is off"):
                send(1)
        assert invoice.using(on_commit=False).send(2).sent
        with transaction.atomic():
            waits = invoice.send(3)
        assert not waits.sent
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert waits.sent
    assert waiting(jobs) == [2, 3]


def test_async_code_beneath_a_transaction_sends_at_once_unless_it_goes_back_to_that_thread(jobs, invoice):
    async def helper():
        return await invoice.asend(1), await sync_to_async(invoice.send)(2)

    with transaction.atomic():
        at_once, waits = async_to_sync(helper)()
        assert (at_once.sent, waits.sent) == (True, False)
    assert waits.sent
    assert waiting(jobs) == [1, 2]


def view(request):
    order = Order.objects.create(number="A-1")
    request.META["invoice"].send(order.pk)
    if "fail" in request.GET:
        raise Undone
    return HttpResponse(status=201)


urlpatterns = [path("orders/", view)]


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    with override_settings(ROOT_URLCONF=__name__):
        yield


@pytest.mark.usefixtures("atomic_requests")
def test_a_request_that_is_one_transaction_sends_what_it_commits(jobs, invoice):
    with pytest.raises(Undone):
        Client().post("/orders/?fail", invoice=invoice)
    assert (waiting(jobs), Order.objects.count()) == ([], 0)
    assert Client().post("/orders/", invoice=invoice).status_code == 201
    assert waiting(jobs) == [Order.objects.get().pk]


@pytest.fixture
def cut_off(site, proxy, namespace):
    """The project, with a server that can be cut off by the proxy."""
    with override_settings(SYNC_KIT={"URL": proxy.url, "NAMESPACE": namespace}):
        yield proxy


def test_jobs_that_cannot_be_sent_after_the_commit_are_kept_on_the_error(cut_off, jobs, invoice, caplog):
    with pytest.raises(NotSentError) as caught, transaction.atomic():
        order = Order.objects.create(number="A-1")
        receipts = [invoice.send(7_654_321), *invoice.send_many([2, 3])]
        cut_off.refuse()
    assert Order.objects.filter(pk=order.pk).exists()
    error = caught.value
    assert error.receipts == receipts
    assert not any(receipt.sent for receipt in receipts)
    for receipt in receipts:
        assert receipt.id in str(error)
    with pytest.raises(NotSentError) as again:
        error.send()
    cut_off.heal()
    assert again.value.send() == receipts
    assert error.send() == receipts
    assert all(receipt.sent for receipt in receipts)
    assert waiting(jobs) == [7_654_321, 2, 3]


def test_what_is_not_sent_is_logged_with_its_ids_and_without_its_payload(cut_off, jobs, invoice, caplog):
    with pytest.raises(NotSentError), transaction.atomic():
        receipt = invoice.send(7_654_321)
        cut_off.refuse()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    for said in (receipt.id, "'invoice'", "'shop'", "error.send()"):
        assert said in record.getMessage()
    assert "7654321" not in caplog.text


def test_jobs_behind_callbacks_that_django_drops_are_kept_too(cut_off, jobs, invoice, caplog):
    called = []
    with pytest.raises(NotSentError) as caught, transaction.atomic():
        transaction.on_commit(lambda: called.append("before"))
        first = invoice.send(1)
        transaction.on_commit(lambda: called.append("behind"))
        with pytest.raises(Undone), transaction.atomic():
            invoice.send(2)
            raise Undone
        with transaction.atomic():
            third = invoice.send(3)
        other = Jobs("other").task(schema=str)(handle).send("four")
        cut_off.refuse()
    assert called == ["before"]
    assert caught.value.receipts == [first, third, other]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 3
    cut_off.heal()
    caught.value.send()
    assert waiting(jobs) == [1, 3]
    assert other.sent


@pytest.mark.parametrize("fails", ["in the callback", "behind it"])
def test_a_callback_with_a_transaction_of_its_own_loses_no_jobs(cut_off, jobs, invoice, fails):
    inner: list[Any] = []

    def callback():
        with transaction.atomic():
            inner.extend([invoice.send(2), invoice.send(3)])
            if fails == "in the callback":
                cut_off.refuse()
        cut_off.refuse()

    with pytest.raises(NotSentError) as caught, transaction.atomic():
        invoice.send(1)
        transaction.on_commit(callback)
        outer = [invoice.send(4), invoice.send(5)]
    kept = [*outer, *inner] if fails == "in the callback" else outer
    assert sorted(receipt.id for receipt in caught.value.receipts) == sorted(receipt.id for receipt in kept)
    cut_off.heal()
    caught.value.send()
    assert sorted(waiting(jobs)) == [1, 2, 3, 4, 5]


def test_the_jobs_of_one_transaction_are_not_those_of_the_next(cut_off, jobs, invoice):
    with pytest.raises(NotSentError) as caught, transaction.atomic():
        invoice.send(1)
        cut_off.refuse()
    with pytest.raises(NotSentError) as other, transaction.atomic():
        invoice.send(2)
    cut_off.heal()
    assert len(caught.value.receipts) == len(other.value.receipts) == 1
    with transaction.atomic():
        invoice.send(3)
    assert waiting(jobs) == [3]


def test_a_repeat_does_not_send_what_was_stored_although_the_answer_was_lost(cut_off, jobs, invoice):
    invoice.send(0)
    with pytest.raises(NotSentError) as caught, transaction.atomic():
        invoice.using(priority=1).send(1)
        invoice.send(2)
        cut_off.drop_replies = True
    cut_off.heal()
    stored = waiting(jobs)
    assert stored == [1, 0]
    caught.value.send()
    assert waiting(jobs) == [1, 0, 2]


def test_what_was_sent_before_redis_failed_is_sent(cut_off, jobs, invoice):
    jobs.observe(lambda event: cut_off.refuse() if isinstance(event, Sent) else None)
    with pytest.raises(NotSentError) as caught, transaction.atomic():
        first, second = invoice.send(1), invoice.send(2)
    assert (first.sent, second.sent) == (True, False)
    assert caught.value.receipts == [second]
    cut_off.heal()
    assert waiting(jobs) == [1]


def test_a_server_that_is_down_after_the_commit_and_comes_back(site, own_server, namespace, jobs, invoice):
    own = own_server(appendonly=True)
    with override_settings(SYNC_KIT={"URL": own.url, "NAMESPACE": namespace}):
        invoice.send(1)
        with pytest.raises(NotSentError) as caught, transaction.atomic():
            invoice.send(2)
            own.stop()
        own.start()
        caught.value.send()
        assert waiting(jobs) == [1, 2]


def test_the_error_survives_being_pickled_without_its_jobs(cut_off, invoice):
    with pytest.raises(NotSentError) as caught, transaction.atomic():
        receipt = invoice.send(1)
        cut_off.refuse()
    again: Any = pickle.loads(pickle.dumps(caught.value))
    assert again.receipts == []
    assert receipt.id in str(again)
    assert isinstance(again, Unavailable)


def test_many_jobs_are_sent_in_order_and_named_in_part(cut_off, jobs, invoice):
    with pytest.raises(NotSentError, match="and 30 more") as caught, transaction.atomic():
        invoice.send_many(range(50))
        cut_off.refuse()
    cut_off.heal()
    caught.value.send()
    assert waiting(jobs) == [*range(50)]


def test_the_error_can_be_awaited(cut_off, jobs, invoice):
    with pytest.raises(NotSentError) as caught, transaction.atomic():
        receipts = [invoice.send(1), invoice.send(2)]
        cut_off.refuse()

    async def handler():
        with pytest.raises(NotSentError, match="1") as again:
            await caught.value.asend()
        with pytest.raises(ConfigurationError, match=r"await error\.asend\(\)"):
            caught.value.send()
        cut_off.heal()
        assert await again.value.asend() == receipts

    async_to_sync(handler)()
    assert waiting(jobs) == [1, 2]


def test_a_callback_of_the_project_that_raises_keeps_jobs_from_being_sent_as_django_says(jobs, invoice):
    def fails():
        raise Undone

    with pytest.raises(Undone), transaction.atomic():
        invoice.send(1)
        transaction.on_commit(fails)
        invoice.send(2)
    assert waiting(jobs) == [1]


def test_each_database_has_letters_of_its_own(cut_off, jobs, invoice):
    with transaction.atomic(using="other"):
        waits = invoice.using(database="other").send(1)
        with pytest.raises(NotSentError) as caught, transaction.atomic():
            receipt = invoice.send(2)
            cut_off.refuse()
        cut_off.heal()
        assert caught.value.receipts == [receipt]
        assert not waits.sent
    assert waits.sent


def test_one_round_trip_for_a_send(server, invoice):
    invoice.send(1)
    with server.client() as client:

        def calls():
            stats = client.info("commandstats")
            return sum(
                stats[f"cmdstat_{name}"]["calls"]
                for name in ("evalsha", "eval", "get", "ping")
                if f"cmdstat_{name}" in stats
            )

        before = calls()
        invoice.send(2)
        with transaction.atomic():
            invoice.send(3)
        assert calls() - before == 2


@pytest.mark.timeout(120)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(plans, min_size=1, max_size=6), is_up=st.booleans())
def test_whatever_is_nested_what_is_committed_is_sent_or_kept(cut_off, invoice, plan, is_up):
    cut_off.heal()
    sent: list[Any] = []
    kept: list[Any] = []
    with suppress(Undone):
        try:
            with transaction.atomic():
                sent = follow(invoice, ("commits", plan))
                if not is_up:
                    cut_off.refuse()
        except NotSentError as error:
            kept = error.receipts
    assert [receipt.sent for receipt in sent] == [is_up] * len(sent)
    assert kept == ([] if is_up else sent)


def follow(invoice, plan):
    """Do what a plan says; returns the receipts of what is not rolled back."""
    if plan == "callback":
        transaction.on_commit(lambda: None)
        return []
    if plan == "send":
        return [invoice.send(1)]
    ending, inner = plan
    receipts: list[Any] = []
    raised = None
    try:
        with transaction.atomic(savepoint=ending != "joins"):
            for each in inner:
                receipts += follow(invoice, each)
            if ending == "raises":
                raise Undone
            if ending == "rolls back":
                transaction.set_rollback(True)
    except Undone as error:
        raised = error  # who keeps an error keeps the frames that it came through
    return [] if raised or ending == "rolls back" else receipts
