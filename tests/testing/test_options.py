"""What tasks may have beside a payload, while their jobs are recorded or run inline."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
from anyio import to_thread
from pydantic import BaseModel, SecretStr

from sync_kit import ConfigurationError, DuplicateJobError, Job, JobError, current_job
from sync_kit.testing import assert_sent, inline, recorded

pytestmark = pytest.mark.anyio

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")


class Login(BaseModel):
    user: str
    password: SecretStr


async def test_a_recorded_job_holds_its_unique_key(nowhere):
    unique = nowhere.count.using(key=lambda number: f"n{number % 10}")
    with recorded() as sent:
        first, again, other = await unique.send_many([1, 11, 2])
        assert (again.id, again.duplicate, first.duplicate, other.duplicate) == (first.id, True, False, False)
        assert [(job.data, job.options["key"]) for job in sent] == [(1, "n1"), (2, "n2")]
        sent.clear()
        assert not (await unique.send(21)).duplicate


async def test_a_duplicate_is_refused_or_replaces_as_the_sender_says(nowhere):
    with recorded() as sent:
        first = await nowhere.count.using(key="k").send(1)
        with pytest.raises(DuplicateJobError) as refused:
            await nowhere.count.using(key="k", on_duplicate="raise").send_many([2])
        assert refused.value.job_id == first.id
        second = await nowhere.count.using(key="k", on_duplicate="replace").send(3)
    assert [(job.id, job.data) for job in sent] == [(second.id, 3)]


async def test_a_key_is_the_tasks_own(nowhere):
    with recorded() as sent:
        await nowhere.count.using(key="k").send(1)
        await nowhere.send_email.using(key="k").send(to="ann")
    assert len(sent) == 2


async def test_inline_a_key_is_held_while_its_job_runs(nowhere):
    receipts: list[Any] = []

    @nowhere.jobs.task(schema=int, key="only one")
    async def again(number: int) -> None:
        receipts.append(await again.send(number + 1))

    with inline() as sent:
        for number in (1, 10):
            receipt = await again.send(number)
            assert not receipt.duplicate
            assert (receipts[-1].id, receipts[-1].duplicate) == (receipt.id, True)
    assert [job.data for job in sent] == [1, 10]


async def test_inline_a_key_is_free_again_after_a_failure(nowhere):
    nowhere.failures += [ValueError("seen")]
    with inline():
        with pytest.raises(ValueError, match="seen"):
            await nowhere.count.using(key="k").send(1)
        assert not (await nowhere.count.using(key="k").send(2)).duplicate
    assert nowhere.ran == [1, 2]


async def test_inline_a_receipt_has_the_result(nowhere):
    @nowhere.jobs.task(schema=int, result_ttl=60)
    async def double(number: int) -> dict[str, int]:
        return {"double": 2 * number}

    @nowhere.jobs.task(schema=int, result_ttl=60)
    def plain_double(number: int) -> int:
        return 2 * number

    with inline():
        assert await (await double.send(2)).result(timeout=1) == {"double": 4}
        assert await (await plain_double.send(2)).result() == 4
        receipt = await to_thread.run_sync(plain_double.blocking.send, 3)
        assert await to_thread.run_sync(receipt.blocking.result) == 6
        assert await (await nowhere.count.send(1)).result() is None


async def test_inline_a_handler_learns_from_the_receipt_that_its_job_failed(nowhere):
    @nowhere.jobs.task(schema=int)
    async def outer(number: int) -> None:
        with pytest.raises(JobError, match="seen") as failed:
            await (await nowhere.count.send(number)).result()
        nowhere.ran.append(failed.value.status)

    nowhere.failures += [ValueError("seen")]
    with inline(), pytest.raises(ValueError, match="seen"):
        await outer.send(1)
    assert nowhere.ran == [1, "failed"]


async def test_a_recorded_job_has_no_result_and_says_so(nowhere):
    with recorded():
        receipt = await nowhere.count.send(1)
    with pytest.raises(ConfigurationError, match="did not run"):
        await receipt.result(timeout=1)
    with pytest.raises(ConfigurationError, match="did not run"):
        await to_thread.run_sync(receipt.blocking.result)


async def test_middleware_and_the_current_job_are_there_inline(nowhere):
    said: list[Any] = []

    @nowhere.jobs.middleware
    async def around(job: Job, call_next: Any) -> Any:
        said.append(("before", job.id))
        return await call_next()

    @nowhere.jobs.task(schema=int)
    def plain(number: int, job: Job) -> None:
        found = current_job()
        said.append((found and found.id, job.id))
        job.blocking.progress(0.5, "half")
        job.blocking.log("a line")

    with inline():
        receipt = await plain.send(1)
        second = await to_thread.run_sync(plain.blocking.send, 2)
    one, two = receipt.id, second.id
    assert said == [("before", one), (one, one), ("before", two), (two, two)]
    assert current_job() is None


async def test_what_the_context_carries_is_kept_and_arrives(nowhere):
    nowhere.jobs.carry(tenant)

    @nowhere.jobs.task(schema=int)
    async def there(number: int, job: Job) -> None:
        nowhere.ran.append((tenant.get(), job.headers["tenant"]))

    tenant.set("acme")
    with recorded() as sent:
        await there.send(1)
    with inline():
        await there.send(1)
    assert sent[0].options["headers"] == {"tenant": "acme"}
    assert nowhere.ran == [("acme", "acme")]


async def test_secrets_arrive_and_are_masked_wherever_they_are_shown(nowhere):
    @nowhere.jobs.task(schema=Login)
    async def log_in(login: Login) -> None:
        nowhere.ran.append(login.password.get_secret_value())

    with recorded() as sent:
        await log_in.send(user="ann", password=SecretStr("hunter2"))
        assert_sent(log_in, password=SecretStr("hunter2"))
        with pytest.raises(AssertionError) as failed:
            assert_sent(log_in, password=SecretStr("swordfish"))
    assert "hunter2" not in str(failed.value) + repr(sent)
    assert "swordfish" not in str(failed.value)
    assert sent[0].data.password.get_secret_value() == "hunter2"
    with inline():
        await log_in.send(user="ann", password=SecretStr("hunter2"))
    assert nowhere.ran == ["hunter2"]


async def test_a_task_with_a_version_runs_inline(nowhere):
    @nowhere.jobs.task(schema=int, version=2, upgrade={1: int})
    async def newer(number: int) -> None:
        nowhere.ran.append(number)

    with inline() as sent:
        await newer.send(1)
        assert_sent(newer, 1)
    assert (sent[0].task, nowhere.ran) == ("newer", [1])
