"""Where jobs go instead of Redis while a test wants to see them. `sync_kit.testing` alone sets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit.jobs.receipt import Receipt
    from sync_kit.jobs.task import Sender


class Outlet(Protocol):
    """Takes payloads that the schema of their task has accepted."""

    async def send(self, sender: Sender[Any, Any], payloads: Sequence[Any]) -> list[Receipt]:
        """Take what `send` and `send_many` send."""
        ...

    def send_blocking(self, sender: Sender[Any, Any], payloads: Sequence[Any]) -> list[Receipt]:
        """Take what their blocking twins send. No event loop runs in this thread."""
        ...


current: Outlet | None = None
"""What takes all jobs that this process sends; None while they go to Redis."""
