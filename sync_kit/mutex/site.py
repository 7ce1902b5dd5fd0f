"""One mutex or semaphore on one kit: its keys, and how its holders and waiters are named."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
from typing import TYPE_CHECKING

from sync_kit._io.keys import KeyGroup, encode_part

if TYPE_CHECKING:
    from sync_kit.kit import SyncKit

MUTEX, SEMAPHORE = "mx", "sm"
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

    def __str__(self) -> str:
        return f"{'mutex' if self.kind == MUTEX else 'semaphore'} {self.name!r}"

    @property
    def id(self) -> str:
        """What no other site of the kit has."""
        return self._keys.head

    def line_key(self, resource: str) -> str:
        """The key of those who wait for `resource`."""
        return f"{self._keys.head}:line:{encode_part(resource)}"

    def lock_keys(self, resource: str) -> tuple[str, ...]:
        """The keys of the leases on `resource`, one for each permit."""
        first = f"{self._keys.head}:lock:{encode_part(resource)}"
        return (first,) if self.permits == 1 else tuple(f"{first}:{number + 1}" for number in range(self.permits))

    def new_inbox_key(self) -> str:
        """A list of its own, to which one process is sent the tokens of its waiters whose turn it is."""
        return self._keys.key("inbox", secrets.token_hex(12))


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
