"""A worker inside the web process."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from sync_kit import ConfigurationError, Jobs, Queue
from sync_kit_starlette import JobWorker, job_worker, never_started
from sync_kit_starlette.jobs import warn_if_never_started
from tests.jobs.conftest import Note, until

ROOT = Path(__file__).resolve().parents[2]
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)


@pytest.fixture
def written() -> list[str]:
    return []


@pytest.fixture
def jobs(kit, written):
    made = Jobs("notes", kit=kit)

    @made.task(schema=Note)
    async def write(note: Note) -> None:
        written.append(note.text)

    return made


@pytest.fixture
def unheard(monkeypatch):
    """What other tests have made is forgotten."""
    monkeypatch.setattr("sync_kit_starlette.jobs._made", set())
    monkeypatch.setattr("sync_kit_starlette.jobs._aborted", set())
    monkeypatch.setattr("sync_kit_starlette.jobs._was_checked", False)


@pytest.fixture
def breaks(monkeypatch):
    """A worker that crashes as soon as it has a job, and is started again after a moment; undone by a call."""

    def crash(line, run):
        raise LookupError("an internal error")

    monkeypatch.setattr("sync_kit.queue.beside.FIRST_PAUSE", 1.0)
    monkeypatch.setattr("sync_kit.queue.engine.LEASE", 1.0)
    monkeypatch.setattr("sync_kit.queue.line.Line.hold", crash)
    return monkeypatch.undo


def app_with(jobs, **options) -> Starlette:
    return Starlette(routes=[Route("/", post_to(jobs), methods=["POST"])], lifespan=job_worker(jobs, **options))


def post_to(jobs):
    async def post(request: Request) -> JSONResponse:
        receipt = await jobs.tasks["write"].send(**await request.json())
        return JSONResponse({"id": receipt.id, "state": dict(request.state._state)}, 202)

    return post


def wait_for(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


async def when(condition) -> None:
    """Wait for a condition that needs no await, with a deadline."""
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)


def test_a_job_sent_in_a_handler_is_run_beside_the_app(ask, jobs, written):
    client = ask(app_with(jobs, concurrency=3))
    answer = client.post("/", json={"text": "hello"})
    assert answer.status_code == 202
    wait_for(lambda: written == ["hello"])


def test_a_lifespan_of_ones_own_goes_around_the_worker(ask, jobs, written):
    steps = []

    @asynccontextmanager
    async def lifespan(app):
        steps.append("up")
        yield {"greeting": "hi"}
        steps.append("down")

    client = ask(app_with(jobs, lifespan=lifespan))
    assert client.post("/", json={"text": "a"}).json()["state"] == {"greeting": "hi"}
    wait_for(lambda: written == ["a"])
    client.__exit__(None, None, None)
    assert steps == ["up", "down"]
    client.__enter__()
    client.post("/", json={"text": "again"})
    wait_for(lambda: written == ["a", "again"])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_a_lifespan_of_ones_own_may_enter_the_worker_before_or_after_its_own_things(ask, jobs, written, first, kind):
    steps = []

    @asynccontextmanager
    async def things():
        steps.append("up")
        yield
        steps.append("down")

    @asynccontextmanager
    async def lifespan(app):
        if first:
            async with job_worker(jobs), things():
                yield {"greeting": "hi"}
        else:
            async with things(), job_worker(jobs):
                yield {"greeting": "hi"}

    client = ask(kind(routes=[Route("/", post_to(jobs), methods=["POST"])], lifespan=lifespan))
    assert client.post("/", json={"text": "a"}).json()["state"] == {"greeting": "hi"}
    wait_for(lambda: written == ["a"])
    client.__exit__(None, None, None)
    assert steps == ["up", "down"]
    client.__enter__()


def test_one_worker_serves_jobs_and_a_queue(ask, jobs, kit, written):
    messages = Queue("events", schema=Note, kit=kit)

    async def handle(note: Note) -> None:
        written.append(note.text)

    async def post(request: Request) -> JSONResponse:
        await messages.send(Note(text="message"))
        await jobs.tasks["write"].send(text="job")
        return JSONResponse({})

    before = kit.closings
    client = ask(FastAPI(routes=[Route("/", post)], lifespan=job_worker(jobs, messages.processing(handle))))
    client.get("/")
    wait_for(lambda: sorted(written) == ["job", "message"])
    client.__exit__(None, None, None)
    assert kit.closings == before + 1
    client.__enter__()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurency": 1}, "did you mean"),
        ({"concurrency": 0}, "from 1"),
        ({"enabled": "no"}, "enabled must be True, False or None, not 'no'"),
        ({"lifespan": 3}, "lifespan must be a function of the app"),
    ],
)
def test_wrong_options_are_refused_at_once(jobs, options, message):
    with pytest.raises(ConfigurationError, match=message):
        job_worker(jobs, **options)


def test_what_is_no_queue_is_refused_at_once(jobs):
    with pytest.raises(ConfigurationError, match="takes Jobs and queue.processing"):
        job_worker(jobs, "mail")  # type: ignore[arg-type]


def test_a_lifespan_that_lacks_its_decorator_is_refused_with_advice(jobs):
    async def lifespan(app):
        yield

    with pytest.raises(ConfigurationError, match="'lifespan' yields: decorate it with @asynccontextmanager"):
        job_worker(jobs, lifespan=lifespan)


def test_two_loops_may_run_the_app_at_the_same_time(ask, jobs, written):
    app = app_with(jobs)
    first, second = ask(app), ask(app)
    for client, text in ((first, "one"), (second, "two"), (first, "three")):
        client.post("/", json={"text": text})
        wait_for(lambda text=text: text in written)


@pytest.mark.anyio
async def test_a_worker_may_be_entered_again_but_not_twice_at_a_time(jobs, written):
    worker = job_worker(jobs)
    for text in ("a", "b"):
        written.clear()
        async with worker as entered:
            assert entered is worker
            assert worker.state == "running"
            with pytest.raises(ConfigurationError, match="running already"):
                await worker.__aenter__()
            await jobs.tasks["write"].send(text=text)
            await when(lambda text=text: written == [text])
        assert worker.state == "stopped"


@pytest.mark.anyio
async def test_an_error_of_the_block_comes_out_as_itself(jobs):
    worker = job_worker(jobs)
    with pytest.raises(ZeroDivisionError):
        async with worker:
            raise ZeroDivisionError
    assert worker.state == "aborted"
    async with worker:
        assert worker.state == "running"
    assert worker.state == "stopped"


@pytest.mark.anyio
async def test_a_lifespan_is_for_an_app(jobs):
    worker = job_worker(jobs, lifespan=lambda app: anyio.create_task_group())
    with pytest.raises(ConfigurationError, match="leave it out of `async with`"):
        await worker.__aenter__()


def test_one_line_at_the_start_is_seen_although_nobody_configured_logging(ask, kit, jobs, capsys):
    ask(FastAPI(lifespan=job_worker(jobs, Jobs("mail", kit=kit), concurrency=7)))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sync-kit: worker of queue 'notes' and queue 'mail' on ")
    assert f"{kit.label} (namespace {kit.namespace!r}), concurrency 7, process " in line


def test_the_line_goes_to_the_log_where_there_is_one(ask, jobs, capsys, caplog):
    caplog.set_level(logging.INFO)
    ask(FastAPI(lifespan=job_worker(jobs)))
    assert "worker of queue 'notes' on " in caplog.text
    assert capsys.readouterr().err == ""


def test_who_wants_no_line_gets_none(ask, jobs, capsys, caplog):
    caplog.set_level(logging.WARNING, "sync_kit")
    ask(FastAPI(lifespan=job_worker(jobs)))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("said", "enabled", "runs"),
    [
        *((word, None, False) for word in ("0", "false", "No", " OFF ")),
        *((word, None, True) for word in ("", "1", "true", "Yes", "on")),
        ("0", True, True),
        ("1", False, False),
    ],
)
def test_the_environment_switches_it_off_unless_the_code_decides(jobs, monkeypatch, said, enabled, runs):
    monkeypatch.setenv("SYNC_KIT_WORKER", said)
    worker = job_worker(jobs, enabled=enabled)
    assert worker.enabled is runs
    assert worker.state == ("never started" if runs else "off")


def test_an_odd_word_in_the_environment_is_refused(jobs, monkeypatch):
    monkeypatch.setenv("SYNC_KIT_WORKER", "nope")
    with pytest.raises(ConfigurationError, match="SYNC_KIT_WORKER must be one of 1, true, .*, not 'nope'"):
        job_worker(jobs)


def test_switched_off_it_says_so_and_runs_nothing_but_your_own_lifespan(ask, jobs, kit, written, capsys):
    steps = []

    @asynccontextmanager
    async def lifespan(app):
        steps.append("up")
        yield {"greeting": "hi"}
        steps.append("down")

    before = kit.closings
    client = ask(app_with(jobs, lifespan=lifespan, enabled=False))
    assert "worker of queue 'notes' is switched off by enabled=False" in capsys.readouterr().err
    assert client.post("/", json={"text": "a"}).json()["state"] == {"greeting": "hi"}
    client.__exit__(None, None, None)
    assert steps == ["up", "down"]
    assert kit.closings == before + 1
    assert jobs.blocking.counts().waiting == 1
    client.__enter__()


def slow_task(jobs):
    """A task that says that it has begun, and ends when it is let go."""
    begun, go = threading.Event(), threading.Event()

    @jobs.task(schema=Note)
    async def slow(note: Note) -> None:
        begun.set()
        await anyio.to_thread.run_sync(go.wait)

    return slow, begun, go


@pytest.mark.anyio
async def test_a_quiet_worker_lets_what_runs_end_and_takes_nothing_more(jobs, written):
    slow, begun, go = slow_task(jobs)
    worker = job_worker(jobs)
    async with worker:
        running = await slow.send(text="a")
        await anyio.to_thread.run_sync(begun.wait)
        worker.quiet()
        await when(lambda: worker.state == "quiet")
        await jobs.tasks["write"].send(text="late")
        go.set()
        await until(lambda: _completed(jobs, running.id))
    assert written == []
    assert (await jobs.counts()).waiting == 1
    async with worker:
        await when(lambda: written == ["late"])


async def _completed(jobs, job_id):
    return (await jobs.get(job_id)).status == "completed"


def heard_before(answers):
    """A handler that was there before, as `signal.signal` takes it."""
    return lambda number, frame: answers.append(number)


@pytest.fixture
def signals():
    """SIGTERM is handled as before afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.anyio
async def test_quiet_on_sigterm_goes_before_the_handler_that_was_there_which_is_put_back(jobs, written, signals):
    answers: list[int] = []
    signal.signal(signal.SIGTERM, before := heard_before(answers))
    worker = job_worker(jobs, quiet_on_sigterm=True)
    async with worker:
        signal.raise_signal(signal.SIGTERM)
        await when(lambda: worker.state == "drained")
        await jobs.tasks["write"].send(text="late")
    assert answers == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before
    assert written == []


@pytest.mark.anyio
async def test_without_it_no_signal_handler_is_touched(jobs, signals):
    signal.signal(signal.SIGTERM, before := heard_before([]))
    async with job_worker(jobs):
        assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.anyio
async def test_a_handler_that_somebody_else_put_there_meanwhile_stays(jobs, signals):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker, answers = job_worker(jobs, quiet_on_sigterm=True), []
    async with worker:
        ours = signal.getsignal(signal.SIGTERM)
        assert callable(ours)

        def theirs(number, frame):
            answers.append(number)
            ours(number, frame)

        signal.signal(signal.SIGTERM, theirs)
        signal.raise_signal(signal.SIGTERM)
        await when(lambda: worker.state == "drained")
    assert signal.getsignal(signal.SIGTERM) is theirs
    signal.raise_signal(signal.SIGTERM)  # ours is still in the chain, and only passes it on
    assert answers == [signal.SIGTERM] * 2


@pytest.mark.anyio
@pytest.mark.parametrize("outer_ends_first", [True, False])
async def test_several_workers_hear_one_signal(kit, signals, outer_ends_first):
    answers: list[int] = []
    signal.signal(signal.SIGTERM, before := heard_before(answers))
    workers = [job_worker(Jobs(name, kit=kit), quiet_on_sigterm=True) for name in ("mail", "notes")]
    leave = [anyio.Event(), anyio.Event()]

    async def live(number, task_status):
        async with workers[number]:
            task_status.started()
            await leave[number].wait()

    async with anyio.create_task_group() as group:
        await group.start(_live(live, 0))
        await group.start(_live(live, 1))
        signal.raise_signal(signal.SIGTERM)
        await when(lambda: [worker.state for worker in workers] == ["drained"] * 2)
        first = 0 if outer_ends_first else 1
        leave[first].set()
        await when(lambda: workers[first].state == "stopped")
        leave[1 - first].set()
    assert answers == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


def _live(live, number):
    async def started(*, task_status):
        await live(number, task_status)

    return started


@pytest.mark.anyio
@on_asyncio
async def test_a_handler_of_the_event_loop_hears_it_too_and_once(jobs, signals):
    answers: list[str] = []
    worker = job_worker(jobs, quiet_on_sigterm=True)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, answers.append, "loop")
    async with worker:
        signal.raise_signal(signal.SIGTERM)
        await when(lambda: worker.state == "drained" and answers)
    assert answers == ["loop"]
    signal.raise_signal(signal.SIGTERM)
    await when(lambda: answers == ["loop", "loop"])
    loop.remove_signal_handler(signal.SIGTERM)


def test_a_process_that_would_have_died_of_the_signal_still_does():
    code = """
import os, signal, anyio
from sync_kit import Jobs, SyncKit
from sync_kit_starlette import job_worker

async def main():
    async with job_worker(Jobs("notes", kit=SyncKit("redis://127.0.0.1:1")), quiet_on_sigterm=True):
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(30)

anyio.run(main)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.returncode == -signal.SIGTERM, ended.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task does not say that its loop cancelled it")
def test_an_event_loop_that_ends_in_the_middle_hands_jobs_back(make_kit):
    kit = make_kit()
    jobs = Jobs("notes", kit=kit)
    begun = threading.Event()

    @jobs.task(schema=Note)
    async def write(note: Note) -> None:
        begun.set()
        await anyio.sleep(60)

    async def serve():
        async with job_worker(jobs):
            await anyio.sleep(60)

    async def main():
        receipt = await write.send(text="a")
        background = asyncio.ensure_future(serve())
        await when(begun.is_set)
        return receipt.id, background  # asyncio.run cancels all tasks now

    job_id, _ = asyncio.run(main())
    job = jobs.blocking.get(job_id)
    kit.close()
    assert job is not None
    assert (job.status, job.attempts, job.crashes) == ("waiting", 0, 0)


def test_on_a_thread_that_hears_no_signals_it_says_so_and_runs(ask, jobs, written, caplog):
    client = ask(app_with(jobs, quiet_on_sigterm=True))
    assert "quiet_on_sigterm does nothing here" in caplog.text
    client.post("/", json={"text": "a"})
    wait_for(lambda: written == ["a"])


def test_a_worker_that_crashes_is_logged_and_started_again_and_the_app_goes_on(ask, jobs, written, breaks, caplog):
    steps = []

    @asynccontextmanager
    async def lifespan(app):
        steps.append("up")
        yield {}
        steps.append("down")

    worker = job_worker(jobs, lifespan=lifespan)
    client = ask(Starlette(routes=[Route("/", post_to(jobs), methods=["POST"])], lifespan=worker))
    client.post("/", json={"text": "a"})
    wait_for(lambda: "the worker of queue 'notes' has crashed: it is started again in 1 s" in caplog.text)
    assert worker.state == "crashed"
    assert client.post("/", json={"text": "b"}).status_code == 202
    assert steps == ["up"]
    assert "LookupError: an internal error" in caplog.text
    breaks()
    wait_for(lambda: sorted(written) == ["a", "b"])
    assert worker.state == "running"
    client.__exit__(None, None, None)
    assert steps == ["up", "down"]
    client.__enter__()


@pytest.mark.anyio
async def test_the_pause_after_a_crash_grows_and_ends_with_the_lifespan(jobs, breaks, caplog, monkeypatch):
    worker = job_worker(jobs)
    with anyio.fail_after(20):
        async with worker:
            await jobs.tasks["write"].send(text="a")
            await when(lambda: "started again in 1 s" in caplog.text)
            monkeypatch.setattr("sync_kit.queue.beside.FIRST_PAUSE", 15.0)
            await when(lambda: "started again in 30 s" in caplog.text)
    assert worker.state == "stopped"


@pytest.mark.anyio
async def test_a_worker_that_was_told_to_be_quiet_in_that_pause_is_quiet_after_it(jobs, written, breaks, caplog):
    worker = job_worker(jobs, drain_timeout=0)
    async with worker:
        await jobs.tasks["write"].send(text="a")
        await when(lambda: "started again in 1 s" in caplog.text)
        breaks()
        worker.quiet()
        await when(lambda: worker.state == "quiet")
    assert written == []


def test_a_worker_whose_lifespan_never_came_is_found(jobs, unheard, caplog):
    inner = Starlette(lifespan=job_worker(jobs))
    with TestClient(Starlette(routes=[Mount("/inner", inner)])):
        said = never_started()
        assert said is not None
        assert said.startswith("the worker of queue 'notes' never started, as no lifespan came to it: let the server")
        for _ in range(2):
            warn_if_never_started()
        assert caplog.text.count("never started") == 1
    with TestClient(inner):
        assert never_started() is None
    assert never_started() is None


def test_nothing_is_missing_where_workers_are_off_or_there_are_none(jobs, unheard, caplog):
    assert never_started() is None
    worker = job_worker(jobs, enabled=False)
    assert never_started() is None
    warn_if_never_started()
    assert caplog.text == ""
    assert repr(worker) == "<JobWorker of queue 'notes', off>"
    assert isinstance(worker, JobWorker)
