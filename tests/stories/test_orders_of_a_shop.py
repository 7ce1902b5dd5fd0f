"""A shop sends mails and builds reports in the background. Read it from the top: each test is one page of the story."""

from __future__ import annotations

import anyio
import pytest
from pydantic import BaseModel, SecretStr

from sync_kit import Backoff, DuplicateJobError, Job, JobError, Jobs, current_job
from sync_kit.testing import assert_sent, drain, recorded

pytestmark = pytest.mark.anyio


class Mail(BaseModel):
    to: str
    subject: str = "Hello"


@pytest.fixture
def shop(kit):
    return Jobs("shop", kit=kit)


async def test_a_mail_is_sent_after_the_response_and_tried_again_when_the_server_is_busy(shop):
    outbox, busy = [], [ConnectionError("busy")]

    @shop.task(schema=Mail, retries=3, backoff=Backoff(base=60))
    async def send_mail(mail: Mail) -> None:
        if busy:
            raise busy.pop()
        outbox.append(mail.to)

    await send_mail.send(to="ann@example.com")  # in a view: it returns at once
    await send_mail.using(delay=3600).send(to="bob@example.com", subject="How was it?")
    done = await drain(shop)  # in a test: nobody waits for an hour, or for the pause of a minute
    assert sorted(outbox) == ["ann@example.com", "bob@example.com"]
    assert (done.completed, done.retried) == (2, 1)


async def test_a_report_is_built_once_at_a_time_and_its_result_is_waited_for(shop):
    built = []

    @shop.task(schema=int, key=str, result_ttl=60)
    async def build_report(year: int, job: Job) -> dict[str, int]:
        await job.progress(0.5, "counting")
        built.append(year)
        return {"year": year, "orders": 7}

    first = await build_report.send(2026)
    again = await build_report.send(2026)  # somebody was impatient
    assert (again.duplicate, again.id) == (True, first.id)
    with pytest.raises(DuplicateJobError, match="2026"):
        await build_report.using(on_duplicate="raise").send(2026)
    async with shop.worker():
        assert await again.result(timeout=20) == {"year": 2026, "orders": 7}
    assert built == [2026]
    seen = await shop.get(first.id)
    assert seen is not None
    assert seen.reported is not None
    assert seen.reported.text == "counting"


async def test_what_went_wrong_is_told_to_whoever_waits(shop):
    @shop.task(schema=int, result_ttl=60)
    def divide(number: int) -> float:
        return 1 / number

    receipt = await divide.send(0)
    async with shop.worker():
        with pytest.raises(JobError, match="ZeroDivisionError: division by zero") as caught:
            await receipt.result(timeout=20)
    assert "return 1 / number" in caught.value.traceback


async def test_the_shop_closes_its_books_every_night_and_somebody_looks_at_the_timetable(shop):
    @shop.cron("0 3 * * *", tz="Europe/Berlin")
    async def close_books() -> None: ...

    async with shop.worker():
        with anyio.fail_after(20):
            while not (listed := await shop.schedules.list()):
                await anyio.sleep(0.01)
        (nightly,) = listed
        assert (nightly.name, nightly.cron, nightly.tz, nightly.runs) == (
            "close_books",
            "0 3 * * *",
            "Europe/Berlin",
            0,
        )
        assert await shop.schedules.run("close_books")  # now, the timetable stays
        assert await shop.schedules.pause("close_books")
        assert not await shop.schedules.pause("close_books")


async def test_a_year_later_the_payload_has_changed_and_old_jobs_still_run(kit):
    class Login(BaseModel):
        user: str
        password: SecretStr

    before, after, got = Jobs("shop", kit=kit), Jobs("shop", kit=kit), []

    @before.task(schema=dict[str, str], name="invite")
    async def invite_then(old: dict[str, str]) -> None: ...

    @after.task(schema=Login, name="invite", version=2, upgrade={1: lambda old: {**old, "password": "please change"}})
    async def invite(login: Login) -> None:
        job = current_job()
        assert job is not None
        got.append((job.task, login.user, login.password.get_secret_value(), str(login)))

    await invite_then.send({"user": "ann"})
    await drain(after)
    assert got == [("invite", "ann", "please change", "user='ann' password=SecretStr('**********')")]


async def test_in_a_test_of_a_view_nothing_runs_and_the_mail_is_seen(shop):
    @shop.task(schema=Mail)
    async def send_mail(mail: Mail) -> None: ...

    async def sign_up(address):  # the view
        receipt = await send_mail.send(to=address, subject="Welcome")
        return receipt.id

    with recorded():
        await sign_up("ann@example.com")
        assert_sent(send_mail, to="ann@example.com", subject="Welcome")
    assert (await shop.counts()).waiting == 0
