"""Transactions, connections and servers that fail: what is committed is sent or kept, and nothing else is."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import override_settings

from sync_kit_django import Jobs, NotSentError
from tests.on_django.shop.models import Order

pytestmark = pytest.mark.usefixtures("tables")


class Undone(Exception):
    pass


@pytest.fixture
def jobs():
    return Jobs("shop")


@pytest.fixture
def invoice(jobs):
    @jobs.task(schema=int)
    def invoice(order: int) -> None: ...

    return invoice


def test_nothing_is_sent_when_the_commit_itself_fails(jobs, invoice, monkeypatch):
    def fail():
        raise DatabaseError("could not commit")

    with pytest.raises(DatabaseError), transaction.atomic():
        receipt = invoice.send(1)
        monkeypatch.setattr(connection, "_commit", fail)
    monkeypatch.undo()
    assert (receipt.sent, jobs.counts().waiting) == (False, 0)
    with transaction.atomic():
        invoice.send(2)
    assert [job.data for job in jobs.list(status="waiting")] == [2]


def test_nothing_is_sent_of_a_transaction_whose_connection_was_closed(jobs, invoice):
    with transaction.atomic():
        receipt = invoice.send(1)
        connection.close()
    assert (receipt.sent, jobs.counts().waiting) == (False, 0)
    with transaction.atomic():
        invoice.send(2)
    assert [job.data for job in jobs.list(status="waiting")] == [2]


class Shopper:
    """Writes and sends in transactions, some of which are rolled back, and notes what has to be in Redis."""

    def __init__(self, number: int, invoice: Any) -> None:
        self.chance = random.Random(number)
        self.invoice = invoice
        self.committed: list[str] = []
        self.kept: list[str] = []
        self.undone: list[str] = []

    def shop(self) -> None:
        for _ in range(25):
            mine: list[str] = []
            try:
                with transaction.atomic():
                    Order.objects.create(number="A-1")
                    self._send_some(mine)
                    with suppress(Undone), transaction.atomic():
                        inner = [self.invoice.send(2).id]
                        (self.undone if self.chance.random() < 0.5 else mine).extend(inner)
                        if inner[0] in self.undone:
                            raise Undone
                    if self.chance.random() < 0.2:
                        raise Undone
            except Undone:
                self.undone += mine
                continue
            except NotSentError as error:
                self.kept += [receipt.id for receipt in error.receipts]
            self.committed += mine
        connections.close_all()

    def _send_some(self, mine: list[str]) -> None:
        mine += [self.invoice.send(1).id for _ in range(self.chance.randrange(4))]


@contextmanager
def flapping(proxy):
    """The server goes and comes back, again and again."""
    done = threading.Event()

    def flap():
        while not done.wait(0.05):
            proxy.refuse()
            proxy.cut()
            done.wait(0.03)
            proxy.heal()

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        proxy.heal()


def test_in_many_threads_and_with_a_server_that_comes_and_goes_what_is_committed_is_sent_or_kept(
    proxy, namespace, jobs, invoice
):
    with override_settings(SYNC_KIT={"URL": proxy.url, "NAMESPACE": namespace}):
        shoppers = [Shopper(number, invoice) for number in range(5)]
        threads = [threading.Thread(target=shopper.shop) for shopper in shoppers]
        with flapping(proxy):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        stored = {job.id for job in jobs.list(status="waiting", limit=1000)}
    committed, kept, undone = (
        {each for shopper in shoppers for each in getattr(shopper, what)} for what in ("committed", "kept", "undone")
    )
    assert stored | kept == committed
    assert not (stored | kept) & undone
    assert committed
    assert undone
