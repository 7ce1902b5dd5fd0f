"""`@exclusive` on views of every kind: one request at a time for each resource."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.cache import cache
from django.http import HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import RequestFactory
from django.test.utils import override_settings
from django.urls import path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_page

from sync_kit import ConfigurationError, LockError, LockLostError, Mutex, SyncKit, Unavailable
from sync_kit_django import exclusive, lease_of, rate_limited
from sync_kit_django._views import needs_of
from tests.on_django.limited import Under, later, plain, under


@pytest.fixture(params=["wsgi", "asgi"])
def client(request):
    return Under(request.param)


@pytest.fixture
def mutex(kit):
    return Mutex("exclusive", kit=kit).blocking


class Page(View):
    def get(self, request, **values):
        return HttpResponse("got")


class Later(View):
    async def get(self, request, **values):
        return HttpResponse("got")


def directly(base):
    mine: Any = type("Mine", (base,), {"get": exclusive("report:<id>")(base.get)})
    return mine.as_view()


def dispatched(base):
    mine: Any = type("Mine", (base,), {})
    return method_decorator(exclusive("report:<id>"), name="dispatch")(mine).as_view()


EVERY = {
    "function": lambda: exclusive("report:<id>")(plain),
    "async function": lambda: exclusive("report:<id>")(later),
    "class": lambda: exclusive("report:<id>")(Page).as_view(),
    "async class": lambda: exclusive("report:<id>")(Later).as_view(),
    "as_view": lambda: exclusive("report:<id>")(Page.as_view()),
    "async as_view": lambda: exclusive("report:<id>")(Later.as_view()),
    "method": lambda: directly(Page),
    "async method": lambda: directly(Later),
    "method_decorator": lambda: dispatched(Page),
    "async method_decorator": lambda: dispatched(Later),
    "stacked": lambda: rate_limited("9/minute", key="<id>")(exclusive("report:<id>")(plain)),
    "async stacked": lambda: rate_limited("9/minute", key="<id>")(exclusive("report:<id>")(later)),
}


@pytest.mark.parametrize("kind", EVERY)
def test_the_same_resource_is_busy_and_another_is_not(client, mutex, kind):
    view = EVERY[kind]()
    assert iscoroutinefunction(view) == kind.startswith("async")
    assert ("id",) in [need.path_names for need in needs_of(view)]
    with under(("reports/<int:id>/", view)):
        with mutex.lock("report:7"):
            busy = client.get("/reports/7/", headers={"accept": "application/json"})
            assert client.get("/reports/8/").status_code == 200
        assert (busy.status_code, busy.json()["title"]) == (409, "Conflict")
        assert 1 <= int(busy["Retry-After"]) <= 10
        assert client.get("/reports/7/").status_code == 200


@pytest.mark.parametrize("view", [plain, later])
@pytest.mark.parametrize(("conflict", "status"), [("refuse", 409), ("wait", 503), ("skip", 204)])
def test_a_busy_resource_is_refused_waited_for_or_skipped(client, mutex, view, conflict, status):
    with under(("", exclusive("one", on_conflict=conflict, wait=0.05)(view))), mutex.lock("one"):
        answer = client.get("/")
    assert answer.status_code == status
    assert ("Retry-After" in answer) == (status != 204)


@pytest.mark.parametrize("view", [plain, later])
def test_who_waits_gets_its_turn(client, mutex, view):
    lease = mutex.acquire("one")
    release = threading.Timer(0.3, lease.release)
    release.start()
    with under(("", exclusive("one", on_conflict="wait")(view))):
        assert client.get("/").status_code == 200
    release.join()


def test_the_url_the_query_and_headers_name_the_resource(client, mutex):
    view = exclusive("page:<id>:<query.lang>:<header.x-tenant>")(plain)
    with under(("<int:id>/", view)), mutex.lock("page:7:a%3Ab:acme"):
        assert client.get("/7/?lang=a:b", headers={"x-tenant": "acme"}).status_code == 409
        assert client.get("/7/?lang=a", headers={"x-tenant": "acme"}).status_code == 200
        said = client.get("/7/?lang=a", headers={"accept": "application/json"})
        assert (said.status_code, said.json()["detail"]) == (400, "The header 'x-tenant' is missing.")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_value_is_what_the_view_is_called_with_however_it_is_passed(client, mutex, is_async):
    def view(request, number=1):
        return HttpResponse(str(mutex.holder(f"page:{number}") is not None))

    async def view_later(request, number=1):
        return await sync_to_async(view, thread_sensitive=False)(request, number)

    page: Any = exclusive("page:<number>")(view_later if is_async else view)
    routes = [
        path("", page),
        re_path(r"^by-position/(\d+)/$", page),
        path("of-another-url/<int:number>/", lambda request, number: page(request, number + 1)),
        path("left-out/<int:number>/", lambda request, number: page(request)),
    ]
    with under(*routes[: 2 if is_async else 4]):
        for path_ in ["/", "/by-position/7/", "/of-another-url/7/", "/left-out/7/"][: 2 if is_async else 4]:
            assert client.get(path_).content == b"True"


def test_methods_are_named_by_position_too(client, mutex):
    def get(self, request, number):
        return HttpResponse(str(mutex.holder(f"page:{number}") is not None))

    lock = exclusive("page:<number>")
    for method in (lock(get), method_decorator(lock)(get)):
        kind: Any = type("Mine", (View,), {"get": method})
        with under(re_path(r"^(\d+)/$", kind.as_view())):
            assert client.get("/7/").content == b"True"


def test_who_is_nobody_is_answered_with_401(client):
    with under(("", exclusive("cart:<user>")(plain))):
        answer = client.get("/")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_view_may_ask_for_its_lease(client, is_async):
    fences = []

    @exclusive("one")
    def view(request):
        fences.append(lease_of(request).fence)
        return HttpResponse()

    @exclusive("one")
    async def view_later(request):
        fences.append(lease_of(request).fence)
        return HttpResponse()

    with under(("", view_later if is_async else view)):
        client.codes("/", "/")
    assert fences[0] < fences[1]
    with pytest.raises(ConfigurationError, match=r"/x/ has no lease: put @exclusive"):
        lease_of(RequestFactory().get("/x/"))


def losing(mutex):
    """Views of either kind whose lease is taken from them while they run."""

    @exclusive("one", ttl=0.3)
    def view(request):
        lease = lease_of(request)
        mutex.break_lock("one")
        ends = time.monotonic() + 10
        while not lease.lost and time.monotonic() < ends:
            time.sleep(0.01)
        return HttpResponse("as if it were fine")

    @exclusive("one", ttl=0.3)
    async def view_later(request):
        await anyio.to_thread.run_sync(mutex.break_lock, "one")
        await anyio.sleep(30)
        return HttpResponse("as if it were fine")

    return [view, view_later]


@pytest.mark.parametrize("number", [0, 1])
def test_a_lost_lease_is_answered_with_503(client, mutex, caplog, number):
    with under(("", losing(mutex)[number])):
        answer = client.get("/", headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (503, "The lock was lost while this was being done.")
    assert "a request was answered with 503: the lease on 'one'" in caplog.text


@pytest.mark.parametrize("kind", [LockError, LockLostError, Unavailable, ZeroDivisionError])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_the_view_raises_is_its_own_and_ends_the_lease(mutex, kind, is_async):
    known: dict[Any, Exception] = {
        LockError: LockError("mutex 'other'", "b", "host", 1.0),
        LockLostError: LockLostError("mutex 'other'", "b", 7, "it expired"),
    }
    error = known[kind] if kind in known else kind("own")

    @exclusive("one")
    def view(request):
        raise error

    @exclusive("one")
    async def view_later(request):
        raise error

    request = RequestFactory().get("/")
    with pytest.raises(kind) as caught:
        anyio.run(view_later, request) if is_async else view(request)
    assert caught.value is error
    assert mutex.holder("one") is None


def busy(request, exception):
    return HttpResponse(f"{exception.resource} is busy", status=423)


def test_handler409_of_the_root_urlconf_answers(client, mutex):
    with under(("", exclusive("one")(plain)), handler409=busy), mutex.lock("one"):
        answer = client.get("/")
    assert (answer.status_code, answer.content) == (423, b"one is busy")
    assert "Retry-After" in answer


@pytest.mark.parametrize("view", [plain, later])
def test_without_redis_the_answer_is_503_and_each_outage_is_logged_once(own_server, caplog, view):
    server = own_server()
    kit = SyncKit(server.url, namespace="outage")
    with under(("", exclusive("one", kit=kit)(view))):
        for _ in range(2):
            for client in map(Under, ["wsgi", "asgi"]):
                assert client.get("/").status_code == 200
            server.kill()
            caplog.clear()
            answers = [client.get("/").status_code for client in map(Under, ["wsgi", "asgi"]) for _ in range(2)]
            assert answers == [503] * 4
            assert sum("are answered with 503" in record.getMessage() for record in caplog.records) == 1
            server.start()
    kit.close_all()


@pytest.mark.parametrize("setting", [True, False])
def test_ttl_is_that_of_the_settings_unless_given(server, namespace, mutex, setting):
    left = []

    @exclusive("one", ttl=None if setting else 60)
    def view(request):
        left.append(lease_of(request).expires_in)
        return HttpResponse()

    with override_settings(SYNC_KIT={"URL": server.url, "NAMESPACE": namespace, "MUTEX": {"TTL": 30}}):
        view(RequestFactory().get("/"))
    assert (28 if setting else 58) < left[0] <= (30 if setting else 60)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_template_is_rendered_inside(client, mutex, is_async):
    seen = []
    template = engines["django"].from_string("{{ look }}")

    def view(request):
        return TemplateResponse(request, template, {"look": lambda: seen.append(mutex.holder("one"))})

    async def view_later(request):
        return view(request)

    with under(("", exclusive("one")(view_later if is_async else view))):
        response = client.get("/")
    assert response.status_code == 200
    assert [holder is not None for holder in seen] == [True]
    assert mutex.holder("one") is None


def test_what_is_rendered_inside_can_be_cached(client, mutex):
    seen = []
    template = engines["django"].from_string("{{ look }}")

    def view(request):
        return TemplateResponse(request, template, {"look": lambda: seen.append(mutex.holder("one"))})

    cache.clear()
    with under(("", cache_page(60)(exclusive("one")(view)))):
        assert client.codes("/", "/") == [200, 200]
    assert [holder is not None for holder in seen] == [True]
    assert mutex.holder("one") is None


@pytest.mark.parametrize("is_async", [False, True])
def test_the_lease_ends_when_a_template_cannot_be_rendered(mutex, is_async):
    def fail():
        raise ZeroDivisionError

    def view(request):
        return TemplateResponse(request, engines["django"].from_string("{{ fail }}"), {"fail": fail})

    async def view_later(request):
        return view(request)

    request = RequestFactory().get("/")
    decorated: Any = exclusive("one")(view_later if is_async else view)
    response = anyio.run(decorated, request) if is_async else decorated(request)
    assert mutex.holder("one") is not None
    with pytest.raises(ZeroDivisionError):
        response.render()
    assert mutex.holder("one") is None


@pytest.mark.parametrize("is_async", [False, True])
def test_a_lease_that_is_lost_while_a_template_is_rendered_is_answered_with_503(client, mutex, is_async):
    template = engines["django"].from_string("{{ look }}")

    def view(request):
        return TemplateResponse(request, template, {"look": lambda: mutex.break_lock("one")})

    async def view_later(request):
        return view(request)

    with under(("", exclusive("one")(view_later if is_async else view))):
        assert client.get("/").status_code == 503


def test_a_request_that_asks_for_what_it_holds_is_a_mistake_that_is_raised():
    with pytest.raises(LockError, match="is held by this very task"):
        exclusive("one")(exclusive("one")(plain))(RequestFactory().get("/"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_conflict": "raise"}, "on_conflict must be one of 'refuse', 'wait', 'skip', not 'raise'"),
        ({"ttl": 0}, "ttl must be"),
        ({"wait": -1}, "wait must be"),
        ({"tttl": 1}, "exclusive has no option 'tttl': did you mean 'ttl'?"),
        ({"user": "ann"}, "user must be a function of the request"),
    ],
)
def test_wrong_options_are_refused_where_they_are_written(options, said):
    with pytest.raises(ConfigurationError) as caught:
        exclusive("one", **options)
    assert said in str(caught.value)


def test_an_unknown_placeholder_is_refused_where_the_view_names_its_parameters():
    with pytest.raises(ConfigurationError, match="<ident> .*use one of number, request"):

        @exclusive("report:<ident>")
        def view(request, number):
            return HttpResponse()


def test_an_unknown_placeholder_is_refused_at_the_first_request_otherwise():
    with pytest.raises(ConfigurationError, match="<ident> .*use one of id"):
        exclusive("report:<ident>")(plain)(RequestFactory().get("/"), id=7)
