"""Django REST framework: a throttle, and decorators on its views."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import pytest
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.test.utils import modify_settings, override_settings
from rest_framework.decorators import api_view, throttle_classes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from sync_kit import Mutex, RateLimiter, SyncKit
from sync_kit_django import exclusive, rate_limit_exempt, rate_limited
from sync_kit_django.drf import RateLimitThrottle
from tests.on_django.limited import under

PLAIN: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_THROTTLE_RATES": {"burst": "2/minute", "short": "1/m", "both": ["5/hour", "1/second"], "free": None},
}


@pytest.fixture(autouse=True)
def framework():
    with override_settings(REST_FRAMEWORK=PLAIN):
        yield


class Twice(RateLimitThrottle):
    rate = "2/minute"


class Burst(RateLimitThrottle):
    scope = "burst"


class Hourly(RateLimitThrottle):
    rate = "3/hour"


def view_with(*throttles: type, scope: str | None = None) -> Any:
    def answer(self, request):
        return Response({"a": 1})

    kind: Any = type("Page", (APIView,), {"get": answer, "throttle_classes": throttles, "throttle_scope": scope})
    return kind.as_view()


def get(view, user=None, **meta):
    request = APIRequestFactory().get("/", **meta)
    if user is not None:
        force_authenticate(request, user=user)
    response = view(request)
    return response.render()


def test_a_throttle_admits_its_rate_and_says_when_to_come_again():
    view = view_with(Twice)
    first, _, third = (get(view) for _ in range(3))
    assert (first.status_code, first["RateLimit-Policy"]) == (200, '"2/minute";q=2;w=60')
    assert (third.status_code, third["RateLimit"][:14]) == (429, '"2/minute";r=0')
    assert 1 <= int(third["Retry-After"]) <= 63
    assert "Request was throttled" in third.data["detail"]


@pytest.mark.parametrize(("throttle", "scope"), [(Burst, None), (RateLimitThrottle, "burst")])
def test_the_rate_may_be_that_of_a_scope(throttle, scope):
    view = view_with(throttle, scope=scope)
    assert [get(view).status_code for _ in range(3)] == [200, 200, 429]


def test_views_of_one_scope_share_a_budget_and_a_view_without_one_is_free():
    one, two, free = (view_with(RateLimitThrottle, scope=scope) for scope in ("short", "short", None))
    assert [get(one).status_code, get(two).status_code] == [200, 429]
    assert [get(free).status_code for _ in range(3)] == [200] * 3
    assert "RateLimit" not in get(free)


def test_rates_are_read_as_the_framework_writes_them():
    assert get(view_with(RateLimitThrottle, scope="short"))["RateLimit-Policy"] == '"1/minute";q=1;w=60'
    policies = get(view_with(RateLimitThrottle, scope="both"))["RateLimit-Policy"]
    assert policies == '"1/second";q=1;w=1, "5/hour";q=5;w=3600'
    assert [get(view_with(RateLimitThrottle, scope="free")).status_code for _ in range(3)] == [200] * 3


def test_a_scope_without_a_rate_is_told():
    with pytest.raises(ImproperlyConfigured, match="no rate is set for the scope 'none'"):
        get(view_with(RateLimitThrottle, scope="none"))


def test_users_and_addresses_are_counted_apart():
    view = view_with(Twice)
    for user in (User(pk=1), User(pk=2), None):
        assert [get(view, user).status_code for _ in range(3)] == [200, 200, 429]
    assert get(view, REMOTE_ADDR="192.0.2.7").status_code == 200


def test_a_key_of_ones_own():
    class ByTenant(RateLimitThrottle):
        rate = "1/minute"

        def get_key(self, request, view):
            tenant = request.headers.get("x-tenant")
            return uuid5(NAMESPACE_DNS, tenant) if tenant else None

    view = view_with(ByTenant)
    assert [get(view, HTTP_X_TENANT=tenant).status_code for tenant in "aab"] == [200, 429, 200]
    assert [get(view).status_code for _ in range(3)] == [200] * 3, "None is not throttled"


@pytest.mark.parametrize("throttles", [(Hourly, Twice), (Twice, Hourly)])
def test_throttles_of_one_request_are_all_charged_or_none(kit, throttles):
    view = view_with(*throttles)
    assert [get(view).status_code for _ in range(9)].count(200) == 2
    assert RateLimiter(f"{__name__}.Hourly", "3/hour", kit=kit).blocking.peek("127.0.0.1").remaining == 1


def test_it_is_exact_where_many_ask_at_once(kit):
    class Ten(RateLimitThrottle):
        rate = "10/minute"

    view = view_with(Ten)
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda _: get(view).status_code, range(100)))
    assert codes.count(200) == 10


@pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("deny", 429), ("raise", 503)])
def test_without_redis_the_policy_decides(own_server, on_error, status):
    own = own_server()
    own.stop()
    policy, away = on_error, SyncKit(own.url)

    class Away(RateLimitThrottle):
        rate = "5/minute"
        on_error = policy
        kit = away

    assert get(view_with(Away)).status_code == status
    away.close()


def test_with_the_middleware_its_fields_are_joined_once():
    with (
        under(("", view_with(Twice))),
        modify_settings(MIDDLEWARE={"prepend": "sync_kit_django.RateLimitMiddleware"}),
    ):
        answer = Client().get("/")
    assert answer["RateLimit-Policy"] == '"100/minute";q=100;w=60, "2/minute";q=2;w=60'


def test_function_views_are_throttled():
    @api_view(["GET"])
    @throttle_classes([Twice])
    def page(request):
        return Response({})

    assert [get(page).status_code for _ in range(3)] == [200, 200, 429]


def handled(error, context):
    """An EXCEPTION_HANDLER of the project."""
    return Response({"own": type(error).__name__, "wait": error.wait}, status=error.status_code)


def test_inside_of_a_view_the_framework_answers_for_decorators():
    class Page(APIView):  # type: ignore[misc]
        @rate_limited("1/minute", key="user")
        def get(self, request):
            return Response({})

    @api_view(["GET"])
    @rate_limited("1/minute")
    def page(request):
        assert isinstance(request, Request)
        return Response({})

    for view in (Page.as_view(), page):
        first, second = get(view, User(pk=1)), get(view, User(pk=1))
        assert (first.status_code, first["RateLimit"][:14]) == (200, '"1/minute";r=0')
        assert (second.status_code, second["Content-Type"]) == (429, "application/json")
        assert "Request was throttled" in second.data["detail"]
        assert second["RateLimit"].startswith('"1/minute";r=0')
        assert second["Retry-After"]
        with override_settings(REST_FRAMEWORK={**PLAIN, "EXCEPTION_HANDLER": f"{__name__}.handled"}):
            own = get(view, User(pk=1))
        assert own.data["own"] == "Throttled"


def test_around_a_view_the_adapter_answers():
    @rate_limited("1/minute")
    @api_view(["GET"])
    def page(request):
        return Response({})

    @rate_limited("1/minute")
    class Page(APIView):  # type: ignore[misc]
        def get(self, request):
            return Response({})

    with under(("a/", page), ("b/", Page.as_view())):
        for path in ("/a/", "/b/"):
            json = {"accept": "application/json"}
            assert [Client().get(path, headers=json).status_code for _ in range(2)] == [200, 429]
            assert Client().get(path, headers=json)["Content-Type"] == "application/problem+json"
    assert page.csrf_exempt


@pytest.mark.parametrize("way", ["class", "as_view"])
def test_sets_of_views_may_be_exempt_and_are_checked(way):
    class Pages(ViewSet):  # type: ignore[misc]
        @exclusive("one:<number>")
        def list(self, request, number):
            return Response({})

    view = rate_limit_exempt(Pages).as_view if way == "class" else lambda of: rate_limit_exempt(Pages.as_view(of))
    with (
        under(("pages/", view({"get": "list"})), ("other/", view_with())),
        modify_settings(MIDDLEWARE={"prepend": "sync_kit_django.RateLimitMiddleware"}),
    ):
        assert "RateLimit" not in Client(raise_request_exception=False).get("/pages/")
        assert "RateLimit" in Client().get("/other/")
        assert [message.id for message in run_checks(tags=["sync_kit"])] == ["sync_kit.E006"]


def test_views_may_be_exclusive_and_exempt(kit):
    class Page(APIView):  # type: ignore[misc]
        @exclusive("one:<number>")
        def get(self, request, number):
            return Response({"fence": 1})

    with under(("<int:number>/", rate_limit_exempt(Page.as_view()))):
        assert Client().get("/7/").status_code == 200
        with Mutex("exclusive", kit=kit).blocking.lock("one:7"):
            busy = Client().get("/7/")
        assert (busy.status_code, busy.json()["detail"]) == (409, "Somebody else is doing this right now.")
        assert 1 <= int(busy["Retry-After"]) <= 10
        assert Client().get("/7/").status_code == 200
