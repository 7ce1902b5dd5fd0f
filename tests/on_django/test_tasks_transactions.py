"""A task that is enqueued inside of a transaction is sent when that commits, and not at all when it does not."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.test.utils import override_settings

from sync_kit_django import NotSentError
from sync_kit_django.backend.library import TaskResultDoesNotExist, TaskResultStatus, signals
from tests.on_django import chores as chores_here
from tests.on_django.shop.models import Order
from tests.on_django.working import default_backend, with_options
from tests.support.proxy import Proxy

pytestmark = pytest.mark.usefixtures("tables")

chores: Any = chores_here


class Undone(Exception):
    pass


@pytest.fixture
def heard():
    """The ids of what the signal said to be enqueued."""
    ids: list[str] = []

    def hear(task_result: Any, **_: Any) -> None:
        ids.append(task_result.id)

    signals.task_enqueued.connect(hear)
    yield ids
    signals.task_enqueued.disconnect(hear)


def waiting() -> int:
    return sum(queue.blocking.counts().waiting for queue in default_backend().task_queues)


def test_a_task_is_sent_when_the_transaction_has_committed(heard):
    with transaction.atomic():
        order = Order.objects.create(number="A-1")
        result = chores.add.enqueue(order.pk)
        assert (result.status, result.enqueued_at, bool(result.id)) == (TaskResultStatus.READY, None, True)
        with pytest.raises(TaskResultDoesNotExist):
            chores.add.get_result(result.id)
        assert (waiting(), heard) == (0, [])
    assert heard == [result.id]
    assert result.enqueued_at is not None
    assert chores.add.get_result(result.id).args == [order.pk]


def test_nothing_is_sent_when_it_is_rolled_back(heard):
    with pytest.raises(Undone), transaction.atomic():
        result = chores.add.enqueue(1)
        raise Undone
    assert (waiting(), heard) == (0, [])
    with pytest.raises(TaskResultDoesNotExist):
        chores.add.get_result(result.id)


def test_nothing_is_sent_for_a_savepoint_that_is_rolled_back():
    with transaction.atomic():
        kept = chores.add.enqueue(1)
        with pytest.raises(Undone), transaction.atomic():
            chores.add.enqueue(2)
            raise Undone
    assert (waiting(), chores.add.get_result(kept.id).args) == (1, [1])


def test_outside_of_a_transaction_a_task_is_sent_at_once(heard):
    result = chores.add.enqueue(1)
    assert heard == [result.id]
    assert result.enqueued_at is not None


@pytest.mark.parametrize("where", ["OPTIONS", "SYNC_KIT"])
def test_whoever_does_not_want_to_wait_says_so(where, server, namespace):
    jobs = {"ON_COMMIT": where != "SYNC_KIT"}
    options = {"on_commit": False} if where == "OPTIONS" else {}
    with (
        override_settings(SYNC_KIT={"URL": server.url, "NAMESPACE": namespace, "JOBS": jobs}),
        with_options(**options),
        transaction.atomic(),
    ):
        chores.add.enqueue(1)
        assert waiting() == 1


def test_what_is_wrong_with_the_arguments_is_said_at_once():
    with transaction.atomic(), pytest.raises(TypeError):
        chores.add.enqueue(object())


def test_a_duplicate_is_known_after_the_commit(heard):
    keyed = chores.by_number.using(key="k")
    with transaction.atomic():
        first, second = keyed.enqueue(1), keyed.enqueue(2)
        assert first.id != second.id
    assert (second.id, second.args) == (first.id, [1])
    assert heard == [first.id]


def test_tasks_that_cannot_be_sent_after_the_commit_are_kept_on_the_error(server, namespace, heard):
    with Proxy(server) as proxy, override_settings(SYNC_KIT={"URL": proxy.url, "NAMESPACE": namespace}):
        chores.add.enqueue(0)
        with pytest.raises(NotSentError) as caught, transaction.atomic():
            Order.objects.create(number="A-1")
            results = [chores.add.enqueue(number) for number in (1, 2)]
            proxy.refuse()
            proxy.cut()
        assert Order.objects.count() == 1
        assert [receipt.id for receipt in caught.value.receipts] == [result.id for result in results]
        assert [result.enqueued_at for result in results] == [None, None]
        proxy.heal()
        caught.value.send()
        assert all(result.enqueued_at is not None for result in results)
        caught.value.send()
        assert heard[1:] == [result.id for result in results]
        assert [chores.add.get_result(result.id).args for result in results] == [[1], [2]]
