"""Where jobs go instead of Redis while a test wants to see them. `sync_kit.testing` alone sets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sync_kit.jobs.parcel import Parcel
    from sync_kit.jobs.receipt import Receipt


class Outlet(Protocol):
    """Takes what is sent, with the ids that it has been given."""

    async def send(self, parcel: Parcel) -> list[Receipt]:
        """Take what `send` and `send_many` send."""
        ...

    def send_blocking(self, parcel: Parcel) -> list[Receipt]:
        """Take what their blocking twins send. No event loop runs in this thread."""
        ...


current: Outlet | None = None
"""What takes all jobs that this process sends; None while they go to Redis."""
