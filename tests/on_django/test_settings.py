"""`SYNC_KIT` is typed, and what is wrong in it says what would be right."""

from __future__ import annotations

from functools import partial

import pytest
from django.http import HttpRequest, HttpResponse
from django.test.utils import modify_settings, override_settings

from sync_kit import ConfigurationError
from sync_kit.kit import default_kit
from sync_kit_django import Jobs, conf, rate_limited


def test_the_settings_of_the_project_make_the_default_kit(server, namespace):
    assert default_kit().namespace == namespace
    assert default_kit().label in server.url


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"NAMESPCE": "shop"}, "did you mean 'NAMESPACE'?"),
        ({"url": "redis://localhost"}, "SYNC_KIT has no option 'url'"),
        (
            {"WORKER": {"CONCURENCY": 3}},
            """SYNC_KIT["WORKER"] has no option 'CONCURENCY': did you mean 'CONCURRENCY'?""",
        ),
        ({"WORKER": {"CONCURRENCY": "3"}}, """SYNC_KIT["WORKER"]["CONCURRENCY"] must be a whole number, not '3'"""),
        ({"WORKER": []}, """SYNC_KIT["WORKER"] must be a dict, not []"""),
        ({"JOBS": {"ON_COMMIT": 1}}, """SYNC_KIT["JOBS"]["ON_COMMIT"] must be True or False, not 1"""),
        ({"JOBS": {"MODE": "eager"}}, "'redis', 'record', 'inline'"),
        ({"RATE_LIMIT": {"TRUSTED_PROXIES": "10.0.0.1"}}, "must be a list of texts, not '10.0.0.1'"),
        ({"RATE_LIMIT": {"TRUSTED_PROXIES": ["10.0.0.300"]}}, "10.0.0.300"),
        ({"NAMESPACE": ""}, """SYNC_KIT["NAMESPACE"] must be a non-empty str"""),
        ("redis://localhost", "SYNC_KIT must be a dict"),
    ],
)
def test_a_mistake_in_the_settings_says_what_would_be_right(given, said):
    with pytest.raises(ConfigurationError) as caught:
        conf.read(given)
    assert said in str(caught.value)


@pytest.mark.parametrize("given", ["redis://:hush@localhost", {"URL": ["redis://:hush@localhost"]}])
def test_a_password_is_not_repeated_by_an_error(given):
    with pytest.raises(ConfigurationError, match="must be") as caught:
        conf.read(given)
    assert "hush" not in str(caught.value)


def test_a_project_without_the_app_is_told_so(kit):
    limited = rate_limited("1/minute", trusted_proxies=[])(lambda request: HttpResponse())
    task = Jobs("mail").task(schema=int, name="note")(lambda number: None)
    with modify_settings(INSTALLED_APPS={"remove": "sync_kit_django"}):
        conf.current.cache_clear()
        for use in (conf.current, partial(task.send, 1), partial(limited, HttpRequest())):
            with pytest.raises(ConfigurationError, match='add "sync_kit_django" to INSTALLED_APPS'):
                use()
    assert conf.current().namespace == kit.namespace


def test_settings_that_change_in_a_test_are_followed(server):
    with override_settings(SYNC_KIT={"URL": server.url, "NAMESPACE": "other", "WORKER": {"CONCURRENCY": 3}}):
        assert conf.current().worker.concurrency == 3
        assert default_kit().namespace == "other"
    assert conf.current().worker.concurrency == 10


@pytest.mark.parametrize(
    ("url", "names"), [("localhost:6379", """SYNC_KIT["URL"]: """), (None, "REDIS_URL or VALKEY_URL: ")]
)
def test_a_url_that_is_wrong_says_where_it_was_written(url, names, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "localhost:6379")
    wrong = override_settings(SYNC_KIT={"URL": url})
    with wrong, pytest.raises(ConfigurationError, match="a url without a scheme") as caught:
        default_kit()
    assert str(caught.value).startswith(names)
