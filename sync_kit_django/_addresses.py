"""The address that a request is counted on."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from sync_kit.ratelimit import TrustedProxies, group_address
from sync_kit.ratelimit import client_address as address_of
from sync_kit_django import conf
from sync_kit_django._views import base_of

if TYPE_CHECKING:
    from sync_kit import RateLimiter

log = logging.getLogger("sync_kit")

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED")


def client_address(request: Any, trusted_proxies: TrustedProxies | None = None) -> str:
    """The address that a request is counted on: its peer's. IPv6 is grouped to /64, the network of one site.

    No forwarding header is believed, unless the peer is one of `trusted_proxies` (those of
    `SYNC_KIT["RATE_LIMIT"]["TRUSTED_PROXIES"]` if not given): then the one header that they write is. `"unknown"` for
    a peer without an address, as on a unix socket.
    """
    trusted = trusted_proxies or conf.current().rate_limit.trusted_proxies
    meta = base_of(request).META
    peer = meta.get("REMOTE_ADDR")
    if trusted is None:
        return _of_peer(peer)
    return group_address(address_of(peer, trusted, lambda header: _lines(meta, header)))


def _lines(meta: dict[str, Any], header: str) -> list[str]:
    """Servers join the lines of a header, with commas, before Django sees it."""
    line = meta.get("HTTP_" + header.upper().replace("-", "_"))
    return [] if line is None else [line]


@functools.lru_cache(maxsize=4096)
def _of_peer(peer: str | None) -> str:
    """Reading an address takes longer than the rest of a limit, and peers come again."""
    return group_address(address_of(peer))


class ClientAddress:
    """The default key of a limit. Says once when the addresses of peers seem not to be those of clients."""

    def __init__(self, trusted_proxies: TrustedProxies | None) -> None:
        self._trusted = trusted_proxies

    def of(self, request: Any, limiter: RateLimiter) -> str:
        """The key of a request."""
        trusted = self._trusted or conf.current().rate_limit.trusted_proxies
        meta = base_of(request).META
        if trusted is None or not (meta.get("REMOTE_ADDR") or trusted.unix):
            _look(meta, limiter)
        return client_address(request, trusted)


def _look(meta: dict[str, Any], limiter: RateLimiter) -> None:
    peer = meta.get("REMOTE_ADDR")
    header = next((name for name in FORWARDED if name in meta and not (peer and peer in meta[name])), None)
    if header is None and peer:
        return
    shared = limiter.checks().shared
    if shared.told_of_proxies:  # by the first limiter that met one: others have the same proxies before them
        return
    shared.told_of_proxies = True
    name = "no address, as on a unix socket" if header is None else header[5:].replace("_", "-").title()
    log.warning(
        "limiter %r counts addresses of peers, and a request carries %s: if proxies of yours stand before the "
        'project, all of their clients share one budget. Name them in SYNC_KIT["RATE_LIMIT"]["TRUSTED_PROXIES"] '
        '("unix" is a peer without an address)',
        limiter.name,
        name,
    )
