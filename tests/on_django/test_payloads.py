"""Model instances do not travel, and who tries is told what does."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import pytest
from django.db.models import QuerySet
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from sync_kit import ConfigurationError, InvalidPayloadError
from sync_kit_django import Jobs
from tests.on_django.shop.models import Order

ADVICE = "send its key, as in order.pk"


class Loose(BaseModel):
    order: Any


class Looser(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow")


@dataclasses.dataclass
class Deep:
    orders: dict[str, list[Any]]


class Strict(BaseModel):
    order_id: int


def handle(payload: Any) -> None: ...


def task(schema):
    return Jobs("shop").task(schema=schema)(handle)


ORDER = Order(pk=7, number="A-1")


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        (Any, ORDER),
        (object, [ORDER]),
        (dict, {"order": ORDER}),
        (dict, {ORDER: 1}),
        (dict[str, Any], {"a": {"b": [{"c": (1, ORDER)}]}}),
        (list, [ORDER]),
        (int, ORDER),
        (Strict, {"order_id": ORDER}),
        (Loose, Loose(order=ORDER)),
        (Loose, {"order": {ORDER}}),
        (Looser, {"anything": ORDER}),
        (Deep, Deep({"a": [ORDER]})),
        (Any, Order.objects.all()),
        (dict[str, Any], {"orders": Order.objects.filter(pk=1)}),
    ],
)
def test_a_model_instance_in_a_payload_is_refused_with_the_advice_to_send_its_key(schema, payload):
    sender = task(schema)
    for send in (sender.send, sender.send_on_commit, lambda one: sender.send_many([one])):
        with pytest.raises(InvalidPayloadError, match=ADVICE) as caught:
            send(payload)
        assert "A-1" not in str(caught.value)
    assert sender.jobs.counts().waiting == 0


def test_a_model_instance_as_a_field_is_refused_with_the_same_advice():
    with pytest.raises(InvalidPayloadError, match=ADVICE):
        task(Strict).send(order_id=ORDER)
    with pytest.raises(InvalidPayloadError, match=r"tests\.on_django\.shop\.models\.Order"):
        task(Loose).send(order=ORDER)


@pytest.mark.parametrize("lazy", [gettext_lazy("Welcome"), reverse_lazy("admin:index")])
@pytest.mark.parametrize("schema", [str, Any, list, list[str]])
def test_of_a_lazy_text_it_is_said_that_its_text_travels(schema, lazy):
    with pytest.raises(InvalidPayloadError, match=r"send str\(text\)"):
        task(schema).send([lazy] if schema in (list, list[str]) else lazy)


def test_what_else_is_wrong_is_said_without_that_advice():
    with pytest.raises(InvalidPayloadError) as caught:
        task(Strict).send(order_id="seven")
    assert ADVICE not in str(caught.value)


def test_the_key_is_what_travels(tables):
    order = Order.objects.create(number="A-1")
    sender = task(Strict)
    receipt = sender.send(order_id=order.pk)
    assert sender.jobs.get(receipt.id).data == Strict(order_id=order.pk)


def test_keys_of_a_queryset_travel_as_a_list(tables):
    Order.objects.create(pk=1, number="A-1")
    sender = task(list[int])
    receipt = sender.send(list(Order.objects.values_list("pk", flat=True)))
    assert sender.jobs.get(receipt.id).data == [1]


@dataclasses.dataclass
class Named:
    order: Order


class Lines(TypedDict):
    orders: list[Order]


class Pair(NamedTuple):
    left: int
    right: Order


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    order: Order | None
    again: Model | None = None


class Outer(BaseModel):
    inner: dict[str, Model]


@pytest.mark.parametrize(
    "schema",
    [Order, list[Order], Order | None, dict[str, Order], QuerySet, QuerySet[Order], Named, Lines, Pair, Model, Outer],
)
def test_a_schema_that_names_a_model_is_refused_when_the_task_is_made(schema):
    with pytest.raises(ConfigurationError, match=r"take its key, as in `order_id: int`"):
        task(schema)
