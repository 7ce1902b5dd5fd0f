"""What handlers do to database connections ends with their job: no other job meets a connection or a transaction of it.

On a worker alone: a handler that is called directly, or run inline in a test, uses the connections of its caller.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.db import connections, reset_queries

from sync_kit.jobs import outlet
from sync_kit.jobs.current import running_job
from sync_kit.queue.run import is_async
from sync_kit_django._caches import own_caches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor

    from django.db.backends.base.base import BaseDatabaseWrapper

    from sync_kit.jobs import Job
    from sync_kit.jobs.run import JobRun

T = TypeVar("T")

log = logging.getLogger("sync_kit")

PATIENCE = 30.0
"""Seconds that a thread of an async job has to end after the job; what is left then keeps its connections."""

_owner: ContextVar[JobRun | None] = ContextVar("sync_kit_django_owner", default=None)
"""The run whose handler is inside of `clean`: what it calls belongs to it."""
_has_thread: ContextVar[JobRun | None] = ContextVar("sync_kit_django_thread", default=None)
"""The run for which there is a thread of its own already."""


def clean(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, of the same kind and name, whose database connections are its own while it runs as a job.

    For handlers and for hooks. A plain function leaves the connection of its thread to the next one, if `CONN_MAX_AGE`
    allows it and no transaction is open. An async one that uses the database has a thread and connections of its own.
    """
    cleaned = _cleaned_async(handler) if is_async(handler) else _cleaned(handler)
    return cleaned if hasattr(handler, "__name__") else functools.partial(cleaned)  # the core asks for the name


def _cleaned(handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handler)
    def cleaned(*args: Any, **kwargs: Any) -> Any:
        run = _run_to_clean()
        if run is None:
            return handler(*args, **kwargs)
        with _owned_by(run), _tidied():
            made = handler(*args, **kwargs)
        return _with_own_thread(run, made) if inspect.isawaitable(made) else made

    return cleaned


def _cleaned_async(handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handler)
    async def cleaned(*args: Any, **kwargs: Any) -> Any:
        run, made = _run_to_clean(), handler(*args, **kwargs)
        return await (made if run is None else _with_own_thread(run, made))

    return cleaned


def clean_middleware(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a middleware. It shares thread and connections with an async handler, and not with a plain one."""

    @functools.wraps(function)
    async def cleaned(job: Job, call_next: Callable[[], Awaitable[Any]]) -> Any:
        run = _run_to_clean()
        if run is None:
            return await function(job, call_next)
        async with _own_thread(run):
            return await function(job, call_next)

    return cleaned


def _run_to_clean() -> JobRun | None:
    """The run that begins here on a worker; None anywhere else, also inside of a handler that is clean already."""
    run = running_job.get(None)
    return None if outlet.current is not None or run is _owner.get() else run


@contextmanager
def _owned_by(run: JobRun) -> Iterator[None]:
    token = _owner.set(run)
    try:
        yield
    finally:
        _owner.reset(token)


@contextmanager
def _tidied() -> Iterator[None]:
    tidy(anew=True)
    try:
        with own_caches():
            yield
    finally:
        tidy()


async def _with_own_thread(run: JobRun, work: Awaitable[Any]) -> Any:
    with _owned_by(run):
        async with _own_thread(run):
            return await work


@asynccontextmanager
async def _own_thread(run: JobRun) -> AsyncIterator[None]:
    """`sync_to_async`, and with it the ORM, uses a thread of this job's own; it is made when it is first used."""
    if _has_thread.get() is run:
        yield
        return
    with suppress(AttributeError):  # who started the worker in `async_to_sync` would have all jobs use one thread
        del AsyncToSync.executors.current
    context = ThreadSensitiveContext()
    token, mark = SyncToAsync.thread_sensitive_context.set(context), _has_thread.set(run)
    try:
        with own_caches():
            yield
    finally:
        executor = SyncToAsync.context_to_thread_executor.pop(context, None)
        SyncToAsync.thread_sensitive_context.reset(token)
        _has_thread.reset(mark)
        if executor is not None:
            await _end(executor, run)


async def _end(executor: Executor, run: JobRun) -> None:
    """Close the connections of a thread behind what it does; also of one that was cancelled, as that goes on."""
    closed = asyncio.wrap_future(executor.submit(_close_all))
    executor.shutdown(wait=False)
    with anyio.move_on_after(PATIENCE, shield=True):
        await asyncio.shield(closed)
        return
    log.error("the thread of %r goes on %g s after its end: until then it keeps its connections", run, PATIENCE)


def tidy(*, anew: bool = False) -> None:
    """Leave no connection of this thread in a transaction, and none that is broken or too old.

    With `anew`, those that stay are looked at by Django when they are used next: the database may have cut them.
    """
    reset_queries()
    opened: Sequence[Any] = connections.all(initialized_only=True)
    for connection in opened:
        try:
            if not _left_open(connection):
                connection.close_if_unusable_or_obsolete()
        except Exception:
            log.exception("the connection to database %r cannot be cleaned up: it is given up", connection.alias)
            _give_up(connection)
        connection.health_check_enabled = connection.health_check_enabled or anew
    _remember(connection for connection in opened if connection.connection is not None)


class _Kept:
    """Goes with its thread, and closes what that has kept: Django's objects would wait for the garbage collector."""

    def __init__(self) -> None:
        self.connections: list[BaseDatabaseWrapper] = []

    def __del__(self) -> None:
        for connection in self.connections:
            with suppress(Exception):
                connection.inc_thread_sharing()
                connection.close()


_here = threading.local()


def _remember(connections: Iterable[BaseDatabaseWrapper]) -> None:
    if not hasattr(_here, "kept"):
        _here.kept = _Kept()
    _here.kept.connections[:] = connections


def with_own_connections(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a thread that ends with it, and leave no connection of that thread open."""
    try:
        return function(*arguments)
    finally:
        _close_all()


def _close_all() -> None:
    tidy()
    for connection in connections.all(initialized_only=True):
        _give_up(connection)


def _left_open(connection: BaseDatabaseWrapper) -> bool:
    """Whether a handler has left a transaction open. Then that is rolled back, with the connection."""
    is_inside = connection.in_atomic_block
    if not is_inside and (connection.connection is None or connection.get_autocommit()):
        return False
    if is_inside or connection.settings_dict["AUTOCOMMIT"]:
        log.warning("a job has left a transaction open in database %r: it is rolled back", connection.alias)
    _give_up(connection)
    return True


def _give_up(connection: BaseDatabaseWrapper) -> None:
    """Close a connection whatever state it is in; the thread makes another one when it needs one."""
    connection.in_atomic_block = False  # nobody is left who could leave that block
    del connections[connection.alias]
    with suppress(Exception):
        connection.close()
