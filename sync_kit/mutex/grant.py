"""The state of one lease, and the flows that change it."""

from __future__ import annotations

import functools
import math
import os
import time
from typing import TYPE_CHECKING, Any

from sync_kit._io.flow import Eval
from sync_kit._io.scripts import Packed, Script
from sync_kit.errors import LockError, LockLostError, Unavailable
from sync_kit.mutex.site import new_token, owner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sync_kit._io.flow import Flow
    from sync_kit._io.loops import Loop
    from sync_kit.inbox import Seat
    from sync_kit.mutex.renewal import LeaseRenewal
    from sync_kit.mutex.site import Site

ACQUIRE = Script.load(__name__, "acquire")
EXTEND = Script.load(__name__, "extend")
RELEASE = Script.load(__name__, "release")

CALL_LIMIT = 2.0
BEAT = 1.0
"""Seconds between two signs of life of a waiter; without one for two of them it is taken for dead (`line.lua`)."""
LONG = 3600.0
ROUNDING_MS = 2
"""The server tells and counts in whole milliseconds: a key is there for one more than it says."""
NOWHERE = "-"
"""The inbox of those who do not wait."""
IN_LINE = "the next in line"


class Grant:
    """One lease as this process knows it. Made before anything is sent, so that a repeated acquire is idempotent."""

    __slots__ = (
        "ended",
        "expires_at",
        "fence",
        "handed_over",
        "inbox",
        "keys",
        "lock_key",
        "loop",
        "lost",
        "process",
        "renewal",
        "resource",
        "site",
        "task",
        "token",
        "ttl",
        "when_lost",
    )

    def __init__(self, site: Site, resource: str, ttl: float) -> None:
        self.site = site
        self.resource = resource
        self.ttl = ttl
        self.keys = site.keys(resource)
        self.lock_key = self.keys.locks[0]
        self.token = new_token()
        self.inbox = NOWHERE
        self.process = os.getpid()
        self.fence = 0
        self.expires_at = 0.0
        self.ended = False
        self.lost: str | None = None
        self.loop: Loop | None = None
        self.renewal: LeaseRenewal | None = None
        self.handed_over = math.inf
        self.task: object = None
        self.when_lost: Callable[[], object] | None = None

    def __str__(self) -> str:
        return f"{self.resource!r} of {self.site}"

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
        return LockLostError(str(self.site), self.resource, self.fence, self.lost or "it expired")


def ask_flow(grant: Grant) -> Flow[LockError | None]:
    """Become the holder, or learn who is: returns None, or the error that says so."""
    reply = yield _ask(grant, stay=False)
    if _late(grant, reply):
        reply = yield _ask(grant, stay=False)
    return None if _given(grant, reply) else _busy(grant, reply)


def wait_flow(grant: Grant, wait: float, seat: Seat) -> Flow[LockError | None]:
    """Become the holder within `wait` seconds, in order of arrival; returns what `ask_flow` does.

    In the line from the first question on, which is asked again when called, and at the end of the wait. A call is
    a hint only. The first in line also asks when the lease that it waits for ends. Who is in line sits an outage out.
    """
    until, least = time.monotonic() + wait, 0.0
    while True:
        staying = time.monotonic() < until
        pause = BEAT
        try:
            reply = yield _ask(grant, stay=staying)
            if _late(grant, reply):
                reply = yield _ask(grant, stay=staying)
            if _given(grant, reply):
                return None
            if not staying:
                return _busy(grant, reply)
            pause = LONG if reply[3] else (reply[1] + ROUNDING_MS) / 1000
        except Unavailable:
            if not (least and time.monotonic() < until):
                raise
        yield seat.wait(min(until - time.monotonic(), max(least, pause)))
        least = BEAT


def _ask(grant: Grant, *, stay: bool) -> Eval:
    terms = _terms(round(grant.ttl * 1000), int(stay), grant.inbox, grant.process)
    grant.expires_at = time.monotonic() + grant.ttl
    return Eval(ACQUIRE, grant.keys.acquire, terms.after(grant.token), repeat=True)


@functools.lru_cache(maxsize=500)
def _terms(ttl_ms: int, stays: int, inbox: str, _process: int) -> Packed:
    return Packed((ttl_ms, stays, owner(), inbox))


def _late(grant: Grant, reply: Sequence[Any]) -> bool:
    """Whether a lease was over before this process heard of it: it is asked for again, if it is still its own."""
    return bool(reply[0] == b"ok" and grant.expires_in == 0.0)


def _given(grant: Grant, reply: Sequence[Any]) -> bool:
    if reply[0] != b"ok":
        return False
    grant.fence, grant.lock_key = reply[1], grant.keys.locks[reply[2] - 1]
    if grant.expires_in == 0.0:
        grant.lose("the answer came after it had expired")
    return True


def _busy(grant: Grant, reply: Sequence[Any]) -> LockError:
    holder = reply[2].decode("utf-8", "replace")
    said = None if holder else "is free, but promised to the next in line: try again later or pass a longer wait="
    return LockError(str(grant.site), grant.resource, holder or IN_LINE, reply[1] / 1000, said=said)


def extend_flow(grants: Sequence[Grant], deadline: float) -> Flow[None]:
    """Extend leases of one site by one call; those that are gone are marked as lost."""
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
    """End a lease, or leave the line; returns whether it was still held."""
    args = (grant.token, grant.inbox)
    reply = yield Eval(RELEASE, grant.keys.release, args, deadline=CALL_LIMIT, repeat=True)
    return bool(reply[0] == b"ok")
