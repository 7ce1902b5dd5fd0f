"""The tries to sign in are limited, in one line."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.urls import path, reverse

from sync_kit import ConfigurationError
from sync_kit_django import protect_login
from tests.on_django.limited import Under, under


@pytest.fixture(params=["wsgi", "asgi"])
def client(request):
    return Under(request.param)


@pytest.fixture(params=["admin", "view"])
def login(request):
    """A protected login; gives its path."""
    if request.param == "view":
        view = protect_login(LoginView.as_view(template_name="admin/login.html"), "3/minute")
        with under(("login/", view), ("admin/", admin.site.urls)):
            yield "/login/"
        return
    site = admin.AdminSite()
    with under(path("admin/", protect_login(site, "3/minute").urls)):
        yield reverse("admin:login")


def tries(client, login, *names: str, peer: str = "192.0.2.1") -> list[int]:
    where = {"REMOTE_ADDR": peer} if client.kind == "wsgi" else {"headers": {"x-forwarded-for": peer}}
    answers = [client.post(login, {"username": name, "password": "x"}, **where) for name in names]
    return [answer.status_code for answer in answers]


def test_tries_are_limited_by_address_and_looking_is_free(client, login, tables):
    assert client.codes(*[login] * 5) == [200] * 5
    assert tries(client, login, "a", "b", "c", "d") == [200, 200, 200, 429]
    assert client.codes(login) == [200]


def test_tries_are_limited_by_the_name_that_is_tried_from_wherever(login, tables):
    client = Under("wsgi")
    for number in range(3):
        assert tries(client, login, "Ann", peer=f"192.0.2.{number}") == [200]
    assert tries(client, login, " ann", peer="192.0.2.9") == [429]
    assert tries(client, login, "bob", peer="192.0.2.9") == [200]


def test_a_name_that_the_login_reads_as_another_is_counted_as_that(login, tables):
    client, wide = Under("wsgi"), str.maketrans("an", "\uff41\uff4e")
    for number, name in enumerate(["ann", "ann".translate(wide), "a\uff4en"]):
        assert tries(client, login, name, peer=f"192.0.2.{number}") == [200]
    assert tries(client, login, "\uff41nn\u2003", peer="192.0.2.9") == [429]


def test_names_that_are_tried_are_not_to_be_seen_in_redis(login, tables, server):
    tries(Under("wsgi"), login, "secret-name")
    with server.client() as redis:
        assert not [key for key in redis.keys("*") if b"secret" in key]


def test_who_knows_the_password_gets_in(login, tables):
    User.objects.create_superuser("ann", password="x")
    assert tries(Under("wsgi"), login, "ann") == [302]


def test_the_options_that_it_sets_itself_are_refused():
    with pytest.raises(ConfigurationError, match="protect_login sets key= itself"):
        protect_login(LoginView.as_view(), "5/minute", key="ip")


def test_the_site_itself_is_protected():
    site = admin.AdminSite()
    assert protect_login(site, "5/minute") is site
    assert admin.site.login.__module__ == "django.contrib.admin.sites"
