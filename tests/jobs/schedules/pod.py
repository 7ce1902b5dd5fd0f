"""A worker process with two schedules, until it is ended: python pod.py URL NAMESPACE."""

from __future__ import annotations

import asyncio
import sys

from sync_kit import Jobs, SyncKit


async def main(url: str, namespace: str) -> None:
    async with SyncKit(url, namespace=namespace) as kit:
        jobs = Jobs("notes", kit=kit)

        @jobs.cron("* * * * * *", tz="Europe/Berlin")
        async def tick() -> None: ...

        @jobs.every(0.2, missed="all", overlap=True)  # a loaded machine costs no slot
        def beat() -> None: ...

        await jobs.run(handle_signals=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
