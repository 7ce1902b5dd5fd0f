"""Removes every key with a prefix: for tests, which clean up behind themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sync_kit._io.cluster import Cluster
from sync_kit._io.scripts import pack
from sync_kit._io.translate import LOST
from sync_kit.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.connection import AbstractConnection

    from sync_kit._io.address import Address

_COUNT = 500
_GLOB = re.compile(r"[*?\[\]\\^-]")


def sweep(place: Address | Cluster, prefix: str) -> int:
    """Remove the keys that begin with `prefix`; returns how many there were. Blocks. Raises `Unavailable`."""
    pattern = _GLOB.sub(r"\\\g<0>", prefix) + "*"
    try:
        return sum(_sweep_server(address, pattern) for address in _servers(place))
    except LOST as error:
        raise Unavailable(f"the keys {prefix}* could not all be removed from {place.label}: {error}") from error


def _servers(place: Address | Cluster) -> Iterator[Address]:
    if not isinstance(place, Cluster):
        yield place
        return
    place.learn()
    yield from map(place.at, sorted(place.nodes))


def _sweep_server(address: Address, pattern: str) -> int:
    connection, cursor, removed = address.connect(address.timeout), b"", 0
    try:
        while cursor != b"0":
            (reply,) = _converse(connection, [pack("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", _COUNT)])
            cursor, keys = reply
            # one command for each key: in a cluster those of one node are in many slots
            removed += sum(_converse(connection, [pack("UNLINK", key) for key in keys]))
    finally:
        connection.disconnect()
    return removed


def _converse(connection: AbstractConnection, packed: list[bytes]) -> list[Any]:
    if packed:
        connection.send_packed_command([b"".join(packed)], check_health=False)
    return [connection.read_response(disable_decoding=True) for _ in packed]
