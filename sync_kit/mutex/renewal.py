"""Renews the guarded leases of one mutex, a batch by one call, on the process's renewal thread."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from sync_kit._io.renewal import renewals
from sync_kit.errors import SyncKitError
from sync_kit.mutex.grant import CALL_LIMIT, Grant, extend_flow

if TYPE_CHECKING:
    from sync_kit.mutex.site import Site

log = logging.getLogger("sync_kit")

BATCH = 100
DEAD_LOOP = 60.0
"""A loop that has not run for this long (plus one ttl) is taken for dead: what it holds is no longer renewed."""
LONGEST_GAP = 60.0
"""Seconds that a lease which one block has handed over is renewed, while the next one does not begin."""

_held: dict[str, Grant] = {}
"""Every grant that this process renews, by token."""


class LeaseRenewal:
    """The leases of one mutex or semaphore on one kit that are renewed."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._grants: dict[str, Grant] = {}
        self._failing = False

    def __repr__(self) -> str:
        return f"<leases of {self._site}>"

    @property
    def every(self) -> float:
        """A third of the shortest ttl; while Redis is away, no later than the next lease ends."""
        grants = list(self._grants.values())
        pace = min((grant.ttl for grant in grants), default=1.0) / 3
        if self._failing and grants:
            pace = min(pace, max(0.02, min(grant.expires_in for grant in grants)))
        return pace

    def hold(self, grant: Grant) -> None:
        """Begin to renew `grant`."""
        grant.renewal = self
        _held[grant.token] = self._grants[grant.token] = grant
        renewals.add(self)

    def drop(self, grant: Grant) -> None:
        """Stop to renew `grant`."""
        self._grants.pop(grant.token, None)
        _held.pop(grant.token, None)

    def renew(self) -> None:
        """Renew everything that is held, and find out what is lost."""
        if self._failing:
            self._drop_the_lost()
        grants = [grant for grant in list(self._grants.values()) if _in_use(grant)]
        for start in range(0, len(grants), BATCH):
            self._renew(grants[start : start + BATCH])
        self._drop_the_lost()
        if not self._grants:
            renewals.remove(self)
            if self._grants:  # somebody came in between
                renewals.add(self)

    def _drop_the_lost(self) -> None:
        for grant in list(self._grants.values()):
            if grant.expires_in == 0.0:
                grant.lose("it could not be renewed in time")
            if grant.lost or grant.ended:
                self.drop(grant)

    def _renew(self, grants: list[Grant]) -> None:
        deadline = _patience(min(grant.ttl for grant in grants) / 3)
        try:
            self._site.kit.thread_driver.run(extend_flow(grants, deadline))
            self._failing = False
        except SyncKitError as error:
            self._failing = True
            renewals.add(self)
            log.warning("%d leases of %s could not be renewed: %s", len(grants), self._site, error)


def _patience(pace: float) -> float:
    """Seconds that a call may take: its silence must not hide that a lease ends meanwhile, be it of another mutex.

    In steps of a tenth, because connections are kept by their time limit: any number of different ttls is some of them.
    """
    soonest = min((grant.expires_in for grant in list(_held.values())), default=pace)
    return min(CALL_LIMIT, max(0.05, int(min(pace, soonest) * 10) / 10))


def _in_use(grant: Grant) -> bool:
    """Whether the lease is to be renewed: it is not lost, somebody is to use it, and its loop is not dead."""
    if time.monotonic() - grant.handed_over > LONGEST_GAP:
        said = "%s was handed over and not used for %.0f s: its lease is no longer renewed"
        log.error(said, grant, LONGEST_GAP)
        return False
    silent = 0.0 if grant.loop is None else time.monotonic() - grant.loop.beat
    if silent < DEAD_LOOP + grant.ttl:
        return grant.lost is None
    said = "the event loop that holds %s has not run for %.0f s: its lease is no longer renewed"
    log.error(said, grant, silent)
    return False


def renewal_of(grant: Grant) -> LeaseRenewal:
    """The batch that `grant` belongs to. A forked child has none of its parent's, which are the parent's to renew."""
    kept, name = grant.site.kit.kept, f"renewal of {grant.site.id}"
    batch: LeaseRenewal = kept.get(name) or kept.setdefault(name, LeaseRenewal(grant.site))
    return batch


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)
