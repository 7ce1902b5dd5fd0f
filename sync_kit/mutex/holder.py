"""Who holds a resource, and how to take it away from them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from sync_kit._io.flow import Eval
from sync_kit._io.scripts import Script
from sync_kit.mutex.grant import CALL_LIMIT

if TYPE_CHECKING:
    from sync_kit._io.flow import Flow
    from sync_kit.mutex.site import Site

log = logging.getLogger("sync_kit")

LOOK = Script.load(__name__, "look")
BREAK = Script.load(__name__, "break")


@dataclass(frozen=True)
class Holder:
    """Who holds a resource, as Redis sees it at one moment.

    Attributes:
        resource: what is held.
        owner: host name and process id of the holder.
        since: when it was acquired, by the server's clock (UTC).
        expires_in: seconds until the lease ends unless it is renewed.
        fence: the fencing token of the lease.
        waiters: how many wait for the resource.
    """

    resource: str
    owner: str
    since: datetime
    expires_in: float
    fence: int
    waiters: int


def look_flow(site: Site, resource: str) -> Flow[tuple[Holder, ...]]:
    """Who holds `resource`, whoever came first at the head."""
    keys = (site.keys(resource).line, *site.keys(resource).locks)
    _, waiters, *said = yield Eval(LOOK, keys, (), deadline=CALL_LIMIT, repeat=True)
    found = []
    for fence, since, left, owner in zip(*[iter(said)] * 4, strict=True):
        when = datetime.fromtimestamp(since / 1000, timezone.utc)
        found.append(Holder(resource, owner.decode("utf-8", "replace"), when, left / 1000, fence, waiters))
    return tuple(sorted(found, key=lambda holder: holder.fence))


def break_flow(site: Site, resource: str, fence: int | None) -> Flow[bool]:
    """End leases whoever holds them; returns whether there were any. The next call of their holders finds out."""
    _, *broken = yield Eval(BREAK, site.keys(resource).release, (fence or 0,), deadline=CALL_LIMIT)
    for number, owner in zip(broken[::2], broken[1::2], strict=True):
        holder = owner.decode("utf-8", "replace")
        log.warning("the lease on %r of %s, held by %s with fence %d, was broken", resource, site, holder, number)
    return bool(broken)
