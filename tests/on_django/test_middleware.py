"""`RateLimitMiddleware`: one budget over the whole project, in sync and in async mode."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import anyio
import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import RequestFactory
from django.test.utils import modify_settings, override_settings
from django.utils.decorators import method_decorator
from django.views import View

from sync_kit import ConfigurationError, RateLimiter
from sync_kit_django import RateLimitMiddleware, rate_limit_exempt, rate_limited
from tests.on_django.limited import Under, later, plain, under


@pytest.fixture(params=["wsgi", "asgi"])
def client(request):
    return Under(request.param)


@pytest.fixture
def around(server, namespace):
    """`with around("...", LIMIT=2):` the project has this middleware, outermost, and these settings."""

    def make(path: str = "sync_kit_django.RateLimitMiddleware", **given: Any) -> Any:
        import contextlib

        stack = contextlib.ExitStack()
        stack.enter_context(
            override_settings(SYNC_KIT={"URL": server.url, "NAMESPACE": namespace, "RATE_LIMIT": given})
        )
        stack.enter_context(modify_settings(MIDDLEWARE={"append" if "ByUser" in path else "prepend": path}))
        return stack

    return make


class Small(RateLimitMiddleware):
    rules = ("2/minute",)
    name = "small"
    methods = ("POST",)


class ByUser(RateLimitMiddleware):
    rules = ("1/minute",)
    name = "by-user"
    key = "user"


class ByHeader(RateLimitMiddleware):
    rules = ("1/minute",)

    def key(self, request):
        return request.headers["x-key"]


class ByUrl(RateLimitMiddleware):
    key = "<id>"


def test_the_whole_project_has_one_budget_for_each_client(client, around):
    with under(("a/", plain), ("b/", later)), around(LIMIT=3):
        first = client.get("/a/")
        assert first["RateLimit-Policy"] == '"3/minute";q=3;w=60'
        assert client.codes("/b/", "/nowhere/", "/a/") == [200, 404, 429]
        assert client.codes("/a/", REMOTE_ADDR="192.0.2.7") == [200] or client.kind == "asgi"


def test_a_refusal_is_a_page_or_a_problem(client, around):
    with under(("", plain)), around(LIMIT=1, WINDOW=30):
        client.get("/")
        page, problem = client.get("/"), client.get("/", headers={"accept": "application/json"})
    assert (page.status_code, page["Content-Type"]) == (429, "text/html; charset=utf-8")
    assert problem.json()["violated-policies"] == ["1/30 seconds"]
    assert problem["Retry-After"]
    assert problem["RateLimit"]


def test_fields_of_middleware_and_decorators_are_joined_once(client, around):
    view = rate_limited("5/minute", name="inner")(rate_limited("7/minute", name="innermost")(plain))
    with under(("", view)), around(LIMIT=9):
        answer = client.get("/")
    assert answer["RateLimit-Policy"] == '"9/minute";q=9;w=60, "5/minute";q=5;w=60, "7/minute";q=7;w=60'


def test_fields_are_on_the_errors_that_the_project_answers(client, around):
    with under(("a/", plain)), around(LIMIT=9):
        assert client.get("/nowhere/")["RateLimit-Policy"] == '"9/minute";q=9;w=60'


def test_paths_and_views_may_be_exempt(client, around):
    class Free(View):
        def get(self, request):
            return HttpResponse()

    free: Any = rate_limit_exempt(type("Free", (Free,), {}))
    dispatched: Any = method_decorator(rate_limit_exempt, name="dispatch")(type("Free", (Free,), {}))
    routes = [
        ("live/", plain),
        ("static/<path:name>", plain),
        ("exempt/", rate_limit_exempt(lambda request: HttpResponse())),
        ("class/", free.as_view()),
        ("dispatched/", dispatched.as_view()),
        ("counted/", later),
    ]
    with under(*routes), around(LIMIT=1, EXEMPT=["/live/", "/static/*"]):
        assert client.codes("/counted/", "/counted/") == [200, 429]
        for path in ("/live/", "/static/a/b.css", "/exempt/", "/class/", "/dispatched/"):
            assert client.codes(path, path) == [200, 200], path
        assert client.codes("/nowhere/", "/live/x/") == [429, 429]


def test_a_subclass_says_what_it_limits(client, around):
    with under(("", plain)), around(f"{__name__}.Small"):
        assert client.codes("/", "/", "/") == [200] * 3
        assert [client.post("/").status_code for _ in range(3)] == [200, 200, 429]


def test_a_subclass_may_count_by_a_method_of_its_own(client, around):
    with under(("", plain)), around(f"{__name__}.ByHeader"):
        assert client.codes("/", "/", headers={"x-key": "a"}) == [200, 429]
        assert client.codes("/", headers={"x-key": "b"}) == [200]


def test_after_authentication_it_knows_who_is_signed_in(client, around, tables):
    users = [User.objects.create_user(name) for name in ("ann", "bob")]
    with under(("", later)), around(f"{__name__}.ByUser"):
        assert client.codes("/", "/") == [200, 429]
        for user in users:
            client.force_login(user) if client.kind == "wsgi" else client.aforce_login(user)
            assert client.codes("/", "/") == [200, 429]


def test_two_of_one_name_charge_a_request_once(client, kit, around):
    with under(("", plain)), around(LIMIT=5), modify_settings(MIDDLEWARE={"append": f"{__name__}.Again"}):
        assert client.get("/")["RateLimit-Policy"] == '"5/minute";q=5;w=60'


class Again(RateLimitMiddleware):
    pass


def test_it_is_sync_and_async_and_hops_to_no_thread():
    threads = []

    async def get_response(request):
        threads.append(threading.get_ident())
        return HttpResponse()

    async def ask():
        middleware = RateLimitMiddleware(get_response)
        assert iscoroutinefunction(middleware)
        response = await middleware(RequestFactory().get("/"))
        assert response["RateLimit"]
        return threading.get_ident()

    assert [anyio.run(ask)] == threads
    middleware = RateLimitMiddleware(lambda request: HttpResponse())
    assert not iscoroutinefunction(middleware)
    assert middleware(RequestFactory().get("/"))["RateLimit"]


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_django_adapts_nothing_around_it(around, caplog, kind):
    caplog.set_level(logging.DEBUG, "django.request")
    with under(("", plain)), around(), override_settings(DEBUG=True):
        Under(kind).get("/")
    assert "adapted for middleware sync_kit_django" not in caplog.text


@pytest.mark.parametrize("mode", ["wsgi", "asgi"])
def test_a_request_is_one_round_trip(around, server, mode):
    client = Under(mode)
    with under(("", plain)), around(), server.client() as redis:
        client.get("/")
        redis.config_resetstat()
        client.get("/")
        assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == 1


def test_what_is_wrong_with_it_is_told_when_it_is_made(around):
    with pytest.raises(ConfigurationError, match="a middleware runs before routing"):
        ByUrl(plain)
    with around(EXEMPT=["live"]), pytest.raises(ConfigurationError, match="exempt takes paths"):
        RateLimitMiddleware(plain)


def test_a_refused_request_of_a_view_is_not_given_back(client, kit, around):
    """The middleware counts requests, whatever comes of them."""
    with under(("", rate_limited("1/minute", name="inner")(plain))), around(LIMIT=10):
        assert client.codes("/", "/", "/") == [200, 429, 429]
    assert RateLimiter("http", limit=10, window=60, kit=kit).blocking.peek("127.0.0.1").remaining == 7


def test_the_handler_of_the_project_answers(client, around):
    def handler(request, exception):
        return HttpResponse(json.dumps({"wait": exception.retry_after > 0}), status=429)

    with under(("", plain), handler429=handler), around(LIMIT=1):
        client.get("/")
        assert client.get("/").content == b'{"wait": true}'


def with_template(request, exception):
    template = engines["django"].from_string("wait {{ wait }}")
    return TemplateResponse(request, template, {"wait": exception.retry_after > 0}, status=429)


async def with_template_later(request, exception):
    return with_template(request, exception)


@pytest.mark.parametrize("handler", [with_template, with_template_later])
def test_the_handler_of_the_project_may_leave_the_rendering_to_others(client, around, handler):
    with under(("", plain), handler429=handler), around(LIMIT=1):
        client.get("/")
        assert client.get("/").content == b"wait True"
