"""How the shop is tested, with pytest-django: jobs that are only kept, that run at once, or take a real queue."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client, TestCase
from store.models import Invoice
from store.tasks import jobs, remind, send_email, send_invoice

from sync_kit.testing import Sent
from sync_kit_django.testing import assert_not_sent, assert_sent, drain, override_jobs

FORM = {"username": "ann", "email": "ann@example.com", "password1": "long enough 1", "password2": "long enough 1"}


@pytest.fixture
def ann(client: Client, db: object) -> User:
    """A customer who is signed in."""
    user = User.objects.create_user("ann", "ann@example.com", "long enough 1")
    client.force_login(user)
    return user


@pytest.fixture(autouse=True)
def counters(sync_kit: object) -> None:
    """Limits that no other test has spent."""


@pytest.mark.django_db(transaction=True)
def test_who_signs_up_is_welcomed(client: Client, recorded_jobs: Sent) -> None:
    assert client.post("/sign-up/", FORM).status_code == 302
    assert_sent(send_email, to="ann@example.com", subject="Welcome", times=1)


@pytest.mark.django_db(transaction=True)
def test_nobody_is_welcomed_who_was_not_signed_up(client: Client, recorded_jobs: Sent) -> None:
    assert client.post("/sign-up/", {**FORM, "password2": "another"}).status_code == 200
    assert_not_sent(send_email)


def test_an_order_is_invoiced_when_it_is_committed(
    client: Client, ann: User, inline_jobs: Sent, django_capture_on_commit_callbacks: object
) -> None:
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        client.post("/order/", {"cents": 900})
        assert not mail.outbox
    [sent] = mail.outbox
    assert sent.to == ["ann@example.com"]
    assert "Total 9.00 EUR" in sent.body
    assert Invoice.objects.get().mailed is not None


@pytest.mark.django_db(transaction=True)
def test_through_a_real_queue(client: Client) -> None:
    user = User.objects.create_user("ann", "ann@example.com")
    invoice = Invoice.objects.create(customer=user, cents=500)
    first, second = send_invoice.send(invoice=invoice.pk), send_invoice.send(invoice=invoice.pk)
    assert second.duplicate
    assert second.id == first.id
    assert drain(jobs).completed == 1
    assert len(mail.outbox) == 1


class WithDjangosOwnTestCase(TestCase):
    """The same with `manage.py test`."""

    @override_jobs("inline")
    def test_reminders_are_for_unpaid_invoices(self) -> None:
        user = User.objects.create_user("bob", "bob@example.com")
        Invoice.objects.create(customer=user, cents=100, paid=True)
        Invoice.objects.create(customer=user, cents=700)
        with self.captureOnCommitCallbacks(execute=True):
            remind()
        assert [message.body for message in mail.outbox] == ["7.00 EUR\n"]
