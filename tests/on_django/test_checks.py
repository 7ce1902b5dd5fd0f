"""What is wrong with the setup of a project is said by `manage.py check`, with an id and a hint."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from django.core.checks import run_checks
from django.http import HttpResponse
from django.test.utils import override_settings
from django.urls import include, path, re_path
from django.views import View

import sync_kit
from sync_kit_django import Jobs, _registry, checks, exclusive, rate_limited


def found(*, deploy: bool = False) -> dict[str, str]:
    """What our checks say, by their ids."""
    messages = run_checks(tags=["sync_kit"], include_deployment_checks=deploy)
    assert all(message.hint for message in messages)
    return {str(message.id): f"{message.msg} ({message.hint})" for message in messages}


def test_a_project_that_is_right_hears_nothing():
    assert found() == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"NAMESPCE": "shop"}, "did you mean 'NAMESPACE'?"),
        ({"URL": "http://localhost"}, "http"),
        ({"WORKER": {"CONCURRENCY": 0}}, """SYNC_KIT["WORKER"]["CONCURRENCY"] must be from 1"""),
        ({"WORKER": {"QUEUES": ["tasks.mial"]}}, "there is no queue 'tasks.mial': did you mean 'tasks.mail'?"),
        ({"JOBS": {"DATABASE": "othre"}}, "database 'othre', which DATABASES does not have"),
    ],
)
def test_a_mistake_in_the_settings_is_found_and_hides_no_other_check(given, said):
    with override_settings(SYNC_KIT=given):
        assert said in found(deploy=True)["sync_kit.E001"]


def test_a_mistake_in_the_settings_is_raised_where_the_server_is_needed():
    limiter = sync_kit.RateLimiter("api", limit=1, window=60)
    wrong = override_settings(SYNC_KIT={"ULR": "redis://localhost"})
    with wrong, pytest.raises(sync_kit.ConfigurationError, match="did you mean 'URL'"):
        limiter.blocking.check("ann")


def test_two_jobs_of_one_name_are_found():
    made = [sync_kit.Jobs("mail"), sync_kit.Jobs("mail"), sync_kit.Jobs("reports")]
    for queue in made:
        _registry.remember(queue)
    assert "2 Jobs are named 'mail'" in found()["sync_kit.E002"]
    del made[0], queue
    assert found() == {}


def test_a_task_that_another_one_of_its_name_has_replaced_is_found():
    jobs = Jobs("mail")
    for _ in range(2):  # the same function once more is none: a module that was loaded anew

        @jobs.task(schema=str)
        def send_email(to: str) -> None:
            """The first."""

    assert found() == {}
    first = send_email.__wrapped__.__code__.co_firstlineno

    @jobs.task(schema=str)  # type: ignore[no-redef]
    def send_email(to: str) -> None:
        """The second."""

    second = send_email.__wrapped__.__code__.co_firstlineno
    said = found()["sync_kit.E007"]
    assert "two tasks of queue 'mail' are named 'send_email'" in said
    assert f"({__name__}, lines {first} and {second})" in said


def test_jobs_whose_send_would_be_lost_are_found():
    module = types.ModuleType("tests.on_django.shop.mails")
    vars(module)["jobs"] = sync_kit.Jobs("mail")
    sys.modules[module.__name__] = module
    try:
        said = found()["sync_kit.E003"]
    finally:
        del sys.modules[module.__name__]
    assert "tests.on_django.shop.mails.jobs" in said
    assert "from sync_kit_django import Jobs" in said


def test_what_our_jobs_are_made_of_is_no_mistake():
    module = types.ModuleType("tests.on_django.shop.mails")
    vars(module)["jobs"] = jobs = Jobs("mail")
    vars(module)["for_a_worker"] = jobs.core
    sys.modules[module.__name__] = module
    try:
        assert found() == {}
    finally:
        del sys.modules[module.__name__]


class Reports(View):
    @exclusive("report:<yaer>")
    def get(self, request, **values):
        return HttpResponse()


@exclusive("<a>:<user>:<query.q>")
async def right(request, **values):
    return HttpResponse()


@rate_limited("5/minute", key="<kind>:<slug>")
def wrong(request, **values):
    return HttpResponse()


@exclusive("page:<number>")
def page(request, number=1):
    return HttpResponse()


urlpatterns = [
    path("right/<int:a>/", right),
    path("pages/", page),
    re_path(r"^pages/(\d+)/$", page),
    path("by-regex/<str:kind>/", include([re_path(r"^(?P<slug>[a-z]+)/$", wrong), path("", wrong, name="without")])),
    path("given/", include([path("<slug:slug>/", wrong, {"kind": "a"})])),
    path("reports/<int:year>/", Reports.as_view()),
]


def test_placeholders_that_no_url_provides_are_found():
    with override_settings(ROOT_URLCONF=__name__):
        messages = run_checks(tags=["sync_kit"])
    assert [(message.id, message.msg) for message in messages] == [
        ("sync_kit.E006", "<slug> in '<kind>:<slug>' is no value of the URL 'by-regex/<str:kind>/': it has kind"),
        ("sync_kit.E006", "<yaer> in 'report:<yaer>' is no value of the URL 'reports/<int:year>/': it has year"),
    ]
    assert str(messages[1].obj).endswith("test_checks.Reports")


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("tests.on_django.nowhere.slow_down", "cannot be imported: "),
        (f"{__name__}.slow", "cannot be imported: "),
        (lambda request: None, "does not fit: "),
        (lambda request, error: None, "does not fit: "),
        (lambda request, exception: None, None),
        (f"{__name__}.handler", None),
    ],
)
def test_handlers_of_refusals_that_cannot_be_called_are_found(handler, said, monkeypatch):
    urls: Any = types.ModuleType(f"urls_{id(handler)}")
    urls.urlpatterns, urls.handler429 = [], handler
    monkeypatch.setitem(sys.modules, urls.__name__, urls)
    with override_settings(ROOT_URLCONF=urls.__name__):
        told = found()
    if said is None:
        assert told == {}
    else:
        assert said in told["sync_kit.E008"]
        assert told["sync_kit.E008"].startswith("handler429 ")


def handler(request, exception):
    return HttpResponse(status=429)


@pytest.mark.parametrize("owner", ["channels", "tests.on_django.shop"])
def test_a_runworker_of_another_app_is_found(owner, monkeypatch):
    monkeypatch.setattr(checks, "get_commands", lambda: {"runworker": owner})
    said = found()["sync_kit.W004"]
    assert owner in said
    assert "synckit_worker" in said


@pytest.mark.parametrize("setting", [{"SECURE_PROXY_SSL_HEADER": ("A", "b")}, {"USE_X_FORWARDED_HOST": True}])
def test_limits_by_address_behind_a_proxy_are_found(setting, server, namespace):
    mine = {"URL": server.url, "NAMESPACE": namespace}
    with override_settings(**setting):
        assert next(iter(setting)) in found()["sync_kit.W005"]
    for proxies in (["10.0.0.0/8"], []):
        with override_settings(**setting, SYNC_KIT={**mine, "RATE_LIMIT": {"TRUSTED_PROXIES": proxies}}):
            assert found() == {}


def test_a_server_that_is_not_named_is_found_before_a_deployment(monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("VALKEY_URL", raising=False)
    with override_settings(SYNC_KIT={}):
        assert [said.id for said in checks._check_url()] == ["sync_kit.W011"]
    monkeypatch.setenv("REDIS_URL", "redis://example.com")
    with override_settings(SYNC_KIT={}):
        assert [*checks._check_url()] == []


def test_a_server_that_is_away_is_found_before_a_deployment_and_only_then():
    with override_settings(SYNC_KIT={"URL": "redis://:hush@127.0.0.1:1"}):
        assert found() == {}
        said = found(deploy=True)["sync_kit.E020"]
    assert "127.0.0.1:1" in said
    assert "hush" not in said


def test_a_server_that_throws_jobs_away_is_found_before_a_deployment(own_server):
    server = own_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--save", "")
    with override_settings(SYNC_KIT={"URL": server.url}):
        said = found(deploy=True)
    assert "allkeys-lru" in said["sync_kit.W021"]
    assert "nothing is written to disk" in said["sync_kit.W022"]


def test_jobs_that_are_only_recorded_are_found_before_a_deployment(server):
    with override_settings(SYNC_KIT={"URL": server.url, "JOBS": {"MODE": "record"}}):
        assert "'record'" in found(deploy=True)["sync_kit.W010"]
