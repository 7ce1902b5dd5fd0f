"""A worker as a process of its own: it runs until it is told to end."""

from __future__ import annotations

import logging
import signal
from functools import partial
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sync_kit.queue.worker import Worker

log = logging.getLogger("sync_kit")

ENDS = (signal.SIGINT, signal.SIGTERM)


async def run_worker(
    worker: Worker, *, handle_signals: bool, until: Callable[[], Awaitable[None]] = anyio.sleep_forever
) -> None:
    """Be a worker until cancelled, until `until()` returns, or until SIGINT or SIGTERM where these are handled.

    The first signal drains (or finds it draining), a second one hands back what still runs, a third one has the system
    end the process.
    """
    if not handle_signals:
        async with worker:
            await until()
        return
    told, draining = anyio.Event(), anyio.CancelScope()
    with anyio.open_signal_receiver(*ENDS) as signals, draining:
        async with worker:
            worker.begin(partial(_obey, signals, told, draining))
            await first(told.wait, until)


async def first(*works: Callable[[], Awaitable[None]]) -> None:
    """Wait for the one that ends first; the others are cancelled."""
    async with anyio.create_task_group() as group:

        async def end(work: Callable[[], Awaitable[None]]) -> None:
            await work()
            group.cancel_scope.cancel()

        for work in works:
            group.start_soon(end, work)


async def _obey(signals: AsyncIterator[signal.Signals], told: anyio.Event, draining: anyio.CancelScope) -> None:
    """Do what signals say. After the second one they do what they do to any program."""
    async for number in signals:
        if told.is_set():
            log.warning("signal %s again: what still runs is handed back", number.name)
            for each in ENDS:
                signal.signal(each, signal.SIG_DFL)  # a plain function on a thread could be waited for without end
            draining.cancel()
            return
        log.info("signal %s: draining", number.name)
        told.set()
