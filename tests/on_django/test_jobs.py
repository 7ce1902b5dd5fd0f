"""Jobs with Django's names: plain verbs in sync code, with an `a` before them in async code."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest
from pydantic import BaseModel

import sync_kit
from sync_kit import ConfigurationError, InvalidPayloadError, UnknownTaskError, current_job
from sync_kit.testing import drain, drain_blocking
from sync_kit_django import Jobs, Receipt
from sync_kit_django._registry import all_queues

pytestmark = pytest.mark.anyio


class Email(BaseModel):
    to: str
    copies: int = 0


@pytest.fixture
def jobs():
    return Jobs("mail")


@pytest.fixture
def ran():
    return []


@pytest.fixture
def send_email(jobs, ran):
    @jobs.task(schema=Email, result_ttl=60)
    def send_email(email: Email) -> str:
        """Send it."""
        ran.append(email)
        return email.to

    return send_email


def test_a_view_sends_a_job_and_knows_its_id(jobs, send_email):
    receipt = send_email.send(to="ann@example.com")
    assert (receipt.sent, receipt.duplicate, receipt.schedule, receipt.task) == (True, False, False, "send_email")
    job = jobs.get(receipt.id)
    assert (job.status, job.data, job.task) == ("waiting", Email(to="ann@example.com"), "send_email")


async def test_an_async_view_sends_a_job_with_await(jobs, send_email, ran):
    receipt = await send_email.asend(Email(to="ann@example.com"))
    await drain(jobs.core)
    assert ran == [Email(to="ann@example.com")]
    assert (await jobs.aget(receipt.id)).status == "completed"
    assert await receipt.aresult(timeout=5) == "ann@example.com"


def test_many_are_sent_at_once(jobs, send_email, ran):
    receipts = send_email.send_many(Email(to=name) for name in "abc")
    drain_blocking(jobs.core)
    assert sorted(email.to for email in ran) == ["a", "b", "c"]
    assert [receipt.result(timeout=5) for receipt in receipts] == ["a", "b", "c"]


async def test_many_are_sent_at_once_with_await(jobs, send_email):
    await send_email.asend_many([Email(to=name) for name in "abc"])
    assert (await jobs.acounts()).waiting == 3


async def test_plain_verbs_in_an_event_loop_say_what_to_await(jobs, send_email):
    receipt = await send_email.asend(to="a")
    for plain, awaited in [
        (lambda: send_email.send(to="a"), "await send_email.asend(...)"),
        (lambda: send_email.send_on_commit(to="a"), "await send_email.asend(...)"),
        (lambda: send_email.using(delay=1).send_many([]), "await send_email.asend_many(...)"),
        (lambda: jobs.get(receipt.id), "await jobs.aget(...)"),
        (lambda: jobs.list(status="waiting"), "await jobs.alist(...)"),
        (lambda: jobs.result(receipt.id), "await jobs.aresult(...)"),
        (lambda: jobs.workers(), "await jobs.aworkers()"),
        (lambda: receipt.result(), "await receipt.aresult(...)"),
        (lambda: jobs.schedules.list(), "await jobs.schedules.alist(...)"),
    ]:
        with pytest.raises(ConfigurationError) as caught:
            plain()
        assert f"use `{awaited}` instead" in str(caught.value)


def test_a_task_is_called_directly_as_it_was_written(send_email, ran):
    assert send_email(Email(to="a")) == "a"
    assert ran == [Email(to="a")]
    assert (send_email.__name__, send_email.__doc__, repr(send_email)) == (
        "send_email",
        "Send it.",
        "<Task 'send_email'>",
    )


def test_options_of_one_send(jobs, send_email):
    receipt = send_email.using(delay=60, retries=4, tag="welcome", priority=3, timeout=None).send(to="a")
    job = jobs.get(receipt.id)
    assert (job.status, job.max_retries, job.tag, job.priority, job.timeout) == ("delayed", 4, "welcome", 3, None)
    assert [found.id for found in jobs.list(status="delayed", tag="welcome")] == [receipt.id]


def test_a_second_job_of_one_key_is_told_from_the_first(send_email):
    sender = send_email.using(key="welcome")
    first, second = sender.send(to="a"), sender.send(to="a")
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first == second
    assert len({first, second}) == 1


def test_looking_and_acting(jobs, send_email):
    ids = [receipt.id for receipt in send_email.send_many([Email(to="a"), Email(to="b")])]
    assert jobs.counts().waiting == 2
    assert (jobs.cancel(ids[0]), jobs.cancel(ids[0])) == (True, False)
    assert (jobs.retry(ids[0]), jobs.retry(ids[1])) == (True, False)
    assert (jobs.pause(), jobs.pause(), jobs.resume(), jobs.resume()) == (True, False, True, False)
    drain_blocking(jobs.core)
    assert jobs.result(ids[1]) == "b"
    assert (jobs.delete(ids[0]), jobs.get(ids[0])) == (True, None)
    assert (jobs.retry_failed(), jobs.workers()) == (0, [])


async def test_looking_and_acting_with_await(jobs, send_email):
    ids = [receipt.id for receipt in await send_email.asend_many([Email(to="a"), Email(to="b")])]
    assert [job.id for job in await jobs.alist(status="waiting")] == ids
    assert (await jobs.acancel(ids[0]), await jobs.aretry(ids[0])) == (True, True)
    assert (await jobs.apause(), await jobs.aresume()) == (True, True)
    await drain(jobs.core)
    assert await jobs.aresult(ids[1]) == "b"
    assert await jobs.adelete(ids[0])
    assert (await jobs.aretry_failed(), await jobs.aworkers()) == (0, [])


def test_schedules_are_declared_and_looked_at(jobs, ran):
    @jobs.cron("@daily", tz="Europe/Berlin")
    def nightly() -> None:
        ran.append("nightly")

    @jobs.every(3600, payload=Email(to="a"), name="often")
    @jobs.task(schema=Email)
    async def mail(email: Email) -> None: ...

    nightly()
    assert ran == ["nightly"]
    assert set(jobs.core.declared) == {"nightly", "often"}
    receipt = mail.using(interval=60, name="sometimes").send(to="b")
    assert (receipt.schedule, receipt.id) == (True, "sometimes")
    assert [schedule.name for schedule in jobs.schedules.list()] == ["sometimes"]
    assert jobs.schedules.get("sometimes").interval == 60
    assert (jobs.schedules.pause("sometimes"), jobs.schedules.resume("sometimes")) == (True, True)
    assert isinstance(jobs.schedules.run("sometimes"), Receipt)
    assert (jobs.schedules.delete("sometimes"), jobs.schedules.run("sometimes")) == (True, None)
    nightly.send()
    drain_blocking(jobs.core)
    assert ran == ["nightly", "nightly"]


async def test_schedules_with_await(jobs):
    @jobs.task(schema=Email)
    async def mail(email: Email) -> None: ...

    await mail.using(cron="@hourly", name="hourly").asend(to="b")
    schedules = jobs.schedules
    assert [schedule.name for schedule in await schedules.alist()] == ["hourly"]
    assert (await schedules.aget("hourly")).cron == "@hourly"
    assert (await schedules.apause("hourly"), await schedules.aresume("hourly")) == (True, True)
    assert isinstance(await schedules.arun("hourly"), Receipt)
    assert (await schedules.adelete("hourly"), await schedules.arun("hourly")) == (True, None)


def test_hooks_middleware_and_what_is_carried(jobs, ran):
    tenant: ContextVar[str] = ContextVar("tenant")
    jobs.carry(tenant)

    @jobs.middleware
    async def around(job: sync_kit.Job, call_next: Any) -> Any:
        ran.append("before")
        return await call_next()

    @jobs.task(schema=int, retries=1, on_success=lambda job: ran.append(job.data))
    def work(number: int, job: sync_kit.Job) -> None:
        assert current_job() == job
        ran.append(tenant.get())

    token = tenant.set("acme")
    work.send(1)
    tenant.reset(token)
    drain_blocking(jobs.core)
    assert ran == ["before", "acme", 1]


def test_tasks_by_name(jobs, send_email):
    assert jobs.named("send_email") is send_email
    with pytest.raises(UnknownTaskError, match="did you mean 'send_email'"):
        jobs.named("sendemail")


def test_two_tasks_of_one_name_are_refused(jobs, send_email):
    with pytest.raises(ConfigurationError, match="give one of them a name="):

        @jobs.task(schema=int, name="send_email")
        def other(number: int) -> None: ...


def test_a_queue_is_known_to_the_worker_of_the_project(jobs):
    assert jobs.core in all_queues()


make: Any = Jobs


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda jobs: make("mail", databse="other"), "did you mean 'database'?"),
        (lambda jobs: make("mail", on_commit="yes"), "on_commit must be True or False, not 'yes'"),
        (lambda jobs: Jobs("mail", database=""), "database must be a non-empty str"),
        (lambda jobs: jobs.task(schema=int, retry=1), "task has no option 'retry': did you mean 'on_retry'?"),
        (lambda jobs: jobs.task(print), "write @jobs.task(schema=Email)"),
        (lambda jobs: jobs.task(retries=3), "write @jobs.task(schema=Email)"),
        (lambda jobs: jobs.named("send_email").using(on_comit=True), "did you mean 'on_commit'?"),
        (lambda jobs: jobs.named("send_email").using(on_commit=1), "on_commit must be True or False, not 1"),
        (lambda jobs: jobs.every(60)(5), "a schedule is for a function or a task, not 5"),
        (lambda jobs: jobs.every(60, retry=1), "every has no option 'retry'"),
        (lambda jobs: jobs.task(schema=int, name="five")(5), "must be a function, not 5"),
        (lambda jobs: jobs.task(schema=int)(5), "give it a name="),
        (lambda jobs: jobs.task(schema=int, name="none")(lambda: None), "takes 0 parameters"),
        (lambda jobs: jobs.middleware(print), "a middleware is an async def"),
        (
            lambda jobs: jobs.task(schema=int, on_success=lambda: None)(print),
            "on_success must be callable with the job",
        ),
        (lambda jobs: jobs.task(schema=int, on_failure=1), "on_failure must be callable with"),
    ],
)
def test_a_mistake_says_what_would_be_right(jobs, send_email, wrong, said):
    with pytest.raises(ConfigurationError) as caught:
        wrong(jobs)
    assert said in str(caught.value)


def test_a_payload_that_does_not_fit_is_refused_at_the_call(jobs, send_email):
    with pytest.raises(InvalidPayloadError):
        send_email.send(copies=1)
    assert jobs.counts().waiting == 0
