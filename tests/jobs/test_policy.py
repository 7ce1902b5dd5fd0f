"""What becomes of a run that failed: tried again, when, or failed for good; and who is told."""

from __future__ import annotations

import threading
import time

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sync_kit import Backoff, ConfigurationError, InvalidPayloadError, Jobs, Retry
from sync_kit.jobs.policy import Policy
from tests.jobs.conftest import Note, status

# -- pauses --------------------------------------------------------------------------------------------------------


def test_pauses_grow_up_to_the_longest():
    backoff = Backoff(base=2, factor=3, max=100, jitter=0)
    assert [backoff.pause(retry) for retry in range(1, 7)] == [2, 6, 18, 54, 100, 100]
    assert Backoff(base=2, factor=1, max=2, jitter=0).pause(10**9) == 2
    assert Backoff(base=0, max=5, jitter=0).pause(1000) == 0


@given(
    base=st.floats(0, 100),
    factor=st.floats(1, 1000),
    more=st.floats(0, 1000),
    jitter=st.floats(0, 1),
    retry=st.integers(1, 10_000),
)
def test_chance_only_shortens_a_pause(base, factor, more, jitter, retry):
    most = base + more
    whole = Backoff(base, factor, most, 0).pause(retry)
    assert base * 0.999 <= whole <= most or whole == pytest.approx(base)
    assert whole * (1 - jitter) * 0.999 <= Backoff(base, factor, most, jitter).pause(retry) <= whole


def test_jobs_that_failed_together_do_not_come_back_together():
    pauses = {Backoff(base=10, jitter=0.5).pause(1) for _ in range(100)}
    assert len(pauses) > 90
    assert 5 <= min(pauses) <= max(pauses) <= 10


@pytest.mark.parametrize(
    "options",
    [
        {"base": -1},
        {"factor": 0.5},
        {"factor": "2"},
        {"max": 0.5},
        {"jitter": 1.5},
        {"jitter": True},
        {"base": float("nan")},
    ],
    ids=str,
)
def test_an_impossible_backoff_is_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Backoff(**options)


@pytest.mark.parametrize(
    ("policy", "error", "pause"),
    [
        (Policy(), ValueError(), 0.0),
        (Policy(backoff=Backoff(3, jitter=0)), ValueError(), 6.0),
        (Policy(retry_for=(OSError,)), ConnectionError(), 0.0),
        (Policy(retry_for=(OSError,)), ValueError(), None),
        (Policy(retry_for=(OSError,)), TimeoutError(), 0.0),
        (Policy(give_up_on=(OSError,)), ConnectionError(), None),
        (Policy(retry_for=(OSError,), give_up_on=(ConnectionError,)), ConnectionResetError(), None),
        (Policy(give_up_on=(Exception,)), Retry(5), 5.0),
        (Policy(backoff=Backoff(3, jitter=0)), Retry(), 6.0),
        (Policy(backoff=Backoff(3, jitter=0)), Retry(after=0), 0.0),
    ],
    ids=[
        *("any error", "with a pause", "a wanted error", "an unwanted error", "a timeout", "given up"),
        *("given up though wanted", "asked for", "asked for without a time", "asked for at once"),
    ],
)
def test_the_table_of_decisions(policy, error, pause):
    assert policy.pause(error, attempts=2, retries=2) == pause
    assert policy.pause(error, attempts=3, retries=2) is None, "no retries are left"


# -- in a worker ---------------------------------------------------------------------------------------------------


class Heard:
    """Hooks that note what they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, str]] = []

    async def on_success(self, job):
        self.told.append(("success", job.attempts, job.data.text))

    async def on_retry(self, job, error):
        self.told.append(("retry", job.attempts, repr(error)))

    def on_failure(self, job, error):
        assert threading.current_thread() is not threading.main_thread(), "a plain hook runs on a thread"
        self.told.append(("failure", job.attempts, repr(error)))

    @property
    def hooks(self):
        return {"on_success": self.on_success, "on_retry": self.on_retry, "on_failure": self.on_failure}


@pytest.mark.anyio
async def test_hooks_are_told_of_every_run(jobs):
    heard, backoff = Heard(), Backoff(base=0.01, jitter=0)

    @jobs.task(schema=Note, retries=2, backoff=backoff, **heard.hooks)
    async def write(note: Note, job) -> None:
        if job.attempts <= note.number:
            raise ValueError(job.attempts)

    sent = [await write.send(text="good", number=0), await write.send(text="better", number=1)]
    sent.append(await write.send(text="bad", number=9))
    async with jobs.worker(concurrency=1):
        jobs_seen = [await status(jobs, receipt.id, wanted) for receipt, wanted in zip(sent, WANTED, strict=True)]
    assert [job.attempts for job in jobs_seen] == [1, 2, 3]
    assert jobs_seen[2].error == "ValueError: 3"
    assert sorted(heard.told) == sorted(
        [
            ("success", 1, "good"),
            *[("retry", 1, "ValueError(1)"), ("success", 2, "better")],
            *[("retry", 1, "ValueError(1)"), ("retry", 2, "ValueError(2)"), ("failure", 3, "ValueError(3)")],
        ]
    )


WANTED = ["completed", "completed", "failed"]


@pytest.mark.anyio
async def test_a_pause_is_kept_and_shown(jobs):
    began: list[float] = []

    @jobs.task(schema=Note, retries=1, backoff=Backoff(base=0.4, jitter=0))
    async def write(note: Note) -> None:
        began.append(time.monotonic())
        if len(began) == 1:
            raise ValueError("not yet")

    receipt = await write.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "delayed")
        assert job.scheduled_at is not None
        assert job.error == "ValueError: not yet"
        await status(jobs, receipt.id, "completed")
    assert 0.38 <= began[1] - began[0] < 1.4


@pytest.mark.anyio
async def test_a_handler_may_ask_to_be_tried_again_later(jobs):
    runs: list[int] = []

    @jobs.task(schema=Note, retries=1, give_up_on=Exception)
    async def write(note: Note, job) -> None:
        runs.append(job.attempts)
        raise Retry(after=0.05, why="they are closed")

    receipt = await write.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed")
    assert runs == [1, 2]
    assert job.error.endswith("Retry: they are closed")


@pytest.mark.anyio
async def test_some_errors_are_not_worth_a_retry(jobs):
    heard = Heard()

    @jobs.task(schema=Note, retries=5, give_up_on=(KeyError, ZeroDivisionError), **heard.hooks)
    async def write(note: Note) -> None:
        raise ZeroDivisionError

    receipt = await write.send(text="a")
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed")
    assert job.attempts == 1
    assert heard.told == [("failure", 1, "ZeroDivisionError()")]


@pytest.mark.anyio
async def test_a_timeout_goes_through_the_same_policy(jobs):
    heard = Heard()

    @jobs.task(schema=Note, retries=1, timeout=0.05, **heard.hooks)
    async def write(note: Note) -> None:
        await anyio.sleep_forever()

    receipt = await write.send(text="a")
    async with jobs.worker():
        await status(jobs, receipt.id, "failed")
    assert [(what, attempts) for what, attempts, _ in heard.told] == [("retry", 1), ("failure", 2)]
    assert "TimeoutError('the run took longer than 0.05 s')" in heard.told[0][2]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["raises", "hangs", "hangs on a thread"])
async def test_a_broken_hook_changes_nothing(jobs, caplog, monkeypatch, kind):
    monkeypatch.setattr("sync_kit.jobs.policy.HOOK_LIMIT", 0.1)
    go_on = threading.Event()

    async def hook(job):
        if kind == "raises":
            raise LookupError("the hook's own")
        await anyio.sleep_forever()

    @jobs.task(schema=Note, on_success=(lambda job: go_on.wait(20)) if "thread" in kind else hook)
    async def write(note: Note) -> None: ...

    receipt = await write.send(text="a")
    async with jobs.worker():
        await status(jobs, receipt.id, "completed")
    go_on.set()
    assert f"on_success of job {receipt.id} failed" in caplog.text


@pytest.mark.anyio
async def test_a_payload_that_no_longer_fits_is_a_failure_that_is_told(jobs, kit):
    told = []

    class Old(BaseModel):
        other: int

    @Jobs("notes", kit=kit).task(schema=Old, name="write")
    async def before(note: Old) -> None: ...

    @jobs.task(schema=Note, retries=3, name="write", on_failure=lambda job, error: told.append((job.data, error)))
    async def write(note: Note) -> None: ...

    receipt = await before.send(other=1)
    async with jobs.worker():
        job = await status(jobs, receipt.id, "failed")
    assert job.data == {"other": 1}, "it can be looked at all the same"
    ((data, error),) = told
    assert data == {"other": 1}
    assert isinstance(error, InvalidPayloadError)


@pytest.mark.anyio
async def test_a_shutdown_is_told_to_nobody(jobs):
    heard = Heard()

    @jobs.task(schema=Note, **heard.hooks)
    async def write(note: Note) -> None:
        started.set()
        await anyio.sleep_forever()

    started = anyio.Event()
    await write.send(text="a")
    async with jobs.worker(drain_timeout=0):
        await started.wait()
    assert heard.told == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"backoff": 5}, "backoff must be a Backoff"),
        ({"retry_for": "OSError"}, "retry_for must be exception types"),
        ({"give_up_on": (OSError, 5)}, "give_up_on must be exception types"),
        ({"on_success": 5}, "on_success must be callable with the job"),
        ({"on_retry": lambda job: None}, "on_retry must be callable with the job and the error"),
        ({"on_fail": print}, "did you mean 'on_failure'"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_wrong_options_are_refused(jobs, options, match):
    with pytest.raises(ConfigurationError, match=match):

        @jobs.task(schema=Note, **options)
        async def write(note: Note) -> None: ...


@pytest.mark.parametrize("after", [-1, float("nan"), "5"])
def test_an_impossible_time_is_refused(after):
    with pytest.raises(ConfigurationError, match="after"):
        Retry(after)
