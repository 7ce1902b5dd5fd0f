"""When Redis is away, slow or declines: what `on_error` says, in time, and no 500."""

from __future__ import annotations

import logging

import pytest
from django.test.utils import modify_settings, override_settings

from sync_kit import SyncKit
from sync_kit_django import rate_limited
from tests.on_django.limited import Under, later, plain, under
from tests.support.ticks import elapsed

STATUS = {"allow": 200, "deny": 429, "raise": 503, "local": 200}


@pytest.mark.parametrize("view", [plain, later])
@pytest.mark.parametrize("on_error", STATUS)
@pytest.mark.parametrize("where", ["decorator", "settings", "middleware"])
def test_without_redis_the_policy_decides(own_server, caplog, view, on_error, where):
    client = Under("asgi" if view is later else "wsgi")
    own = own_server()
    own.stop()
    caplog.set_level(logging.WARNING, "sync_kit")
    given = {} if where == "decorator" else {"ON_ERROR": on_error}
    path = "sync_kit_django.RateLimitMiddleware"
    limited = rate_limited("5/minute", **({"on_error": on_error} if where == "decorator" else {}))(view)
    with (
        override_settings(SYNC_KIT={"URL": own.url, "RATE_LIMIT": given}),
        modify_settings(MIDDLEWARE={"prepend": [path] if where == "middleware" else []}),
        under(("", view if where == "middleware" else limited)),
    ):
        assert client.codes("/", "/", "/") == [STATUS[on_error]] * 3
        answer = client.get("/", headers={"accept": "application/json"})
    assert ("Retry-After" in answer) == (on_error == "deny")
    assert ("RateLimit" in answer) == (on_error == "local"), "no numbers where nobody counted"
    said = [record.getMessage() for record in caplog.records if record.name == "sync_kit"]
    assert len(said) == (0 if on_error == "raise" else 1), "said once an outage"
    if on_error in ("deny", "raise"):
        assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("view", [plain, later])
def test_a_server_that_hangs_holds_nobody_up(own_server, view):
    own = own_server()
    kit = SyncKit(own.url)
    client = Under("asgi" if view is later else "wsgi")
    with under(("", rate_limited("99/minute", kit=kit)(view))):
        assert client.codes("/") == [200]
        own.pause()
        try:
            began = elapsed()
            assert client.codes("/", "/", "/", "/", "/") == [200] * 5
            assert elapsed() - began < 3
        finally:
            own.resume()
    kit.close_all()


@pytest.mark.parametrize("view", [plain, later])
def test_a_server_that_declines_to_write_is_an_outage_too(own_server, view):
    own = own_server()
    kit = SyncKit(own.url)
    client = Under("wsgi")
    with under(("", rate_limited("99/minute", kit=kit)(view))), own.client() as redis:
        redis.config_set("maxmemory", "1")
        assert client.codes("/", "/") == [200, 200]
        redis.config_set("maxmemory", "0")
        redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert client.codes("/", "/") == [200, 200]
        redis.execute_command("REPLICAOF", "NO", "ONE")
    kit.close_all()
