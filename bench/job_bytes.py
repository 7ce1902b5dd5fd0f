"""Bytes of a waiting and of a completed job with 100 bytes of payload, keys of the queue included. Needs BENCH_REDIS_PORT."""
from __future__ import annotations

import asyncio
import dataclasses

from common import URL, Admin

N = 2000


async def main() -> None:
    from sync_kit import Jobs, SyncKit

    @dataclasses.dataclass
    class Payload:
        arg: str

    kit = SyncKit(URL)
    jobs = Jobs("bytes", kit=kit)

    @jobs.task(schema=Payload, name="noop")
    async def noop(payload):
        pass

    adm = Admin()
    adm.flush()
    await noop.send_many([Payload("x" * 89)] * N)
    print(f"waiting: {adm.keys_memory() / N:.0f} bytes a job")
    async with jobs.worker(concurrency=100):
        while (await jobs.counts()).completed < N:
            await asyncio.sleep(0.05)
    print(f"completed: {adm.keys_memory() / N:.0f} bytes a job")
    await kit.aclose()


asyncio.run(main())
