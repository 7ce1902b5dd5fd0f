"""One mutex or semaphore on one kit: its keys, and how its holders and waiters are named."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
from typing import TYPE_CHECKING

from sync_kit._io.keys import KeyGroup
from sync_kit._io.scripts import Keys

if TYPE_CHECKING:
    from sync_kit.kit import SyncKit

MUTEX, SEMAPHORE = "mx", "sm"
REMEMBERED = 1000
"""Resources whose keys are kept, so that hot ones are not encoded again."""
_HOST = socket.gethostname() or "unknown"


class Site:
    """Where the resources of one name live.

    Args:
        kit: the server and the namespace.
        kind: `MUTEX` or `SEMAPHORE`.
        name: of the mutex or semaphore.
        permits: how many may hold one resource at a time.
    """

    def __init__(self, kit: SyncKit, kind: str, name: str, permits: int) -> None:
        self.kit = kit
        self.kind = kind
        self.name = name
        self.permits = permits
        self._keys = KeyGroup(kit.namespace, kind, name)
        self.fence_key = self._keys.key("fence")
        self.alive_key = self._keys.key("alive")
        self.inbox: object = None  # that was used last: kept as long as the mutex is
        self._known: dict[str, ResourceKeys] = {}

    def __str__(self) -> str:
        return f"{'mutex' if self.kind == MUTEX else 'semaphore'} {self.name!r}"

    @property
    def id(self) -> str:
        """What no other site of the kit has."""
        return self._keys.head

    def keys(self, resource: str) -> ResourceKeys:
        """The keys of one resource."""
        found = self._known.get(resource)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[resource] = ResourceKeys(self, resource)
        return found

    def line_key(self, resource: str) -> str:
        """The key of those who wait for `resource`."""
        return self._keys.key("line", resource)

    def lock_keys(self, resource: str) -> tuple[str, ...]:
        """The keys of the leases on `resource`, one for each permit."""
        if self.kind == MUTEX:
            return (self._keys.key("lock", resource),)
        return tuple(self._keys.key("lock", resource, number + 1) for number in range(self.permits))

    @property
    def inbox_name(self) -> str:
        """Sites with the same one share an inbox: all of a kit, but in a cluster, where it must be in their slot."""
        return f"inbox of {self.id}" if self.kit.is_cluster else "inbox"

    def new_inbox_key(self) -> str:
        """A list of its own, to which one process is sent the tokens of its waiters whose turn it is."""
        keys = self._keys if self.kit.is_cluster else KeyGroup(self.kit.namespace, MUTEX)
        return keys.key("inbox", secrets.token_hex(12))


class ResourceKeys:
    """The keys of one resource, encoded once: `acquire` for that script, `release` for those that need no fence."""

    __slots__ = ("acquire", "line", "locks", "release")

    def __init__(self, site: Site, resource: str) -> None:
        self.line = site.line_key(resource)
        self.locks = site.lock_keys(resource)
        self.acquire = Keys((site.fence_key, self.line, site.alive_key, *self.locks))
        self.release = Keys((self.line, site.alive_key, *self.locks))


def owner() -> str:
    """How this process shows up as a holder: host name and process id."""
    return f"{_HOST}:{os.getpid()}"


def new_token() -> str:
    """A name for one lease that nobody else has."""
    return f"{_prefix}{next(_count):x}"


_count = itertools.count()
_prefix = secrets.token_hex(12)


def _after_fork() -> None:
    global _prefix
    _prefix = secrets.token_hex(12)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
