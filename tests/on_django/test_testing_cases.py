"""The same in Django's own test cases, plain and async."""

from __future__ import annotations

import threading

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.db import transaction
from django.http import HttpResponse
from django.test import RequestFactory, SimpleTestCase, TestCase, TransactionTestCase
from django.test.utils import override_settings
from django.urls import path

from sync_kit import JobError, SyncKit
from sync_kit.kit import default_kit
from sync_kit_django import Jobs, rate_limited
from sync_kit_django.testing import Sent, adrain, assert_sent, drain, override_jobs, own_namespace
from tests.on_django.paying import ALL, apay, jobs, pay, threads
from tests.on_django.shop.models import Order


class Case(TestCase):
    """What a TestCase has written is seen by nobody but its own connection: handlers use that."""

    order: Order

    @classmethod
    def setUpTestData(cls):
        cls.order = Order.objects.create(number="A-1")

    def setUp(self):
        threads.clear()

    def tearDown(self):
        assert {*threads} == {threading.current_thread()}
        self.order.refresh_from_db()
        assert self.order.paid


class Inline(Case):
    @override_jobs("inline")
    def test_plain_and_async_handlers_run_where_the_test_does(self):
        for task in ALL:
            with self.captureOnCommitCallbacks(execute=True):
                task.send(self.order.pk)
        assert len(threads) == 8

    @override_jobs("inline")
    async def test_of_an_async_test_too(self):
        for task in ALL:
            await task.asend(self.order.pk)
        await sync_to_async(pay.using(on_commit=False).send)(self.order.pk)

    @override_jobs("inline")
    def test_of_async_code_in_a_plain_test_too(self):
        for task in ALL:
            async_to_sync(task.asend)(self.order.pk)

    @override_jobs("inline")
    def test_a_capture_in_a_capture_runs_a_job_once(self):
        with self.captureOnCommitCallbacks(execute=True), self.captureOnCommitCallbacks(execute=True):
            pay.send(self.order.pk)
        assert len(threads) == 1


def plain_view(request, order_id):
    for task in ALL:
        task.using(on_commit=False).send(order_id)
    return HttpResponse()


async def async_view(request, order_id):
    for task in ALL:
        await task.asend(order_id)
    await sync_to_async(apay.using(on_commit=False).send)(order_id)
    return HttpResponse()


urlpatterns = [path("plain/<int:order_id>/", plain_view), path("async/<int:order_id>/", async_view)]


@override_settings(ROOT_URLCONF=__name__)
class FromViews(Case):
    @override_jobs("inline")
    def test_views_of_either_kind_asked_by_the_plain_client(self):
        for kind in ("plain", "async"):
            assert self.client.get(f"/{kind}/{self.order.pk}/").status_code == 200

    @override_jobs("inline")
    async def test_views_of_either_kind_asked_by_the_async_client(self):
        for kind in ("plain", "async"):
            assert (await self.async_client.get(f"/{kind}/{self.order.pk}/")).status_code == 200


@override_jobs("record", attr_name="sent")
class Recorded(SimpleTestCase):
    sent: Sent

    def test_each_test_has_a_list_of_its_own(self):
        assert self.sent == []
        pay.using(on_commit=False).send(1)
        assert_sent(pay, 1, times=1)

    def test_each_other_test_too(self):
        self.test_each_test_has_a_list_of_its_own()

    async def test_async_ones_as_well(self):
        assert self.sent == []
        await pay.asend(1)
        assert_sent(pay, 1, times=1)


class Recorder(TestCase):
    @override_jobs("record", kwarg_name="sent")
    def test_what_commits_is_sent(self, sent):
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            pay.send(1)
            assert sent == []
        assert_sent(pay, 1)

    @override_jobs("record")
    def test_what_was_sent_waits_no_more(self):
        with self.captureOnCommitCallbacks(execute=True):
            pay.send(1)
        with pytest.raises(AssertionError) as caught:
            assert_sent(pay, 2)
        assert "captureOnCommitCallbacks" not in str(caught.value)


class Committed(TransactionTestCase):
    databases = "__all__"

    def test_real_queues_are_worked_off(self):
        with transaction.atomic():
            order = Order.objects.create(number="A-1")
            pay.using(delay=3600).send(order.pk)
        assert drain(jobs).completed == 1
        order.refresh_from_db()
        assert order.paid

    async def test_by_async_tests_too(self):
        order = await Order.objects.acreate(number="A-1")
        receipt = await apay.asend(order.pk)
        assert (await adrain(jobs, Jobs("empty").core)).completed == 1
        await order.arefresh_from_db()
        assert order.paid
        with pytest.raises(JobError):
            await jobs.aresult("unknown")
        assert await receipt.aresult() == order.pk


@rate_limited("1/hour", name="of-tests")
def limited(request):
    return HttpResponse()


@own_namespace(attr_name="kit")
class OwnNamespace(SimpleTestCase):
    kit: SyncKit

    def test_limits_begin_anew_in_each_test(self):
        assert [limited(RequestFactory().get("/")).status_code for _ in range(2)] == [200, 429]
        assert default_kit() is self.kit

    def test_and_in_each_other_one(self):
        self.test_limits_begin_anew_in_each_test()

    async def test_and_in_async_ones(self):
        await sync_to_async(self.test_limits_begin_anew_in_each_test)()
        await pay.asend(1)
        assert (await jobs.acounts()).waiting == 1


def test_afterwards_all_is_as_before_and_nothing_is_left():
    before = default_kit()
    with own_namespace() as kit, own_namespace() as inner:
        pay.send(1)
        assert jobs.counts().waiting == 1
        assert inner.namespace != kit.namespace
    assert default_kit().namespace == before.namespace
    assert jobs.counts().waiting == 0
    assert inner.sweep() == kit.sweep() == 0
    for each in (inner, kit):
        each.close_all()


def test_it_decorates_functions():
    @own_namespace(kwarg_name="own")
    def decorated(own=None):
        return default_kit() is own

    assert decorated()


def test_what_settings_say_within_goes_first():
    with own_namespace() as kit:
        with override_settings(SYNC_KIT={**settings.SYNC_KIT, "MUTEX": {"TTL": 3}}):
            assert default_kit().namespace == kit.namespace
        assert default_kit().namespace == kit.namespace
