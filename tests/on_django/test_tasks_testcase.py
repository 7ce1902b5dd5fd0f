"""Tasks in tests of a project that use Django's own classes, whose transactions never commit."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction
from django.test import TestCase

from sync_kit_django.backend.library import TaskResultDoesNotExist
from tests.on_django import chores as chores_here

chores: Any = chores_here


class TestEnqueueing(TestCase):
    def test_a_task_is_sent_when_the_test_captures_the_commit(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            with transaction.atomic():
                result = chores.add.enqueue(1)
            assert result.enqueued_at is None
        assert len(callbacks) == 1
        assert result.enqueued_at is not None

    def test_nothing_is_sent_otherwise(self):
        result = chores.add.enqueue(1)
        assert connection.in_atomic_block
        with pytest.raises(TaskResultDoesNotExist):
            chores.add.get_result(result.id)
