"""Where jobs go instead of Redis while a test wants to see them. `sync_kit.testing` alone sets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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


class Threads(Protocol):
    """Where handlers run while a test runs jobs inline. An adapter may know better than `sync_kit.testing`."""

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a plain function for async code."""
        ...

    def run(self, work: Callable[[Callable[..., Awaitable[Any]]], Awaitable[Any]]) -> Any:
        """Perform async work for blocking code; it is given what calls plain functions."""
        ...


current: Outlet | None = None
"""What takes all jobs that this process sends; None while they go to Redis."""

threads: Threads | None = None
"""Where handlers run inline; None for the threads of `sync_kit.testing`."""
