"""What a refused request is answered with."""

from __future__ import annotations

import json

import pytest
from django.http import HttpResponse
from django.test.utils import override_settings

from sync_kit import RateLimitError
from sync_kit_django import rate_limited
from tests.on_django.limited import Under, later, plain, under

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture(params=["wsgi", "asgi"])
def client(request):
    return Under(request.param)


@pytest.fixture(params=[plain, later], ids=["sync", "async"])
def view(request):
    return rate_limited("1/minute")(request.param)


@pytest.fixture
def templates(tmp_path):
    """A folder of templates of the project."""
    from django.conf import settings

    with override_settings(TEMPLATES=[{**settings.TEMPLATES[0], "DIRS": [str(tmp_path)]}]):
        yield tmp_path


@pytest.mark.parametrize("accept", [BROWSER, "*/*", None])
def test_a_small_page_without_a_template(client, view, accept):
    with under(("", view)):
        client.get("/")
        answer = client.get("/", headers={"accept": accept} if accept else {})
    assert (answer.status_code, answer["Content-Type"]) == (429, "text/html; charset=utf-8")
    assert "<h1>Too Many Requests</h1>" in answer.content.decode()
    assert 1 <= int(answer["Retry-After"]) <= 63
    assert answer["RateLimit"].startswith('"1/minute";r=0')
    assert answer["Vary"] == "Accept"


def test_the_template_of_the_project_knows_the_request_and_the_limit(client, view, templates):
    (templates / "429.html").write_text(
        "{{ title }}: {{ exception.limit }}{{ exception.decision.limit }} {{ request.path }}"
    )
    with under(("page/", view)):
        client.get("/page/")
        answer = client.get("/page/", headers={"accept": BROWSER})
    assert answer.content.decode() == "Too Many Requests: 1 /page/"
    assert "Retry-After" in answer


@pytest.mark.parametrize(
    "accept", ["application/json", "application/json, text/plain, */*", "application/problem+json"]
)
def test_clients_that_prefer_json_get_a_problem(client, view, templates, accept):
    (templates / "429.html").write_text("page")
    with under(("", view)):
        client.get("/")
        answer = client.get("/", headers={"accept": accept})
    assert (answer.status_code, answer["Content-Type"]) == (429, "application/problem+json")
    body = json.loads(answer.content)
    assert (body["status"], body["violated-policies"]) == (429, ["1/minute"])
    assert answer["Vary"] == "Accept"


def test_who_sends_json_and_takes_anything_gets_a_problem(client, view):
    with under(("", view)):
        answers = [client.post("/", data={}, content_type="application/json") for _ in range(2)]
    assert answers[1]["Content-Type"] == "application/problem+json"


def slow_down(request, exception):
    assert isinstance(exception, RateLimitError)
    return HttpResponse(f"wait {exception.retry_after:.0f}", status=420)


async def slow_down_later(request, exception):
    return slow_down(request, exception)


@pytest.mark.parametrize("handler", [slow_down, slow_down_later, f"{__name__}.slow_down"])
def test_handler429_of_the_root_urlconf_answers(client, view, handler):
    with under(("", view), handler429=handler):
        client.get("/")
        answer = client.get("/", headers={"accept": "application/json"})
    assert (answer.status_code, answer.content[:5]) == (420, b"wait ")
    assert "Retry-After" in answer


def test_header_fields_may_be_left_out(client, site, server, namespace):
    view = rate_limited("1/minute")(plain)
    given = {"URL": server.url, "NAMESPACE": namespace, "RATE_LIMIT": {"HEADERS": False}}
    with override_settings(SYNC_KIT=given), under(("", view)):
        first, second = client.get("/"), client.get("/")
    assert "RateLimit" not in first
    assert "RateLimit" not in second
    assert (second.status_code, "Retry-After" in second) == (429, True)
