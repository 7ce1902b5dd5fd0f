"""`@rate_limited` on views of every kind."""

from __future__ import annotations

import functools
import types
import uuid
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import TemplateView

from sync_kit import ConfigurationError, RateLimiter
from sync_kit_django import rate_limited
from sync_kit_django._views import name_of, needs_of
from tests.on_django.limited import Under, later, plain, under


@pytest.fixture(params=["wsgi", "asgi"])
def client(request):
    return Under(request.param)


class Page(View):
    def get(self, request, **values):
        return HttpResponse("got")

    def post(self, request, **values):
        return HttpResponse("posted")


class Later(View):
    async def get(self, request, **values):
        return HttpResponse("got")

    async def post(self, request, **values):
        return HttpResponse("posted")


@pytest.mark.parametrize("view", [plain, later, Page.as_view(), Later.as_view()])
def test_a_view_is_limited(client, view):
    with under(("", rate_limited("2/minute")(view))):
        first = client.get("/")
        assert (first.status_code, first["RateLimit"][:14]) == (200, '"2/minute";r=1')
        assert client.codes("/", "/") == [200, 429]


@pytest.mark.parametrize("kind", [Page, Later])
def test_a_class_has_one_budget_for_all_methods_and_stays_what_it_was(client, kind):
    limited = rate_limited("2/minute")(kind)
    with under(("", limited.as_view()), ("free/", kind.as_view())):
        assert client.get("/").content == b"got"
        assert client.post("/").content == b"posted"
        assert client.codes("/", "/free/") == [429, 200]
    assert limited.__name__ == kind.__name__
    assert issubclass(limited, kind)
    assert limited.view_is_async == kind.view_is_async


@pytest.mark.parametrize("base", [Page, Later])
@pytest.mark.parametrize("way", ["dispatch", "get", "directly"])
def test_methods_are_limited_each_in_its_class(client, base, way):
    kinds: list[Any] = []
    if way == "directly":

        class One(base):  # type: ignore[valid-type, misc]
            get = rate_limited("1/minute")(base.get)

        kinds = [One]
    else:
        decorate = method_decorator(rate_limited("1/minute"), name=way)
        kinds = [decorate(type(name, (base,), {"__module__": __name__})) for name in ("One", "Two")]
    with under(*((f"{kind.__name__}/", kind.as_view()) for kind in kinds)):
        for kind in kinds:
            assert client.codes(f"/{kind.__name__}/", f"/{kind.__name__}/") == [200, 429]


def test_method_decorator_makes_its_limiter_once(client, caplog):
    @method_decorator(rate_limited("1000/minute"), name="dispatch")
    class Many(Page):
        pass

    with under(("", Many.as_view())):
        assert set(client.codes(*["/"] * 120)) == {200}
    assert "was made" not in caplog.text


def test_a_limit_on_the_base_is_one_budget_of_all_that_inherit_it(client):
    @rate_limited("1/minute")
    class Base(View):
        pass

    kinds: Any = (type(name, (Base,), {"get": Page.get}) for name in ("One", "Two"))
    one, two = kinds
    with under(("a/", one.as_view()), ("b/", two.as_view())):
        assert client.codes("/a/", "/b/") == [200, 429]


def test_attributes_of_views_stay_and_async_views_stay_async():
    @rate_limited("5/minute")
    @csrf_exempt
    def view(request, number):
        """What it does."""

    assert (view.__name__, view.__doc__, getattr(view, "csrf_exempt", None)) == ("view", "What it does.", True)
    assert not iscoroutinefunction(view)
    assert iscoroutinefunction(rate_limited("5/minute")(later))
    assert iscoroutinefunction(rate_limited("5/minute")(Later).as_view())
    assert iscoroutinefunction(rate_limited("5/minute")(Later.as_view()))
    assert not iscoroutinefunction(rate_limited("5/minute")(Page.as_view()))


def test_partials_and_objects_are_views_too(client):
    class Object:
        def __call__(self, request):
            return HttpResponse("object")

    class AsyncObject:
        async def __call__(self, request):
            return HttpResponse("object")

    views: list[Any] = [functools.partial(plain, word="x"), Object(), AsyncObject()]
    limited = [rate_limited("1/minute")(view) for view in views]
    with under(*((f"{number}/", view) for number, view in enumerate(limited))):
        for number in range(len(views)):
            assert client.codes(f"/{number}/", f"/{number}/") == [200, 429]


def test_a_view_has_one_budget_under_all_of_its_urls(client):
    with under(("a/<int:id>/", limited := rate_limited("2/minute")(plain)), ("b/<slug:word>/", limited)):
        assert client.codes("/a/1/", "/b/x/", "/a/2/") == [200, 200, 429]


def test_views_of_one_module_have_a_budget_each():
    names = {name_of(view) for view in (plain, Page.as_view(), Later.as_view(), Page().get, csrf_exempt(plain))}
    assert names == {
        "tests.on_django.limited.plain",
        f"{__name__}.Page",
        f"{__name__}.Later",
        f"{__name__}.Page.get",
    }
    assert name_of(TemplateView.as_view(template_name="a.html")) == "django.views.generic.base.TemplateView"


@pytest.mark.parametrize("view", [plain, later])
def test_stacked_limits_are_joined_and_what_one_took_is_given_back_when_another_refuses(client, kit, view):
    stacked = rate_limited("3/hour", name="outer")(rate_limited("1/minute", name="inner")(view))
    with under(("", stacked)):
        first, second = client.get("/"), client.get("/")
    assert first["RateLimit-Policy"] == '"3/hour";q=3;w=3600, "1/minute";q=1;w=60'
    assert (second.status_code, second["RateLimit-Policy"]) == (429, '"1/minute";q=1;w=60')
    assert RateLimiter("outer", "3/hour", kit=kit).blocking.peek("127.0.0.1").remaining == 2


def test_one_limiter_charges_a_request_once(client, kit):
    limiter = RateLimiter("shared", "5/minute", kit=kit)
    with under(("", rate_limited(limiter)(rate_limited(limiter)(plain)))):
        client.get("/")
    assert limiter.blocking.peek("127.0.0.1").remaining == 4


def test_only_the_methods_that_are_named_are_counted(client):
    with under(("", rate_limited("1/minute", methods=["POST"])(plain))):
        assert client.codes("/", "/") == [200, 200]
        assert [client.post("/").status_code for _ in range(2)] == [200, 429]
    with under(("", rate_limited("1/minute", methods="get", name="gets")(plain))):
        assert [client.head("/").status_code, client.get("/").status_code, client.put("/").status_code] == [
            200,
            429,
            200,
        ]


@pytest.mark.parametrize("view", [plain, later])
@pytest.mark.parametrize("is_async", [False, True])
def test_cost_and_key_may_be_functions_of_either_kind(client, view, is_async):
    def sync_key(request):
        return request.headers["x-key"]

    async def async_key(request):
        return request.headers["x-key"]

    async def async_cost(request):
        return int(request.GET["cost"])

    cost = async_cost if is_async else lambda request: int(request.GET["cost"])
    key = async_key if is_async else sync_key
    with under(("", rate_limited("10/minute", key=key, cost=cost)(view))):
        assert client.codes("/?cost=6", "/?cost=6", "/?cost=4", headers={"x-key": "a"}) == [200, 429, 200]
        assert client.codes("/?cost=6", headers={"x-key": "b"}) == [200]


@pytest.mark.parametrize("view", [plain, later])
def test_a_key_function_may_know_nobody_and_return_an_odd_primary_key(client, view):
    wrong: Any = lambda request: b"a"  # noqa: E731
    keys = iter([None, "", None, uuid.UUID(int=7), uuid.UUID(int=7)])
    with under(("", rate_limited("2/minute", key=lambda request: next(keys))(view))):
        assert client.codes(*["/"] * 5) == [200, 200, 429, 200, 200]
    with under(("", rate_limited("2/minute", key=wrong, name="odd")(view))):
        said = "limiter 'odd': a key must be a text, a number or None, not bytes"
        with pytest.raises(ConfigurationError, match=said):
            client.get("/")


def test_a_template_counts_by_values_of_the_url_the_query_and_headers(client):
    limited = rate_limited("1/minute", key="<id>:<query.lang>:<header.x-tenant>")(plain)
    with under(("<int:id>/", limited)):
        tenant = {"x-tenant": "a"}
        assert client.codes("/7/?lang=de", "/007/?lang=de", "/8/?lang=de", headers=tenant) == [200, 429, 200]
        assert client.codes("/7/?lang=en", headers=tenant) == [200]
        assert client.codes("/7/", "/8/", headers=tenant) == [200, 429], "without a value the address is counted"


def test_a_secret_header_is_hashed_before_it_is_counted(client, server):
    with under(("", rate_limited("1/minute", key="<header.x-api-key>")(plain))):
        assert client.codes("/", "/", headers={"x-api-key": "s3cret"}) == [200, 429]
    with server.client() as redis:
        assert not [key for key in redis.keys("*") if b"s3cret" in key]


def test_a_placeholder_that_the_view_does_not_name_is_refused_where_it_is_written():
    with pytest.raises(ConfigurationError, match=r"<ident> in '<ident>' is not known here: use one of number, request"):

        @rate_limited("1/minute", key="<ident>")
        def view(request, number):
            return HttpResponse()


def test_a_placeholder_that_no_url_has_is_told_at_the_first_request():
    limited = rate_limited("1/minute", key="<ident>:<user>")(plain)
    assert [need.path_names for need in needs_of(limited)] == [("ident",)]
    with pytest.raises(ConfigurationError, match="<ident> .*use one of id, user"):
        limited(RequestFactory().get("/7/"), id=7)


def test_placeholders_are_remembered_for_the_system_check_on_views_of_every_kind():
    class Mine(Page):
        get = rate_limited("1/minute", key="<id>")(Page.get)

    by_id = rate_limited("1/minute", key="<id>")
    dispatched: Any = method_decorator(by_id, name="dispatch")(type("Mine", (Page,), {}))
    views = [by_id(plain), by_id(Page).as_view(), by_id(Page.as_view()), Mine.as_view(), dispatched.as_view()]
    for view in [*views, csrf_exempt(views[0])]:
        assert [need.path_names for need in needs_of(view)] == [("id",)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"key": "users"},
            """key must be "ip", "user", a template such as "<id>:<user>", or a function, not 'users'""",
        ),
        ({"keys": "ip"}, "rate_limited has no option 'keys': did you mean 'key'?"),
        ({"on_error": "ignore"}, "on_error must be one of"),
        ({"methods": []}, "methods is empty"),
        ({"methods": ["GE T"]}, "methods takes names"),
        ({"cost": -1}, "cost must be from 0"),
        ({"user": str}, "user= says what <user> is"),
        ({"key": "user", "user": "ann"}, "user must be a function of the request, not 'ann'"),
        ({"trusted_proxies": ["nobody"]}, "trusted proxies: 'nobody'"),
        ({"kit": "redis://"}, "kit must be a SyncKit"),
    ],
)
def test_wrong_options_are_refused_where_they_are_written(options, said):
    with pytest.raises(ConfigurationError) as caught:
        rate_limited("5/minute", **options)
    assert said in str(caught.value)


def test_a_limiter_that_is_given_takes_no_options(kit):
    with pytest.raises(ConfigurationError, match="leave out on_error="):
        rate_limited(RateLimiter("a", "1/minute", kit=kit), on_error="deny")


@pytest.mark.parametrize("wrong", [HttpResponse, 7])
def test_what_is_no_view_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="@rate_limited decorates views"):
        rate_limited("1/minute")(wrong)


def test_generators_are_refused():
    def parts(request):
        yield ""

    with pytest.raises(ConfigurationError, match="a generator: return a StreamingHttpResponse"):
        rate_limited("1/minute")(parts)


def test_a_call_without_a_request_is_an_error_that_says_so():
    with pytest.raises(ConfigurationError, match="@rate_limited, which is for requests, and was called without"):
        rate_limited("1/minute")(plain)(types.SimpleNamespace())


def test_streams_and_errors_of_the_view_are_its_own(client):
    def stream(request):
        return StreamingHttpResponse(iter(["a", "b"]))

    def lost(request):
        raise Http404

    with under(("", rate_limited("5/minute")(stream)), ("lost/", rate_limited("1/minute")(lost))):
        answer = client.get("/")
        assert answer["RateLimit-Policy"] == '"5/minute";q=5;w=60'
        assert client.codes("/lost/", "/lost/") == [404, 429]


def test_a_view_may_be_called_by_hand():
    view = rate_limited("1/minute")(plain)
    factory = RequestFactory()
    assert [view(factory.get("/")).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("view", [plain, later])
def test_a_limit_is_one_round_trip(client, server, view):
    limited = rate_limited("100/minute")(view)
    with under(("", limited)), server.client() as redis:
        client.get("/")
        redis.config_resetstat()
        client.get("/")
        calls = {name: stats["calls"] for name, stats in redis.info("commandstats").items()}
    assert calls.pop("cmdstat_evalsha") == 1
    assert not {name for name in calls if "select" not in name and "hello" not in name and "client" not in name} - {
        "cmdstat_info",
        "cmdstat_config|resetstat",
        "cmdstat_time",
        "cmdstat_get",
        "cmdstat_set",
    }


def test_async_views_run_on_the_loop_and_not_on_a_thread(monkeypatch):
    import asyncio
    import threading

    threads = []

    async def view(request):
        threads.append(threading.get_ident())
        return HttpResponse("")

    async def ask():
        answer = await rate_limited("1/minute")(view)(RequestFactory().get("/"))
        assert answer.status_code == 200
        return threading.get_ident()

    monkeypatch.setattr("sync_kit_django._answers.sync_to_async", None)
    assert [asyncio.run(ask())] == threads


def test_async_views_under_wsgi_leave_no_connections(server):
    """Django runs each in an event loop of its own, and each loop has a client."""
    client = Under("wsgi")
    with under(("", rate_limited("1000/minute")(later))), server.client() as redis:
        client.codes("/", "/")
        before = redis.info("clients")["connected_clients"]
        assert set(client.codes(*["/"] * 50)) == {200}
        assert redis.info("clients")["connected_clients"] <= before + 5
