"""A shop: orders, invoices by e-mail, limits by plan, and a report that one at a time may read.

`python serve.py` runs it with a mail server that prints; by hand, beside an SMTP server of your own:

    SHOP_DB=/tmp/shop.db SMTP=localhost:1025 REDIS_URL=embedded:// uvicorn app:app
"""

from __future__ import annotations

import os
import smtplib
import time
from collections.abc import Iterator
from email.message import EmailMessage
from functools import cache
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, Field
from shop import CUSTOMERS, PLANS, Customer, Item, Order, Store, invoice, money
from starlette.requests import Request

from sync_kit import Backoff, Job, Jobs, RateLimiter, configure
from sync_kit_starlette import RateLimitMiddleware, client_address, exclusive, health_routes, job_worker
from sync_kit_starlette.fastapi import RateLimit, problems

configure(namespace="shop")
jobs = Jobs("shop")
OWNER = "owner@example.com"


@cache
def store() -> Store:
    """The orders."""
    return Store(os.environ["SHOP_DB"])


# jobs: they run in every process that serves the app, and again if that one dies


class Invoice(BaseModel):
    """Which order to write about."""

    order_id: int


@jobs.task(schema=Invoice, retries=5, backoff=Backoff(1, max=60), timeout=30)
def send_invoice(wanted: Invoice, job: Job) -> None:
    """Mail the invoice of an order. A second run of the same job writes the same Message-ID."""
    if order := store().get(wanted.order_id):
        mail(order.email, f"Invoice {order.id}", invoice(order), job.id)


@jobs.cron("0 7 * * *", tz="Europe/Berlin")
def daily_summary(job: Job) -> None:
    """Tell the owner how the year goes: once a morning, however many processes there are."""
    orders = list(store().of_year(time.gmtime().tm_year))
    mail(OWNER, "Orders", f"{len(orders)} orders, {money(sum(order.cents for order in orders))}", job.id)


def mail(to: str, subject: str, text: str, message_id: str) -> None:
    """Hand a mail to the SMTP server."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", to, subject
    message["Message-ID"] = f"<{message_id}@shop.example.com>"
    message.set_content(text)
    host, _, port = os.environ["SMTP"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=10) as server:
        server.send_message(message)


# who asks, and how often

api_key = APIKeyHeader(name="x-api-key", auto_error=False)


def signed_in(key: Annotated[str | None, Depends(api_key)]) -> Customer:
    """The customer of an API key."""
    if customer := CUSTOMERS.get(key or ""):
        return customer
    raise HTTPException(401, "no such API key", {"WWW-Authenticate": "APIKey"})


def counted(request: Request) -> str:
    """Who is counted: the customer; who has no valid key has the address that the request comes from."""
    customer = CUSTOMERS.get(request.headers.get("x-api-key", ""))
    return customer.name if customer else client_address(request)


def rules(name: str) -> str:
    """The limit of a plan."""
    return PLANS[next((customer.plan for customer in CUSTOMERS.values() if customer.name == name), "free")]


by_plan = Depends(RateLimit(RateLimiter("orders", rules=rules, on_error="allow"), key=counted))
SignedIn = Annotated[Customer, Depends(signed_in)]
OrderId = Annotated[int, Path(ge=1, le=2**53)]
Year = Annotated[int, Path(ge=2000, le=2100)]

# requests

router = APIRouter(prefix="/orders", tags=["orders"], dependencies=[by_plan], responses={401: {}, **problems(429)})


class NewOrder(BaseModel):
    """What is ordered, and where the invoice goes."""

    email: str = Field(pattern=r"^[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$", max_length=100)
    items: list[Item] = Field(min_length=1, max_length=100)


class Sent(BaseModel):
    """A job that was accepted."""

    job: str
    already: bool = Field(description="whether the invoice was on its way already")


@router.post("", status_code=201)
def post_order(new: NewOrder, customer: SignedIn) -> Order:
    """Order something. The invoice is mailed after the response."""
    order = store().add(customer.name, new.email, new.items)
    send_invoice.using(key=f"invoice:{order.id}").blocking.send(order_id=order.id)
    return order


@router.get("/{order_id}", responses={404: {}})
def get_order(order_id: OrderId, customer: SignedIn) -> Order:
    """One of one's own orders."""
    order = store().get(order_id)
    if order is None or order.customer != customer.name:
        raise HTTPException(404, "you have no such order")
    return order


OwnOrder = Annotated[Order, Depends(get_order)]


@router.get("/{order_id}/invoice", response_class=PlainTextResponse, responses={404: {}})
def get_invoice(order: OwnOrder) -> str:
    """The invoice as text."""
    return invoice(order)


@router.post("/{order_id}/invoice", status_code=202, responses={404: {}})
async def mail_invoice(order: OwnOrder) -> Sent:
    """Mail the invoice again, unless it is on its way."""
    receipt = await send_invoice.using(key=f"invoice:{order.id}").send(order_id=order.id)
    return Sent(job=receipt.id, already=receipt.duplicate)


app = FastAPI(title="Shop", lifespan=job_worker(jobs, concurrency=2))
app.include_router(router)
app.router.routes.extend(health_routes())
app.add_middleware(RateLimitMiddleware, "1000/minute", exempt=["/live", "/ready"])


@app.get("/reports/{year}", responses={200: {"content": {"text/csv": {}}}, **problems(409, 429, 503)})
@exclusive("report:<year>")
def report(year: Year) -> StreamingResponse:
    """All orders of a year as CSV. One at a time may read it: the lease is held until the last line is sent."""
    return StreamingResponse(lines(year), media_type="text/csv")


def lines(year: int) -> Iterator[str]:
    """The report, line by line."""
    yield "order,customer,cents\r\n"
    for order in store().of_year(year):
        yield f"{order.id},{order.customer},{order.cents}\r\n"
