"""A worker process that runs until SIGTERM: python worker.py SETTINGS (JSON, see `Settings`)."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sync_kit import SyncKit
from tests.chaos.chores import chores
from tests.chaos.ledger import Ledger


@dataclass(frozen=True)
class Settings:
    """What a worker process is told. It is `workers` workers, each with `concurrency` slots."""

    url: str
    namespace: str
    ledger: str
    lease: float = 30.0
    max_crashes: int = 3
    workers: int = 1
    concurrency: int = 4
    poll_interval: float = 0.1
    drain_timeout: float = 5.0


def change(name: str, value: float) -> None:
    """Change a constant of the engine, wherever a module has read it already."""
    for title, module in list(sys.modules.items()):
        if title.startswith(("sync_kit.queue", "sync_kit.jobs")) and name in vars(module):
            vars(module)[name] = value


async def main(settings: Settings) -> None:
    with Ledger(settings.ledger) as ledger:
        ledger.watch(settings.lease / 4)
        async with SyncKit(settings.url, namespace=settings.namespace) as kit, AsyncExitStack() as others:
            jobs, _ = chores(kit, ledger)
            slots, poll, drain = settings.concurrency, settings.poll_interval, settings.drain_timeout
            for _ in range(settings.workers - 1):
                await others.enter_async_context(
                    jobs.worker(concurrency=slots, poll_interval=poll, drain_timeout=drain)
                )
            await jobs.run(concurrency=slots, poll_interval=poll, drain_timeout=drain, handle_signals=True)


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    read = Settings(**json.loads(sys.argv[1]))
    change("LEASE", read.lease)
    change("MAX_CRASHES", read.max_crashes)
    asyncio.run(main(read))
