"""The state of one lease, and the flows that change it."""

from __future__ import annotations

import os
import secrets
import socket
import time
from typing import TYPE_CHECKING

from sync_kit._io.flow import Eval, Sleep
from sync_kit._io.keys import KeyGroup
from sync_kit._io.scripts import Script
from sync_kit.errors import LockError, LockLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sync_kit._io.flow import Flow
    from sync_kit._io.loops import Loop
    from sync_kit.kit import SyncKit

ACQUIRE = Script.load(__name__, "acquire")
EXTEND = Script.load(__name__, "extend")
RELEASE = Script.load(__name__, "release")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
CALL_LIMIT = 2.0


def owner() -> str:
    """How this process shows up as a holder: host name and process id."""
    return f"{socket.gethostname() or 'unknown'}:{os.getpid()}"


class Grant:
    """One lease as this process knows it. Made before anything is sent, so that a repeated acquire is idempotent."""

    def __init__(self, kit: SyncKit, mutex: str, resource: str, ttl: float) -> None:
        keys = KeyGroup(kit.namespace, "mx", mutex)
        self.kit = kit
        self.mutex = mutex
        self.resource = resource
        self.ttl = ttl
        self.lock_key = keys.key("lock", resource)
        self.fence_key = keys.key("fence")
        self.token = secrets.token_hex(12)
        self.fence = 0
        self.expires_at = 0.0
        self.ended = False
        self.lost: str | None = None
        self.loop: Loop | None = None
        self.when_lost: Callable[[], object] | None = None

    @property
    def expires_in(self) -> float:
        """Seconds that the lease is sure to last, counted from before the request; 0 when it is over."""
        over = self.ended or self.lost is not None
        return 0.0 if over else max(0.0, self.expires_at - time.monotonic())

    def lose(self, reason: str) -> None:
        """Note that the lease is gone, and tell the guarded block. Any thread may call it."""
        if self.lost is None and not self.ended:
            self.lost = reason
            if self.when_lost is not None:
                self.when_lost()

    def loss(self) -> LockLostError:
        """The error for a lost lease."""
        return LockLostError(self.mutex, self.resource, self.fence, self.lost or "it expired")


def acquire_flow(grant: Grant, wait: float) -> Flow[LockError | None]:
    """Become the holder within `wait` seconds; returns None, or the error that says who holds it."""
    until = time.monotonic() + wait
    pause = FIRST_PAUSE
    args = (grant.token, round(grant.ttl * 1000), owner())
    while True:
        sent = time.monotonic()
        reply = yield Eval(ACQUIRE, (grant.lock_key, grant.fence_key), args, repeat=True)
        if reply[0] == b"ok":
            grant.fence, grant.expires_at = reply[1], sent + grant.ttl
            return None
        left = until - time.monotonic()
        if left <= 0:
            return LockError(grant.mutex, grant.resource, reply[2].decode("utf-8", "replace"), reply[1] / 1000)
        yield Sleep(min(pause, left, max(0.001, reply[1] / 1000)))
        pause = min(2 * pause, LONGEST_PAUSE)


def extend_flow(grants: Sequence[Grant], deadline: float) -> Flow[None]:
    """Extend leases of one mutex by one call; those that are gone are marked as lost."""
    args = [arg for grant in grants for arg in (grant.token, round(grant.ttl * 1000))]
    sent = time.monotonic()
    keys = [grant.lock_key for grant in grants]
    _, *held = yield Eval(EXTEND, keys, args, deadline=deadline, repeat=True)
    for grant, mine in zip(grants, held, strict=True):
        if mine:
            grant.expires_at = sent + grant.ttl
        else:
            grant.lose("it expired, was broken, or the server lost its data")


def release_flow(grant: Grant) -> Flow[bool]:
    """End a lease; returns whether it was still held."""
    reply = yield Eval(RELEASE, (grant.lock_key,), (grant.token,), deadline=CALL_LIMIT, repeat=True)
    return bool(reply[0] == b"ok")
