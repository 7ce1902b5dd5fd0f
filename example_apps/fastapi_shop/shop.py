"""What the shop is about: customers with plans, orders in SQLite, invoices as text. Knows nothing of the web."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

PLANS = {"free": "5/minute", "pro": "100/minute", "partner": "10000/minute"}
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=100)]


class Item(BaseModel):
    """One line of an order."""

    name: Text
    quantity: int = Field(ge=1, le=1000)
    cents: int = Field(ge=0, le=1_000_000, description="the price of one")


class Order(BaseModel):
    """What somebody has ordered."""

    id: int
    customer: str
    email: str
    items: list[Item]
    year: int

    @property
    def cents(self) -> int:
        """What it costs."""
        return sum(item.quantity * item.cents for item in self.items)


@dataclass(frozen=True)
class Customer:
    """Who orders. A real shop keeps a hash of the key."""

    name: str
    plan: str


CUSTOMERS = {
    "key-of-ann": Customer("ann", "free"),
    "key-of-bob": Customer("bob", "pro"),
    "key-of-eve": Customer("eve", "partner"),
}


class Store:
    """Orders in a file of SQLite, which waits for other processes by itself."""

    def __init__(self, path: str) -> None:
        self._path = path
        with closing(self._connect()) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, year INTEGER, json TEXT)")

    def add(self, customer: str, email: str, items: list[Item]) -> Order:
        """Keep a new order."""
        year = time.gmtime().tm_year
        with closing(self._connect()) as database, database:
            row = database.execute("INSERT INTO orders (year, json) VALUES (?, '')", (year,))
            order = Order(id=row.lastrowid or 0, customer=customer, email=email, items=items, year=year)
            database.execute("UPDATE orders SET json = ? WHERE id = ?", (order.model_dump_json(), order.id))
        return order

    def get(self, order_id: int) -> Order | None:
        """An order; None if there is none of this number."""
        return next(self._orders("id = ?", order_id), None)

    def of_year(self, year: int) -> Iterator[Order]:
        """The orders of a year, in their order."""
        return self._orders("year = ? ORDER BY id", year)

    def _orders(self, condition: str, value: int) -> Iterator[Order]:
        with closing(self._connect()) as database:
            for (text,) in database.execute(f"SELECT json FROM orders WHERE {condition}", (value,)):
                yield Order.model_validate_json(text)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10, check_same_thread=False)


def invoice(order: Order) -> str:
    """The invoice of an order."""
    lines = [f"{item.quantity:>5} x {item.name:<40} {money(item.quantity * item.cents)}" for item in order.items]
    return "\n".join([f"Invoice {order.id} for {order.customer}", "", *lines, "", f"Total {money(order.cents)}", ""])


def money(cents: int) -> str:
    """An amount as people read it."""
    return f"{cents // 100}.{cents % 100:02d} EUR"
