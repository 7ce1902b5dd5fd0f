"""A `TestCase` never commits: `captureOnCommitCallbacks` calls what would be called then."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.db import transaction
from django.test import TestCase
from django.test.utils import override_settings

from sync_kit import DuplicateJobError
from sync_kit_django import Jobs, NotSentError


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

    def test_all_that_cannot_be_sent_is_kept_on_the_error(self):
        away = override_settings(SYNC_KIT={"URL": "redis://127.0.0.1:1"})
        with away, pytest.raises(NotSentError) as caught, self.captureOnCommitCallbacks(execute=True):
            first = self.invoice.send(1)
            with suppress(ZeroDivisionError), transaction.atomic():
                self.invoice.send(7)
                _ = 1 // 0
            with transaction.atomic():
                second = self.invoice.send(2)
        assert caught.value.receipts == [first, second]
        caught.value.send()
        assert waiting(self.jobs) == [1, 2]

    def test_a_duplicate_keeps_no_other_job_from_being_sent(self):
        unique = self.invoice.using(key="one", on_duplicate="raise")
        with pytest.raises(DuplicateJobError), self.captureOnCommitCallbacks(execute=True):
            unique.send_many([1, 2])
            self.invoice.send(3)
        assert waiting(self.jobs) == [1, 3]

    def test_of_another_database(self):
        with self.captureOnCommitCallbacks(using="other", execute=True), transaction.atomic(using="other"):
            self.invoice.using(database="other").send(1)
        assert waiting(self.jobs) == [1]
