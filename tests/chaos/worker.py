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
    workers: int = 1
    concurrency: int = 4
    poll_interval: float = 0.1
    drain_timeout: float = 5.0


def set_lease(seconds: float) -> None:
    """Let leases be as long as that, wherever a module has read the constant already."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("sync_kit.queue", "sync_kit.jobs")) and "LEASE" in vars(module):
            vars(module)["LEASE"] = seconds


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
    set_lease(read.lease)
    asyncio.run(main(read))
