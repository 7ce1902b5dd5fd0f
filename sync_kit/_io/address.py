"""Where a server is and how to connect to it; `settings` reads that from urls and clients."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import redis
import redis.asyncio
import redis.asyncio.connection as async_connection
import redis.asyncio.retry
import redis.backoff
import redis.connection as sync_connection
import redis.retry

from sync_kit._io.translate import LOST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sync_kit._io.embedded import Attachment

T = TypeVar("T")

CONNECT_TIMEOUT = 2.0
"""Seconds to connect, unless the url or the client says otherwise."""
TIMEOUT = 5.0
"""Seconds to wait for a reply, unless the url or the client says otherwise."""

KINDS: dict[str, tuple[Any, Any]] = {
    "tls": (sync_connection.SSLConnection, async_connection.SSLConnection),
    "unix": (sync_connection.UnixDomainSocketConnection, async_connection.UnixDomainSocketConnection),
    "tcp": (sync_connection.Connection, async_connection.Connection),
}
TAKEN_OVER = frozenset(
    "host port path db username password credential_provider client_name socket_connect_timeout"
    " socket_keepalive socket_keepalive_options socket_type socket_timeout".split()
)


def _quiet(base: Any) -> dict[str, Any]:
    """Connect in as few round trips as possible, and never repeat anything by itself."""
    known = inspect.signature(base.__init__).parameters
    options: dict[str, Any] = {"protocol": 2, "health_check_interval": 0}
    options |= {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}
    return options


_QUIET_SYNC = _quiet(sync_connection.AbstractConnection)
_QUIET_ASYNC = _quiet(async_connection.AbstractConnection)


class Address:
    """A server and the options of a connection to it.

    Args:
        kind: `tcp`, `tls`, `unix` or `embedded`.
        options: redis-py's connection options that are kept.
        label: how errors and reprs name the server; never holds a secret.
    """

    def __init__(self, kind: str, options: dict[str, Any], label: str, embedded: tuple[str, str] | None = None) -> None:
        self.kind = kind
        self.label = label
        self.connect_timeout: float = options.get("socket_connect_timeout") or CONNECT_TIMEOUT
        self.timeout: float = options.get("socket_timeout") or TIMEOUT
        self._options = {name: value for name, value in options.items() if name != "socket_timeout"}
        self._options["socket_connect_timeout"] = self.connect_timeout
        self._embedded = embedded
        self._attachment: Attachment | None = None
        self._resolving = threading.Lock()

    def __repr__(self) -> str:
        return f"<Address {self.label}>"

    @property
    def host(self) -> str:
        """Host name or IP address, where the kind has one."""
        return str(self._options.get("host", "localhost"))

    @property
    def resolves(self) -> bool:
        """Whether `resolve` has something to do before a connection can be made."""
        return self._embedded is not None

    def resolve(self) -> None:
        """Start, join or bring back the embedded server, if this is one. Blocks, for some seconds at most."""
        if self._embedded is None:
            return
        from sync_kit._io.embedded import attach

        with self._resolving:
            if self._attachment is None:
                self._attachment = attach(*self._embedded)
                self._options["path"] = self._attachment.socket
            else:
                self._attachment.ensure()

    def leave(self) -> None:
        """Stop being a user of the embedded server; the next `resolve` joins again."""
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.close()

    def after_fork(self) -> None:
        """In the child: another thread of the parent may have been at `resolve`."""
        self._resolving = threading.Lock()

    def connect(self, timeout: float) -> sync_connection.AbstractConnection:
        """A new blocking connection, connected; replies may take `timeout` seconds. Raises one of `LOST`."""
        self.resolve()
        connection = self.connection(timeout)
        try:
            connection.connect()
            self.check(connection)
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def check(self, connection: sync_connection.AbstractConnection) -> None:
        """Raise one of `LOST` when a new connection leads to the wrong server."""

    async def async_check(self, connection: async_connection.AbstractConnection) -> None:
        """See `check`."""

    def connection(self, timeout: float, **more: Any) -> sync_connection.AbstractConnection:
        """A new blocking connection, not yet connected; replies may take `timeout` seconds."""
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        made: sync_connection.AbstractConnection = self._make(
            0, **_QUIET_SYNC, socket_timeout=timeout, retry=retry, **more
        )
        return made

    def async_connection(self) -> async_connection.AbstractConnection:
        """A new asyncio connection, not yet connected, without a time limit of its own."""
        retry = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
        made: async_connection.AbstractConnection = self._make(1, **_QUIET_ASYNC, socket_timeout=None, retry=retry)
        return made

    def _make(self, which: int, **more: Any) -> Any:
        connection_class = KINDS["unix" if self.kind == "embedded" else self.kind][which]
        known = _parameters(connection_class)
        options = {name: value for name, value in self._options.items() if name in known}
        return connection_class(**{**options, **more})


@functools.cache
def _parameters(connection_class: Any) -> frozenset[str]:
    """What a connection can be told: a unix socket knows no keep-alive, for example."""
    return frozenset(name for base in connection_class.__mro__ for name in inspect.signature(base.__init__).parameters)


def ask(address: Address, seconds: float, command: Sequence[str]) -> Any:
    """Send one command on a connection of its own; each step of it may take `seconds`. Raises one of `LOST`."""
    connection = address.connection(seconds, socket_connect_timeout=seconds)
    try:
        connection.connect()
        connection.send_command(*command, check_health=False)
        return connection.read_response(disable_decoding=True)
    finally:
        connection.disconnect()


def first_answer(
    addresses: Sequence[Address], seconds: float, command: Sequence[str], read: Callable[[Address, Any], T | None]
) -> tuple[Address, T]:
    """The first server with something to say, and what `read` makes of it; raises one of `LOST` if there is none.

    Each server has half of the time that is left, so a deaf one does not use up all of it.
    """
    until = time.monotonic() + seconds
    failure: Exception = redis.ConnectionError(f"nobody has an answer to {' '.join(command)}")
    for address in addresses:
        try:
            found = read(address, ask(address, max(0.05, (until - time.monotonic()) / 2), command))
        except LOST as error:
            failure = error
            continue
        if found:
            return address, found
    raise failure
