"""Who is counted: the client's address, or who is signed in."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext, modify_settings, override_settings
from django.utils.functional import SimpleLazyObject

from sync_kit import ConfigurationError
from sync_kit_django import client_address, exclusive, rate_limited
from tests.on_django.limited import Under, later, plain, under


@pytest.fixture
def told(caplog):
    """The warnings of sync_kit so far."""
    caplog.set_level(logging.WARNING, "sync_kit")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "sync_kit"]


def get(view, peer="192.0.2.1", **headers: str):
    request = RequestFactory().get("/", headers={name.replace("_", "-"): value for name, value in headers.items()})
    request.META["REMOTE_ADDR"] = peer
    return view(request).status_code


def test_clients_do_not_share_one_budget_and_a_site_of_ipv6_is_one_client():
    view = rate_limited("1/minute")(plain)
    for peer in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        assert [get(view, peer), get(view, peer)] == [200, 429]
    assert get(view, "2001:db8::2") == 429


def test_a_forwarding_header_is_not_believed_and_is_warned_of_once(told):
    view, other = rate_limited("1/minute")(plain), rate_limited("1/minute", name="other")(plain)
    assert [get(view, x_forwarded_for="198.51.100.1"), get(view, x_forwarded_for="198.51.100.2")] == [200, 429]
    assert get(other, forwarded="for=198.51.100.3") == 200
    assert len(told()) == 1
    assert "X-Forwarded-For" in told()[0]
    assert """SYNC_KIT["RATE_LIMIT"]["TRUSTED_PROXIES"]""" in told()[0]


def test_a_server_that_has_read_the_header_itself_is_no_reason_to_warn(told):
    assert get(rate_limited("1/minute")(plain), "198.51.100.1", x_forwarded_for="198.51.100.1") == 200
    assert told() == []


@pytest.mark.parametrize("where", ["decorator", "settings"])
def test_behind_trusted_proxies_the_client_is_counted(server, namespace, told, where):
    proxies = ["10.0.0.0/8"]
    options: Any = {"trusted_proxies": proxies} if where == "decorator" else {}
    view = rate_limited("1/minute", **options)(plain)
    given = {"TRUSTED_PROXIES": proxies} if where == "settings" else {}
    with override_settings(SYNC_KIT={"URL": server.url, "NAMESPACE": namespace, "RATE_LIMIT": given}):
        for client in ("198.51.100.1", "198.51.100.2"):
            said = f"203.0.113.9, {client}, 10.1.1.1"
            assert [get(view, "10.0.0.1", x_forwarded_for=said) for _ in range(2)] == [200, 429]
        assert get(view, "192.0.2.1", x_forwarded_for="198.51.100.3") == 200
        assert get(view, "192.0.2.1", x_forwarded_for="198.51.100.4") == 429, "a stranger's word is not believed"
    assert told() == []


@pytest.mark.parametrize("peer", ["", None])
def test_behind_a_unix_socket_all_are_one_which_is_warned_of(told, peer):
    view = rate_limited("1/minute")(plain)
    request = RequestFactory().get("/")
    if peer is None:
        del request.META["REMOTE_ADDR"]
    else:
        request.META["REMOTE_ADDR"] = peer
    assert client_address(request) == "unknown"
    assert view(request).status_code == 200
    assert '"unix" is a peer without an address' in told()[0]


def test_of_a_unix_socket_is_warned_although_other_proxies_are_trusted(told):
    view = rate_limited("1/minute", trusted_proxies=["127.0.0.1"])(plain)
    assert get(view, "", x_forwarded_for="198.51.100.1") == 200
    assert '"unix" is a peer without an address' in told()[0]


def test_a_unix_socket_may_be_trusted(server, namespace, told):
    view = rate_limited("1/minute")(plain)
    given = {"TRUSTED_PROXIES": ["unix"]}
    with override_settings(SYNC_KIT={"URL": server.url, "NAMESPACE": namespace, "RATE_LIMIT": given}):
        for client in ("198.51.100.1", "198.51.100.2"):
            assert [get(view, "", x_forwarded_for=client) for _ in range(2)] == [200, 429]
    assert told() == []


def request_of(user) -> Any:
    request: Any = RequestFactory().get("/")
    request.user = user
    return request


def test_who_is_signed_in_is_counted_and_everybody_else_by_address():
    view = rate_limited("1/minute", key="user")(plain)
    for user in (User(pk=1), User(pk=2), AnonymousUser()):
        assert [view(request_of(user)).status_code for _ in range(2)] == [200, 429]


def test_a_function_may_say_who_is_signed_in():
    view = rate_limited("1/minute", key="user", user=lambda request: request.GET.get("token"))(plain)
    tokens = ["a", "a", "b", "", ""]
    assert [view(RequestFactory().get(f"/?token={token}")).status_code for token in tokens] == [
        200,
        429,
        200,
        200,
        429,
    ]


@pytest.mark.parametrize("decorate", [rate_limited("9/minute", key="user"), exclusive("cart:<user>")])
def test_without_authentication_a_key_by_user_says_what_is_missing(decorate):
    with pytest.raises(ConfigurationError, match=r"put AuthenticationMiddleware into MIDDLEWARE.* key=\"ip\""):
        decorate(plain)(RequestFactory().get("/"))


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_user_is_asked_of_the_database_once(tables, kind, is_async):
    """Twice a limit and a lock by user, and a view that asks itself."""

    def view(request):
        return HttpResponse(str(request.user.pk))

    async def view_later(request):
        return HttpResponse(str((await request.auser()).pk))

    user, client = User.objects.create_user("ann"), Under(kind)
    client.force_login(user) if kind == "wsgi" else client.aforce_login(user)
    limits = rate_limited("9/minute", key="user"), exclusive("cart:<user>"), rate_limited("5/minute", key="<user>")
    decorated: Any = view_later if is_async else view
    for decorate in limits:
        decorated = decorate(decorated)
    queries: list[str] = []

    def note(execute, sql, params, many, context):
        queries.append(sql)
        return execute(sql, params, many, context)

    from django.db.backends.signals import connection_created

    def watch(connection, **kwargs):
        connection.execute_wrappers.append(note)

    connection_created.connect(watch)
    connection.execute_wrappers.append(note)
    try:
        with under(("", decorated)):
            assert client.get("/").content == str(user.pk).encode()
    finally:
        connection_created.disconnect(watch)
        connection.execute_wrappers.remove(note)
    assert sum("auth_user" in sql for sql in queries) == 1


def test_a_user_that_a_middleware_has_loaded_is_not_asked_for_again(tables):
    from django.contrib.auth.middleware import AuthenticationMiddleware
    from django.contrib.sessions.middleware import SessionMiddleware

    request: Any = RequestFactory().get("/")
    SessionMiddleware(lambda request: HttpResponse()).process_request(request)
    AuthenticationMiddleware(lambda request: HttpResponse()).process_request(request)
    assert not request.user.is_authenticated
    with CaptureQueriesContext(connection) as queries:
        response: Any = anyio.run(rate_limited("9/minute", key="user")(later), request)
    assert (response.status_code, len(queries)) == (200, 0)


class ByToken:
    """A middleware of somebody else, which knows users that have no session."""

    sync_capable = async_capable = True

    def __new__(cls, get_response):
        def make(request):
            request.user = SimpleLazyObject(lambda: User.objects.get(username=request.headers["x-token"]))
            return get_response(request)

        return markcoroutinefunction(make) if iscoroutinefunction(get_response) else make


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("view", [plain, later])
def test_a_user_of_another_middleware_is_who_is_signed_in(tables, kind, view):
    for name in ("ann", "bob"):
        User.objects.create_user(name)
    decorated = rate_limited("1/minute", key="user")(exclusive("cart:<user>")(view))
    with under(("", decorated)), modify_settings(MIDDLEWARE={"append": f"{__name__}.ByToken"}):
        client = Under(kind)
        codes = [client.get("/", headers={"x-token": name}).status_code for name in ("ann", "ann", "bob")]
    assert codes == [200, 429, 200]
