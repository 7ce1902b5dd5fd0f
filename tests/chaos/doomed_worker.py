"""A worker process that dies by SIGKILL just before or just after its N-th call to Redis.

python doomed_worker.py URL NAMESPACE CALL before|after
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from sync_kit import Jobs, SyncKit
from sync_kit._io.aio import AsyncioDriver
from sync_kit._io.flow import Eval
from tests.jobs.conftest import Note


def doom(call: int, when: str) -> None:
    """Let the N-th script call of this process be its last."""
    original, made = AsyncioDriver._begin, [0]

    def counted(self: Any, effect: Any) -> Any:
        made[0] += isinstance(effect, Eval)
        last = made[0] == call and isinstance(effect, Eval)
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        outcome: Any = original(self, effect)
        if last:
            outcome.add_done_callback(lambda _: os.kill(os.getpid(), signal.SIGKILL))
        return outcome

    AsyncioDriver._begin = counted  # type: ignore[method-assign]


async def main(url: str, namespace: str) -> None:
    jobs = Jobs("notes", kit=SyncKit(url, namespace=namespace))

    @jobs.task(schema=Note, retries=1)
    async def write(note: Note) -> None:
        await asyncio.sleep(0.001)
        if note.number == 1:
            raise ValueError("odd one")

    async with jobs.worker(concurrency=2, poll_interval=0.02):
        await asyncio.sleep(25)  # an idle worker exchanges too: its doom comes in any case


if __name__ == "__main__":
    doom(int(sys.argv[3]), sys.argv[4])
    asyncio.run(main(sys.argv[1], sys.argv[2]))
