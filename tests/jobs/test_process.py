"""A worker as a process of its own: what each signal does, on every event loop."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from sync_kit import Job
from tests.jobs.conftest import Note, until

pytestmark = pytest.mark.anyio

BEGAN: set[str] = set()


@pytest.fixture
def sleeper(jobs):
    """A task that sleeps for as many seconds as its number says."""

    @jobs.task(schema=Note, timeout=None)
    async def sleep(note: Note, job: Job) -> None:
        BEGAN.add(job.id)
        await anyio.sleep(note.number)

    return sleep


@pytest.fixture(autouse=True)
def handlers():
    """Signals do afterwards what they did before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@asynccontextmanager
async def process(jobs, job):
    """The worker of a process while it runs `job`; leaving waits for its end."""
    ended = anyio.Event()

    async def run() -> None:
        await jobs.run(handle_signals=True, poll_interval=0.1)
        ended.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await until(partial(_has_begun, job))  # what is only claimed when the signal comes is handed back
            yield ended


async def _has_begun(job):
    return job in BEGAN


async def test_the_first_signal_lets_what_runs_end(jobs, sleeper):
    job = (await sleeper.send(text="short", number=1)).id
    async with process(jobs, job):
        os.kill(os.getpid(), signal.SIGTERM)
    assert (await jobs.get(job)).status == "completed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_signal_hands_back_what_runs(jobs, sleeper, number, caplog):
    caplog.set_level("INFO", "sync_kit")

    async def draining():
        return "draining" in caplog.text

    job = (await sleeper.send(text="endless", number=1000)).id
    async with process(jobs, job) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
        await until(draining)
        assert not ended.is_set()
        os.kill(os.getpid(), number)
    found = await jobs.get(job)
    assert (found.status, found.attempts) == ("waiting", 0)
