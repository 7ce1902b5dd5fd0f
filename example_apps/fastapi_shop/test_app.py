"""How the shop is tested: over HTTP without its worker, and from an order to the mail at a real SMTP server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from app import app, daily_summary, jobs, send_invoice, store
from fastapi.testclient import TestClient
from post_office import PostOffice, open_post_office

from sync_kit.testing import Sent, assert_sent, drain_blocking

ANN, BOB = {"x-api-key": "key-of-ann"}, {"x-api-key": "key-of-bob"}
ORDER = {"email": "ann@example.com", "items": [{"name": "tea", "quantity": 2, "cents": 450}]}


@pytest.fixture(autouse=True)
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of orders for each test."""
    monkeypatch.setenv("SHOP_DB", str(tmp_path / "shop.db"))
    store.cache_clear()


@pytest.fixture
def client(sync_kit: object) -> TestClient:
    """The app without its worker (that would need `with TestClient(app)`), in a namespace of the test's own."""
    return TestClient(app)


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostOffice]:
    """A real SMTP server."""
    with open_post_office() as office:
        monkeypatch.setenv("SMTP", office.address)
        yield office


def test_an_order_sends_its_invoice_once(client: TestClient, recorded_jobs: Sent) -> None:
    order = client.post("/orders", json=ORDER, headers=ANN)
    assert order.status_code == 201
    assert_sent(send_invoice, order_id=order.json()["id"], times=1)


def test_from_the_order_to_the_mail(client: TestClient, post: PostOffice) -> None:
    order = client.post("/orders", json=ORDER, headers=ANN).json()
    again = client.post(f"/orders/{order['id']}/invoice", headers=ANN).json()
    assert again["already"]
    assert drain_blocking(jobs).completed == 1
    [mail] = post.mails
    assert mail["To"] == "ann@example.com"
    assert "Total 9.00 EUR" in mail.get_payload()
    assert again["job"] in mail["Message-ID"]


def test_an_invoice_is_tried_five_times_more_while_the_mail_server_is_away(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP", "127.0.0.1:1")
    client.post("/orders", json=ORDER, headers=ANN)
    assert drain_blocking(jobs, raise_failed=False).failed == 1
    [failed] = jobs.blocking.list(status="failed")
    assert failed.attempts == 6


def test_the_owner_reads_a_summary(client: TestClient, post: PostOffice) -> None:
    client.post("/orders", json=ORDER, headers=ANN)
    daily_summary.blocking.send(None)
    drain_blocking(jobs)
    mails = {mail["To"]: mail.get_payload() for mail in post.mails}
    assert set(mails) == {"ann@example.com", "owner@example.com"}
    assert "1 orders, 9.00 EUR" in mails["owner@example.com"]


def test_orders_are_seen_by_their_customer_only(client: TestClient, recorded_jobs: Sent) -> None:
    order = client.post("/orders", json=ORDER, headers=ANN).json()["id"]
    assert client.get(f"/orders/{order}/invoice", headers=ANN).text.startswith(f"Invoice {order} for ann")
    assert client.get(f"/orders/{order}", headers=BOB).status_code == 404
    assert client.get(f"/orders/{order}").status_code == 401


def test_plans_have_limits(client: TestClient) -> None:
    def codes(times: int, headers: dict[str, str]) -> list[int]:
        return [client.get("/orders/1", headers=headers).status_code for _ in range(times)]

    assert codes(6, ANN) == [404] * 5 + [429]
    assert codes(6, {"x-api-key": "nonsense"}) == [401] * 5 + [429]
    assert codes(20, BOB) == [404] * 20


def test_one_at_a_time_reads_the_report(client: TestClient, recorded_jobs: Sent) -> None:
    client.post("/orders", json=ORDER, headers=ANN)
    year = store().get(1).year
    assert client.get(f"/reports/{year}").text == "order,customer,cents\r\n1,ann,900\r\n"
    from sync_kit import Mutex

    with Mutex("exclusive").blocking.lock(f"report:{year}"):
        assert client.get(f"/reports/{year}").status_code == 409
