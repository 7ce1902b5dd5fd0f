"""The mutex: one holder for each resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_kit.mutex.site import MUTEX
from sync_kit.mutex.verbs import BlockingVerbs, Verbs
from sync_kit.options import Seconds, refuse_unknown

if TYPE_CHECKING:
    from typing_extensions import Never

    from sync_kit.kit import SyncKit


class Mutex(Verbs):
    """At most one live lease for each resource, among all processes that use this name on one Redis primary.

    The lease of a guarded block renews itself; when it is lost, the block is cancelled and
    `LockLostError` is raised. Every lease carries a fencing token that only grows. Who waits is served in
    order of arrival. What this promises and what it cannot: `sync_kit/mutex/README.md`.

    Args:
        name: resources belong to it.
        ttl: seconds that a lease lives without renewal: how long a resource stays blocked after a crash.
        wait: seconds to wait for a busy resource unless a call says otherwise.
        kit: where the leases live; the default kit if not given.

    Raises:
        ConfigurationError: an argument is wrong; the message says how to fix it.
    """

    def __init__(
        self, name: str, *, ttl: Seconds = 10.0, wait: Seconds = 2.0, kit: SyncKit | None = None, **unknown: Never
    ) -> None:
        refuse_unknown("Mutex", unknown, ("ttl", "wait", "kit"))
        super().__init__(MUTEX, name, 1, ttl, wait, kit)

    def __repr__(self) -> str:
        return f"<Mutex {self.name!r} ttl={self.ttl:g}>"

    @property
    def blocking(self) -> BlockingMutex:
        """The same mutex for code without an event loop."""
        return BlockingMutex(self)


class BlockingMutex(BlockingVerbs):
    """The blocking twin of a `Mutex`."""
