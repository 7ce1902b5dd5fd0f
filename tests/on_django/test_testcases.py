"""A `TestCase` never commits: `captureOnCommitCallbacks` calls what would be called then."""

from __future__ import annotations

from django.db import transaction
from django.test import TestCase

from sync_kit_django import Jobs


def waiting(jobs):
    return [job.data for job in jobs.list(status="waiting")]


class InATestCase(TestCase):
    databases = "__all__"

    def setUp(self):
        self.jobs = Jobs("case")

        @self.jobs.task(schema=int)
        def invoice(order: int) -> None: ...

        self.invoice = invoice

    def test_what_is_sent_waits_for_the_callbacks(self):
        early = self.invoice.send(0)
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            with transaction.atomic():
                receipt = self.invoice.send(1)
            assert waiting(self.jobs) == []
        assert len(callbacks) == 1
        assert (early.sent, receipt.sent) == (False, True)
        assert waiting(self.jobs) == [1]

    def test_callbacks_may_be_called_by_hand(self):
        with self.captureOnCommitCallbacks() as callbacks:
            self.invoice.send(1)
        assert waiting(self.jobs) == []
        for callback in callbacks:
            callback()
        assert waiting(self.jobs) == [1]

    def test_of_another_database(self):
        with self.captureOnCommitCallbacks(using="other", execute=True), transaction.atomic(using="other"):
            self.invoice.using(database="other").send(1)
        assert waiting(self.jobs) == [1]
