"""A worker of the tasks' queues as a process of its own, which has not imported any task. Told by the environment."""

from __future__ import annotations

import os
from typing import Any

import anyio
import django


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.on_django.project.settings")
    django.setup()
    from sync_kit import Worker
    from sync_kit.queue import engine
    from sync_kit_django._registry import queues_by_name

    engine.LEASE = float(os.environ["TEST_LEASE"])
    sources: Any = [queue for name, queue in queues_by_name().items() if name.startswith("tasks.")]

    async def work() -> None:
        async with Worker(*sources, poll_interval=0.05):
            await anyio.sleep_forever()

    anyio.run(work)


if __name__ == "__main__":
    main()
