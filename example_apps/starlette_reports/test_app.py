"""How the app is tested: what it sends, what its jobs do, and both together. `pytest` in this folder runs it."""

from __future__ import annotations

import mailbox
from collections.abc import Iterator
from pathlib import Path

import pytest
from app import Email, app, jobs, send_email, send_newsletter
from starlette.testclient import TestClient

from sync_kit.testing import Sent, assert_not_sent, assert_sent, drain_blocking

EMAIL = {"to": "ann@example.com", "subject": "Hi", "body": "Hello!"}


@pytest.fixture
def client(sync_kit: object) -> TestClient:
    """The app without its worker (that would need `with TestClient(app)`), in a namespace of the test's own."""
    return TestClient(app)


@pytest.fixture(autouse=True)
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[mailbox.mbox]:
    """The mailbox of the test."""
    monkeypatch.setenv("MAILBOX", str(tmp_path / "mail.mbox"))
    made = mailbox.mbox(tmp_path / "mail.mbox")
    yield made
    made.close()


def test_an_email_is_sent_by_a_job(client: TestClient, recorded_jobs: Sent) -> None:
    response = client.post("/emails", json=EMAIL)
    assert response.status_code == 202
    [job] = assert_sent(send_email, to="ann@example.com", times=1)
    assert job.id == response.json()["id"]
    assert_not_sent(send_newsletter)


def test_recipients_make_it_a_newsletter(client: TestClient, recorded_jobs: Sent) -> None:
    client.post("/emails", json={"subject": "News", "recipients": ["ann@example.com"]})
    assert_sent(send_newsletter, subject="News", recipients=["ann@example.com"])
    assert_not_sent(send_email)


def test_an_incomplete_email_is_refused_and_nothing_is_sent(client: TestClient, recorded_jobs: Sent) -> None:
    assert client.post("/emails", json={"to": "ann@example.com"}).status_code == 422
    assert recorded_jobs == []


def test_the_job_puts_the_email_into_the_mailbox(box: mailbox.mbox, inline_jobs: Sent) -> None:
    send_email.blocking.send(Email(**EMAIL))
    assert [(mail["To"], mail["Subject"]) for mail in box] == [("ann@example.com", "Hi")]


def test_an_address_that_cannot_be_is_an_error(inline_jobs: Sent) -> None:
    with pytest.raises(ValueError, match="no such mailbox"):
        send_email.blocking.send(Email(to="nowhere", subject="Hi", body="Hello!"))


def test_from_the_request_to_the_mailbox(client: TestClient, box: mailbox.mbox) -> None:
    job = client.post("/emails", json=EMAIL).json()["id"]
    assert client.get(f"/jobs/{job}").json()["status"] == "waiting"
    drain_blocking(jobs)
    assert client.get(f"/jobs/{job}").json()["status"] == "completed"
    assert [mail["To"] for mail in box] == ["ann@example.com"]


def test_what_failed_is_listed(client: TestClient) -> None:
    client.post("/emails", json={**EMAIL, "to": "nowhere"})
    assert drain_blocking(jobs, raise_failed=False).failed == 1
    [failed] = client.get("/jobs/failed").json()
    assert failed["attempts"] == 3
    assert failed["error"] == "ValueError: no such mailbox: nowhere"


def test_the_hundred_and_first_request_of_a_user_is_refused(client: TestClient) -> None:
    codes = [client.get("/", headers={"x-user": "ann"}).status_code for _ in range(101)]
    assert codes == [200] * 100 + [429]
    assert client.get("/", headers={"x-user": "bob"}).status_code == 200
