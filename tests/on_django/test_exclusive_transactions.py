"""`@exclusive` and transactions: who comes next sees what was committed, so a lease outlasts the transaction."""

from __future__ import annotations

import time
import unittest
from typing import Any

import anyio
import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.http import HttpResponse, HttpResponseNotModified
from django.test import Client, RequestFactory, TestCase
from django.views import View
from django.views.decorators.cache import cache_page

from sync_kit import Mutex
from sync_kit_django import exclusive, lease_of, rate_limited
from tests.on_django.limited import Under, later, plain, under
from tests.on_django.shop.models import Order
from tests.on_django.test_exclusive import Later


def until(condition, seconds=10):
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.01)


@pytest.fixture
def mutex(kit):
    return Mutex("exclusive", kit=kit).blocking


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


@pytest.mark.parametrize("is_class", [False, True])
def test_the_transaction_of_a_request_ends_inside(tables, mutex, atomic_requests, is_class):
    """Who comes next sees what was committed: with the lock inside of the transaction it might not."""
    seen = []

    def write(request):
        Order.objects.create(number="1")
        transaction.on_commit(lambda: seen.append(mutex.holder("one") is not None))
        return HttpResponse(str(connection.in_atomic_block))

    view: Any = exclusive("one")(write)
    if is_class:
        mine: Any = type("Mine", (View,), {"get": lambda self, request: write(request)})
        view = exclusive("one")(mine).as_view()
    with under(("", rate_limited("9/minute")(view))):
        assert Under("wsgi").get("/").content == b"True"
    assert seen == [True]


def test_a_failed_request_is_rolled_back_as_ever(tables, atomic_requests):
    @exclusive("one")
    def view(request):
        Order.objects.create(number="1")
        raise ZeroDivisionError

    client = Under("wsgi")
    client._client.raise_request_exception = False
    with under(("", view)):
        assert client.get("/").status_code == 500
    assert not Order.objects.exists()


def test_async_views_are_refused_under_atomic_requests_as_ever(atomic_requests):
    said = "You cannot use ATOMIC_REQUESTS with async views"
    with under(("", exclusive("one")(later))), pytest.raises(RuntimeError, match=said):
        Under("wsgi").get("/")
    view: Any = exclusive("one")(Later).as_view()
    with pytest.raises(RuntimeError, match=said):
        anyio.run(view, RequestFactory().get("/"))


def method(write):
    class Page(View):
        @exclusive("one", ttl=0.3)
        def get(self, request):
            return write(request)

    return Page.as_view()


def called(write):
    view = exclusive("one", ttl=0.3)(write)
    return lambda request: view(request)


def whole(write):
    @exclusive("one", ttl=0.3)
    class Page(View):
        def get(self, request):
            return write(request)

    return Page.as_view()


AROUND = {
    "the method of a class": method,
    "a view that is called": called,
    "below atomic": lambda write: transaction.atomic(exclusive("one", ttl=0.3)(write)),
}


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("around", AROUND)
def test_a_lease_outlasts_a_transaction_that_is_around(tables, mutex, atomic_requests, around, kind):
    seen = []

    def write(request):
        Order.objects.create(number="1")
        transaction.on_commit(lambda: seen.append(mutex.holder("one") is not None))
        return HttpResponse()

    with under(("", AROUND[around](write))):
        client = Under(kind)
        assert client.codes("/", "/") == [200, 200]
    assert seen == [True, True]
    assert mutex.holder("one") is None


def not_modified(view):
    return lambda request: (view(request), HttpResponseNotModified())[1]


def test_a_lease_ends_with_the_request_whatever_becomes_of_its_response(tables, mutex, atomic_requests):
    """Middlewares replace responses, and a callback of a commit may fail: nobody closes the first response then."""

    def write(request):
        if request.GET:
            transaction.on_commit(lambda: request.missing)
        return HttpResponse()

    client = Client(raise_request_exception=False)
    with under(("", method(write)), ("replaced/", not_modified(method(plain)))):
        for page, code in {"/replaced/": 304, "/": 200, "/?fails": 500}.items():
            assert client.get(page).status_code == code
            assert mutex.holder("one") is None


def test_a_response_that_outlasts_a_transaction_can_be_cached(tables, mutex, atomic_requests):
    cache.clear()
    with under(("", cache_page(60)(method(plain)))):
        assert Under("wsgi").codes("/", "/") == [200, 200]
    assert mutex.holder("one") is None


def test_a_lease_is_over_when_a_transaction_around_fails(tables, mutex):
    def write(request):
        Order.objects.create(number="1")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transaction.atomic(exclusive("one")(write))(RequestFactory().get("/"))
    assert mutex.holder("one") is None


AROUND_OR_INSIDE = {
    **AROUND,
    "a function": exclusive("one", ttl=0.3),
    "a class": whole,
}


@pytest.mark.parametrize("around", AROUND_OR_INSIDE)
def test_nothing_is_committed_of_what_was_written_without_a_lease(tables, mutex, atomic_requests, around):
    def write(request):
        Order.objects.create(number="1")
        mutex.break_lock("one")
        until(lambda: lease_of(request).lost)
        return HttpResponse()

    with under(("", AROUND_OR_INSIDE[around](write))):
        assert Under("wsgi").get("/").status_code == 503
    assert not Order.objects.exists()


def test_the_transaction_of_a_test_case_is_none(mutex):
    class Case(TestCase):
        def test(self):
            assert connection.in_atomic_block
            self.kept = exclusive("one")(plain)(RequestFactory().get("/"))
            assert mutex.holder("one") is None

    result = unittest.TestResult()
    unittest.TestSuite([Case("test")]).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


@pytest.mark.parametrize("is_below", [False, True])
def test_a_view_without_the_transaction_of_requests_has_none(tables, atomic_requests, is_below):
    def view(request):
        return HttpResponse(str(connection.in_atomic_block))

    lock, without = exclusive("one"), transaction.non_atomic_requests
    with under(("", lock(without(view)) if is_below else without(lock(view)))):
        assert Under("wsgi").get("/").content == b"False"


def test_a_function_inside_of_a_transaction_is_warned_of_once(mutex, caplog):
    @exclusive("one")
    def function():
        return mutex.holder("one") is not None

    assert function()
    assert not caplog.records
    with transaction.atomic():
        assert [function(), function()] == [True, True]
    assert ["was called inside of a transaction" in record.getMessage() for record in caplog.records] == [True]
