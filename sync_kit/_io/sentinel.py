"""Sentinel: the primary of a service is wherever the sentinels say, and they are asked for each new connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.exceptions

from sync_kit._io.address import Address, first_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio.connection import AbstractConnection as AsyncConnection
    from redis.connection import AbstractConnection


class SentinelAddress(Address):
    """The primary of `service`.

    The limit for connecting is shared: one half to find the primary, the other to reach it.

    Args:
        sentinels: where to ask; who answered is asked first the next time.
    """

    def __init__(
        self, kind: str, options: dict[str, Any], label: str, sentinels: Sequence[Address], service: str
    ) -> None:
        super().__init__(kind, options, label)
        self._options["socket_connect_timeout"] = self.connect_timeout / 2
        self._sentinels = list(sentinels)
        self._service = service

    @property
    def resolves(self) -> bool:
        """See `Address`."""
        return True

    def resolve(self) -> None:
        """Ask the sentinels where the primary is. Raises one of `LOST` when none of them knows."""
        sentinels = self._sentinels
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        answered, (host, port) = first_answer(sentinels, self.connect_timeout / 2, command, lambda _, reply: reply)
        # a new dict, because other threads may be reading the old one
        self._options = {**self._options, "host": host.decode(), "port": int(port)}
        if answered is not sentinels[0]:
            self._sentinels = [answered, *(each for each in sentinels if each is not answered)]

    def check(self, connection: AbstractConnection) -> None:
        """Right after a failover the sentinels may still name what has become a replica."""
        connection.send_command("ROLE", check_health=False)
        _primary(connection.read_response())

    async def async_check(self, connection: AsyncConnection) -> None:
        """See `check`."""
        await connection.send_command("ROLE", check_health=False)
        _primary(await connection.read_response())


def _primary(role: Any) -> None:
    if role[0] != b"master":
        raise redis.exceptions.ConnectionError("the server that the sentinels named is not, or no longer, a primary")
