"""Asking a server about itself: its version, its settings, its state. For those who look after it, not for flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sync_kit._io.cluster import Cluster
from sync_kit._io.scripts import pack
from sync_kit._io.translate import LOST, REPLIED
from sync_kit.errors import Unavailable

if TYPE_CHECKING:
    from redis.connection import AbstractConnection
    from typing_extensions import Self

    from sync_kit._io.address import Address


class Inquiry:
    """A connection on which a server is asked about itself: `with Inquiry(address) as asked: asked.info()`.

    What the server refuses to tell is None: users without the permission, and managed servers, are refused much.

    Raises:
        Unavailable: the server cannot be reached, or went away.
    """

    def __init__(self, address: Address) -> None:
        self.label = address.label
        self._address = address
        self._connection: AbstractConnection | None = None

    def __enter__(self) -> Self:
        try:
            self._connection = self._address.connect(self._address.timeout)
        except LOST as error:
            raise self._away(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def info(self) -> dict[str, str] | None:
        """What `INFO` says."""
        return _lines(self._ask("INFO"))

    def cluster_info(self) -> dict[str, str] | None:
        """What `CLUSTER INFO` says; refused by a server that is not part of a cluster."""
        return _lines(self._ask("CLUSTER", "INFO"))

    def setting(self, name: str) -> str | None:
        """One setting, as `CONFIG GET` says."""
        reply = self._ask("CONFIG", "GET", name)
        return reply[1].decode("utf-8", "replace") if reply else None

    def _ask(self, *command: str) -> Any:
        assert self._connection is not None
        try:
            self._connection.send_packed_command([pack(*command)], check_health=False)
            return self._connection.read_response(disable_decoding=True)
        except REPLIED:
            return None
        except LOST as error:
            raise self._away(error) from error

    def _away(self, error: BaseException) -> Unavailable:
        return Unavailable(
            f"Redis at {self.label} does not answer questions about itself: {error}; check that it is reachable"
        )


def inquiries(place: Address | Cluster) -> list[Inquiry]:
    """One for the server; in a cluster one for each node that serves slots. Raises `Unavailable` if none is known."""
    if not isinstance(place, Cluster):
        return [Inquiry(place)]
    place.learn()
    if not place.nodes:
        raise Unavailable(f"no node of the cluster at {place.label} says who serves which slot: see `CLUSTER INFO`")
    return [Inquiry(place.at(node)) for node in sorted(place.nodes)]


def _lines(reply: Any) -> dict[str, str] | None:
    if reply is None:
        return None
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
