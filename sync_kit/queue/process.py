"""A worker as a process of its own: it runs until it is told to end."""

from __future__ import annotations

import logging
import signal
from functools import partial
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sync_kit.queue.worker import Worker

log = logging.getLogger("sync_kit")

ENDS = (signal.SIGINT, signal.SIGTERM)


async def run_worker(worker: Worker, *, handle_signals: bool) -> None:
    """Be a worker until cancelled, or until SIGINT or SIGTERM where these are handled.

    The first signal drains, a second one hands back what still runs, a third one has the system end the process.
    """
    if not handle_signals:
        async with worker:
            await anyio.sleep_forever()
        return
    with anyio.open_signal_receiver(*ENDS) as signals, anyio.CancelScope() as draining:
        async with worker:
            async for number in signals:
                log.info("signal %s: draining", signal.Signals(number).name)
                break
            worker.begin(partial(_hurry, signals, draining))


async def _hurry(signals: AsyncIterator[signal.Signals], draining: anyio.CancelScope) -> None:
    """While a worker drains: a signal ends that, and from then on signals do what they do to any program."""
    async for number in signals:
        log.warning("signal %s again: what still runs is handed back", signal.Signals(number).name)
        for each in ENDS:
            signal.signal(each, signal.SIG_DFL)  # a plain function on a thread could be waited for without end
        draining.cancel()
        return
