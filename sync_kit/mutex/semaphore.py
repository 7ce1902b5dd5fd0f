"""The semaphore: some holders for each resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_kit.mutex.site import SEMAPHORE
from sync_kit.mutex.verbs import BlockingVerbs, Verbs
from sync_kit.options import Seconds, refuse_unknown, whole

if TYPE_CHECKING:
    from typing_extensions import Never

    from sync_kit.kit import SyncKit

MOST_PERMITS = 100


class Semaphore(Verbs):
    """At most `permits` live leases for each resource, among all processes that use this name on one Redis primary.

    Everything else is as with a `Mutex`: the same verbs, the same promises. While processes disagree about
    `permits`, the largest number counts.

    Args:
        name: resources belong to it.
        permits: how many may hold one resource at a time, at most 100.
        ttl, wait, kit: see `Mutex`.

    Raises:
        ConfigurationError: an argument is wrong; the message says how to fix it.
    """

    def __init__(
        self,
        name: str,
        permits: int,
        *,
        ttl: Seconds = 10.0,
        wait: Seconds = 2.0,
        kit: SyncKit | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("Semaphore", unknown, ("permits", "ttl", "wait", "kit"))
        self.permits = whole("permits", permits, least=1, most=MOST_PERMITS)
        super().__init__(SEMAPHORE, name, self.permits, ttl, wait, kit)

    def __repr__(self) -> str:
        return f"<Semaphore {self.name!r} permits={self.permits} ttl={self.ttl:g}>"

    @property
    def blocking(self) -> BlockingSemaphore:
        """The same semaphore for code without an event loop."""
        return BlockingSemaphore(self)


class BlockingSemaphore(BlockingVerbs):
    """The blocking twin of a `Semaphore`."""
