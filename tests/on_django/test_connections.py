"""What a job does to database connections ends with it."""

from __future__ import annotations

import inspect
import threading
import time
from functools import partial
from typing import Any, ClassVar

import anyio
import pytest
from anyio import to_thread
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection, transaction
from django.test.utils import override_settings
from django.utils import timezone, translation

import sync_kit
from sync_kit.jobs import Job
from sync_kit.queue.run import is_async
from sync_kit.testing import drain, inline
from sync_kit_django import _handlers
from sync_kit_django._handlers import clean, clean_middleware
from tests.on_django.databases import ask, default_database, on_postgres
from tests.on_django.shop.models import Order
from tests.support.postgres import Postgres, PostgresNotFoundError

pytestmark = pytest.mark.anyio

OURS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
CUT = OURS.replace("SELECT pid", "SELECT pg_terminate_backend(pid)")


@pytest.fixture(scope="session")
def postgres():
    try:
        started = Postgres()
    except PostgresNotFoundError as error:
        pytest.skip(str(error))
    with started:
        yield started


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tables):
    """The test runs on both, with connections that are kept as long as Django allows it."""
    if request.param == "sqlite":
        with default_database(CONN_MAX_AGE=None):
            yield "sqlite"
        return
    with on_postgres(request.getfixturevalue("postgres"), CONN_MAX_AGE=None):
        yield "postgres"


@pytest.fixture
def on_server(postgres, tables):
    """The default database is PostgreSQL, with connections that are kept."""
    with on_postgres(postgres, CONN_MAX_AGE=None):
        yield


@pytest.fixture
def jobs(kit) -> sync_kit.Jobs:
    return sync_kit.Jobs("orders", kit=kit)


async def ended(jobs, receipt) -> Job:
    """Wait until a job has ended."""
    with anyio.fail_after(30):
        while (job := await jobs.get(receipt.id)) is None or job.completed_at is None:
            await anyio.sleep(0.02)
    return job  # type: ignore[no-any-return]


async def asked(question: str) -> list[object]:
    return await to_thread.run_sync(ask, question)


async def all_closed() -> None:
    """Wait until there is no connection to PostgreSQL: its processes end a moment after their connection has."""
    with anyio.fail_after(5):
        while await asked(OURS):
            await anyio.sleep(0.01)


async def work_off(jobs, sent, *, concurrency=4) -> list[str]:
    """Run jobs on a worker; their errors, empty where they ended well."""
    async with jobs.worker(concurrency=concurrency, poll_interval=0.05):
        return [(await ended(jobs, each)).error or "" for each in sent]


async def test_a_transaction_that_a_job_left_open_is_rolled_back_and_not_met_by_the_next(jobs, database, caplog):
    seen = []

    @jobs.task(schema=str)
    @clean
    def leave(how: str) -> None:
        seen.append((threading.get_ident(), connection.in_atomic_block, Order.objects.count()))
        if how == "atomic":
            transaction.atomic().__enter__()
        else:
            transaction.set_autocommit(False)
        Order.objects.create(number="left")

    sent = [await leave.send(how) for how in ("atomic", "autocommit") * 2]
    assert await work_off(jobs, sent, concurrency=1) == [""] * 4
    assert [after for _, *after in seen] == [[False, 0]] * 4
    assert len({thread for thread, *_ in seen}) == 1
    assert caplog.text.count("has left a transaction open in database 'default'") == 4


async def test_a_connection_that_is_closed_inside_of_a_transaction_does_not_spoil_its_thread(jobs, database):
    @jobs.task(schema=int)
    @clean
    def close(number: int) -> None:
        Order.objects.create(number=str(number))
        transaction.atomic().__enter__()
        connection.close()

    sent = [await close.send(number) for number in range(2)]
    assert await work_off(jobs, sent, concurrency=1) == [""] * 2
    assert await asked("SELECT count(*) FROM shop_order") == [2]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_connections_that_are_cut_between_jobs_fail_no_job(jobs, on_server, kind):
    def count() -> int:
        with transaction.atomic():
            return Order.objects.count()

    @jobs.task(schema=int, name="plain")
    @clean
    def plain(number: int) -> None:
        count()

    @jobs.task(schema=int, name="async")
    @clean
    async def asynchronous(number: int) -> None:
        await sync_to_async(count)()
        await Order.objects.acount()

    async with jobs.worker(concurrency=1, poll_interval=0.05):
        for _ in range(3):
            assert (await ended(jobs, await jobs.named(kind).send(1))).error is None
            cut = await asked(CUT)
            assert len(cut) == (1 if kind == "plain" else 0)


async def test_concurrent_async_jobs_share_neither_connection_nor_transaction(jobs, on_server):
    most, seen = 6, []

    def step(number: int) -> tuple[int, int]:
        with transaction.atomic():
            Order.objects.create(number=str(number))
            time.sleep(0.02)
            mine = Order.objects.count()
            transaction.set_rollback(number % 2 == 1)
        return mine, connection.connection.info.backend_pid

    @jobs.task(schema=int)
    @clean
    async def pay(number: int) -> None:
        for _ in range(2):
            seen.append((threading.active_count(), *await sync_to_async(step)(number)))
            assert not await sync_to_async(lambda: connection.in_atomic_block)()

    threads, sent = threading.active_count(), await pay.send_many(range(20))
    used = []
    async with jobs.worker(concurrency=most, poll_interval=0.05), anyio.create_task_group() as group:
        group.start_soon(partial(watch, used, lambda: len(seen) == 40))
        assert [(await ended(jobs, each)).error for each in sent] == [None] * 20
    assert 1 < max(used) <= 2 * most, "a process of PostgreSQL ends a moment after its connection"
    assert max(count for count, *_ in seen) <= threads + most + 2, "the worker renews leases on a thread"
    assert len({backend for *_, backend in seen}) == 20, "each job has a connection of its own"
    await all_closed()
    assert await asked("SELECT count(*) FROM shop_order") == [20], "two of each even one, none of the odd ones"


async def watch(used, is_done) -> None:
    while not is_done():
        used.append(len(await asked(OURS)))


async def test_twenty_concurrent_async_jobs_in_transactions_work_on_sqlite(jobs, database):
    def step(number: int) -> None:
        with transaction.atomic():
            Order.objects.create(number=str(number))
            transaction.set_rollback(number % 2 == 1)

    @jobs.task(schema=int)
    @clean
    async def pay(number: int) -> None:
        await sync_to_async(step)(number)

    sent = await pay.send_many(range(20))
    assert await work_off(jobs, sent, concurrency=20) == [""] * 20
    assert await asked("SELECT count(*) FROM shop_order") == [10]


@pytest.mark.parametrize("how", ["timeout", "cancel", "error"])
async def test_the_connections_of_an_async_job_are_closed_however_it_ends(jobs, on_server, how):
    inside = anyio.Event()

    def hold() -> None:
        with transaction.atomic():
            Order.objects.create(number="held")
            time.sleep(0.3)

    @jobs.task(schema=int, timeout=0.2 if how == "timeout" else 20)
    @clean
    async def pay(number: int) -> None:
        await sync_to_async(transaction.atomic().__enter__)()
        await sync_to_async(Order.objects.create)(number="never")
        inside.set()
        if how == "error":
            raise ValueError
        await sync_to_async(hold)()
        await anyio.sleep_forever()

    async with jobs.worker(concurrency=1, poll_interval=0.05):
        sent = await pay.send(1)
        await inside.wait()
        if how == "cancel":
            await jobs.cancel(sent.id)
        job = await ended(jobs, sent)
        assert job.status == ("cancelled" if how == "cancel" else "failed")
        await all_closed()
    assert await asked("SELECT number FROM shop_order WHERE number = 'never'") == []


async def test_a_thread_that_does_not_end_is_left_behind_and_said(jobs, tables, monkeypatch, caplog):
    monkeypatch.setattr(_handlers, "PATIENCE", 0.2)
    goes_on, may_end = threading.Event(), threading.Event()

    @jobs.task(schema=int, timeout=0.1)
    @clean
    async def hang(number: int) -> None:
        await sync_to_async(partial(wait, goes_on, may_end))()

    try:
        [error] = await work_off(jobs, [await hang.send(1)])
        assert goes_on.is_set()
        assert "TimeoutError" in error
        assert "goes on 0.2 s after its end: until then it keeps its connections" in caplog.text
    finally:
        may_end.set()


def wait(goes_on: threading.Event, may_end: threading.Event) -> None:
    goes_on.set()
    may_end.wait(20)


async def test_an_async_job_that_uses_no_database_has_no_thread(jobs, tables):
    threads = []

    @jobs.task(schema=int)
    @clean
    async def nothing(number: int) -> None:
        threads.append({thread.name for thread in threading.enumerate()})

    assert await work_off(jobs, [await nothing.send(1)]) == [""]
    assert not any("ThreadPoolExecutor" in name for name in threads[0] - {t.name for t in threading.enumerate()})


async def test_an_async_function_in_a_plain_one_has_a_thread_of_its_own_too(jobs, database):
    seen = []

    async def inner() -> None:
        seen.append(await sync_to_async(threading.current_thread)())
        await Order.objects.acreate(number="1")

    @jobs.task(schema=int)
    @clean
    def outer(number: int) -> object:
        return inner()

    sent = [await outer.send(1), await outer.send(2)]
    assert await work_off(jobs, sent) == ["", ""]
    assert len({*seen}) == 2


async def test_a_worker_inside_of_async_to_sync_gives_each_job_a_thread_all_the_same(jobs, tables):
    threads = set()

    @jobs.task(schema=int, timeout=10)
    @clean
    async def note(number: int) -> None:
        threads.add(await sync_to_async(threading.get_ident)())
        while len(threads) < 3:  # all are there at the same time: a thread that has ended may lend its number
            await anyio.sleep(0.01)

    async def main() -> None:
        sent = await note.send_many([1, 2, 3])
        assert await work_off(jobs, sent) == [""] * 3

    await to_thread.run_sync(async_to_sync(main))
    assert len(threads) == 3


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_language_and_time_zone_of_a_job_are_not_seen_by_the_next(jobs, tables, kind):
    seen = []

    def change() -> None:
        seen.append((translation.get_language(), timezone.get_current_timezone_name()))
        translation.activate("de")
        timezone.activate("Asia/Tokyo")

    @jobs.task(schema=int, name="plain")
    @clean
    def plain(number: int) -> None:
        change()

    @jobs.task(schema=int, name="async")
    @clean
    async def asynchronous(number: int) -> None:
        change()
        await sync_to_async(change)()

    sent = [await jobs.named(kind).send(number) for number in range(3)]
    assert await work_off(jobs, sent, concurrency=1) == [""] * 3
    default = (translation.get_language(), timezone.get_current_timezone_name())
    assert seen == ([default] * 3 if kind == "plain" else [default, ("de", "Asia/Tokyo")] * 3)


class CountedCache(LocMemCache):
    """Stands for one that has connections."""

    made: ClassVar[list[CountedCache]] = []
    closed = 0

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.made.append(self)
        self.users = 0

    def close(self, **kwargs) -> None:
        type(self).closed += 1


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_caches_are_shared_by_no_two_jobs_closed_after_each_and_used_by_the_next(jobs, tables, kind, monkeypatch):
    monkeypatch.setattr(CountedCache, "made", [])
    monkeypatch.setattr(CountedCache, "closed", 0)
    most = []

    @jobs.task(schema=int, name="plain")
    @clean
    def plain(number: int) -> None:
        mine: Any = caches["default"]
        mine.users += 1
        most.append(mine.users)
        time.sleep(0.01)
        mine.users -= 1

    @jobs.task(schema=int, name="async")
    @clean
    async def asynchronous(number: int) -> None:
        await sync_to_async(plain)(number)

    with override_settings(CACHES={"default": {"BACKEND": f"{__name__}.CountedCache"}}):
        sent = await jobs.named(kind).send_many(range(20))
        of_who_starts_the_worker: Any = caches["default"]
        of_who_starts_the_worker.users = 7
        assert await work_off(jobs, sent, concurrency=3) == [""] * 20
        assert len(CountedCache.made) <= 4
        assert {*most} == {1}
        assert CountedCache.closed == 20
    with override_settings(CACHES={"default": {"BACKEND": f"{__name__}.CountedCache", "TIMEOUT": 7}}):
        assert await work_off(jobs, [await jobs.named(kind).send(1)]) == [""]
        assert CountedCache.made[-1].default_timeout == 7


async def test_a_cache_that_cannot_be_closed_fails_no_job(jobs, tables, monkeypatch, caplog):
    @jobs.task(schema=int)
    @clean
    def look(number: int) -> None:
        caches["default"].get("a")

    monkeypatch.setattr(CountedCache, "made", [])
    monkeypatch.setattr(CountedCache, "close", lambda self: 1 / 0)
    with override_settings(CACHES={"default": {"BACKEND": f"{__name__}.CountedCache"}}):
        assert await work_off(jobs, [await look.send(1), await look.send(2)], concurrency=1) == [""] * 2
    assert len(CountedCache.made) == 2
    assert caplog.text.count("the caches of a job cannot be closed") == 2


def test_a_handler_that_is_called_directly_or_inline_uses_the_connection_of_its_caller(kit, tables):
    jobs = sync_kit.Jobs("orders", kit=kit)

    @jobs.task(schema=str)
    @clean
    def create(number: str) -> None:
        assert connection.in_atomic_block
        Order.objects.create(number=number)

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        create("direct")
        with inline():
            create.blocking.send("inline")
        assert Order.objects.count() == 2
        raise ZeroDivisionError
    assert Order.objects.count() == 0


async def test_a_handler_that_another_one_calls_belongs_to_its_transaction(jobs, database):
    @jobs.task(schema=str)
    @clean
    def inner(number: str) -> None:
        Order.objects.create(number=number)

    @jobs.task(schema=str)
    @clean
    def outer(number: str) -> None:
        with transaction.atomic():
            inner(number)
            transaction.set_rollback(True)

    assert await work_off(jobs, [await outer.send("1")]) == [""]
    assert await asked("SELECT count(*) FROM shop_order") == [0]


async def test_a_middleware_shares_the_thread_of_an_async_handler_and_leaves_none_behind(jobs, on_server):
    threads = []

    @jobs.middleware
    @clean_middleware
    async def outer(job, call_next) -> None:
        threads.append(await sync_to_async(threading.current_thread)())
        await Order.objects.acreate(number="outer")
        await call_next()

    @jobs.task(schema=int)
    @clean
    async def pay(number: int) -> None:
        threads.append(await sync_to_async(threading.current_thread)())
        await Order.objects.acreate(number="inner")

    @jobs.task(schema=int)
    @clean
    def plain(number: int) -> None:
        transaction.set_autocommit(False)
        Order.objects.create(number="never")

    sent = [await pay.send(1), await pay.send(2), await plain.send(3)]
    assert await work_off(jobs, sent, concurrency=1) == [""] * 3
    assert threads[0] is threads[1] is not threads[2] is threads[3]
    assert await asked("SELECT count(*) FROM shop_order") == [5]
    await all_closed()


async def test_a_drain_in_a_test_leaves_no_connection_behind(jobs, on_server):
    @jobs.task(schema=str)
    @clean
    def create(number: str) -> None:
        Order.objects.create(number=number)

    await create.send_many(["1", "2"])
    assert (await drain(jobs)).completed == 2
    await all_closed()


def test_a_clean_handler_looks_like_the_one_that_it_wraps():
    async def pay(order: int, job: Job) -> str:
        """Pay it."""
        return ""

    def plain(order: int) -> None: ...

    for handler in (pay, plain):
        cleaned = clean(handler)
        assert inspect.signature(cleaned) == inspect.signature(handler)
        assert is_async(cleaned) == is_async(handler)
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            assert getattr(cleaned, name) == getattr(handler, name)
        assert vars(cleaned)["__wrapped__"] is handler
    nameless = clean(partial(pay, 7))
    assert not hasattr(nameless, "__name__"), "so it is asked for a name"
    assert is_async(nameless)
    assert [*inspect.signature(nameless).parameters] == ["job"]
