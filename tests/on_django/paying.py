"""Tasks of either kind that read and write the database, by themselves and by others."""

from __future__ import annotations

import threading
from typing import Any

from asgiref.sync import sync_to_async
from django.db import transaction

from sync_kit_django import Jobs
from tests.on_django.shop.models import Order

jobs = Jobs("shop")
threads: list[threading.Thread] = []


@jobs.task(schema=int, result_ttl=60)
def pay(order_id: int) -> int:
    threads.append(threading.current_thread())
    order = Order.objects.get(pk=order_id)
    order.paid = True
    order.save()
    return order_id


@jobs.task(schema=int, result_ttl=60)
async def apay(order_id: int) -> int:
    threads.append(await sync_to_async(threading.current_thread)())
    order = await Order.objects.aget(pk=order_id)
    order.paid = True
    await order.asave()
    return order_id


@jobs.task(schema=int)
def pay_by_others(order_id: int) -> None:
    with transaction.atomic():
        pay.using(on_commit=False).send(order_id)
        apay.using(on_commit=False).send(order_id)


@jobs.task(schema=int)
async def apay_by_others(order_id: int) -> None:
    await pay.asend(order_id)
    await apay.asend(order_id)
    await sync_to_async(pay_by_others.using(on_commit=False).send)(order_id)


@jobs.task(schema=str)
def fail(text: str) -> None:
    raise ValueError(text)


ALL: list[Any] = [pay, apay, pay_by_others, apay_by_others]
