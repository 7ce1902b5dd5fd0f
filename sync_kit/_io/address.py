"""Where the server is and how to connect to it: urls, supplied clients, the embedded server."""

from __future__ import annotations

import functools
import inspect
import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
import redis.asyncio
import redis.asyncio.connection as async_connection
import redis.asyncio.retry
import redis.backoff
import redis.connection as sync_connection
import redis.retry

from sync_kit.errors import ConfigurationError
from sync_kit.options import refuse_unknown

if TYPE_CHECKING:
    from sync_kit._io.embedded import Attachment

CONNECT_TIMEOUT = 2.0
"""Seconds to connect, unless the url or the client says otherwise."""
TIMEOUT = 5.0
"""Seconds to wait for a reply, unless the url or the client says otherwise."""

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
    "embedded": "embedded",
}
_KINDS: dict[str, tuple[Any, Any]] = {
    "tls": (sync_connection.SSLConnection, async_connection.SSLConnection),
    "unix": (sync_connection.UnixDomainSocketConnection, async_connection.UnixDomainSocketConnection),
    "tcp": (sync_connection.Connection, async_connection.Connection),
}
_TAKEN_OVER = frozenset(
    "host port path db username password credential_provider client_name socket_connect_timeout"
    " socket_keepalive socket_keepalive_options socket_type socket_timeout".split()
)
_OF_OTHERS = frozenset(inspect.signature(redis.Redis).parameters) | {"timeout"}
"""What a url that is shared with other programs may say; it means nothing here unless it is taken over."""


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
        connection_class = _KINDS["unix" if self.kind == "embedded" else self.kind][which]
        known = _parameters(connection_class)
        return connection_class(**{name: value for name, value in self._options.items() if name in known}, **more)


@functools.cache
def _parameters(connection_class: Any) -> frozenset[str]:
    """What a connection can be told: a unix socket knows no keep-alive, for example."""
    return frozenset(name for base in connection_class.__mro__ for name in inspect.signature(base.__init__).parameters)


def from_environment() -> str:
    """The url of `REDIS_URL`, else of `VALKEY_URL`, else localhost."""
    return os.environ.get("REDIS_URL") or os.environ.get("VALKEY_URL") or "redis://localhost:6379/0"


def from_url(url: str, namespace: str) -> Address:
    """Read a url. Raises `ConfigurationError` without repeating a password that the url may hold."""
    if not isinstance(url, str):
        raise ConfigurationError(f"the url must be a str, not {type(url).__name__}: pass a client as client=...")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        shown = repr(scheme) if separator else "a url without a scheme"
        raise ConfigurationError(f"cannot connect to {shown}: use one of {', '.join(s + '://' for s in _SCHEMES)}")
    if scheme == "embedded":
        return Address("embedded", {}, url, embedded=(url, namespace))
    return _from_parsed(f"{_SCHEMES[scheme]}://{rest}", scheme)


def _from_parsed(url: str, scheme: str) -> Address:
    try:
        options: dict[str, Any] = dict(sync_connection.parse_url(url))
        path = urlsplit(url).path
        options.get("host", "").encode("idna")  # what connecting would stumble over
    except ValueError as error:
        raise ConfigurationError(f"the {scheme}:// url cannot be read: {_why(error)}") from None
    refuse_unknown(f"the {scheme}:// url", _unknown(options), sorted(_TAKEN_OVER))
    if scheme == "unix" and not options.get("path"):
        raise ConfigurationError("the unix:// url has no path: write unix:///path/of/the.sock")
    if not url.startswith("unix:") and path.strip("/") and not path.strip("/").isdigit():
        raise ConfigurationError(f"the database in the {scheme}:// url must be a number, as in {scheme}://host:6379/0")
    return _address(options.pop("connection_class", sync_connection.Connection), options)


def _why(error: ValueError) -> str:
    """Python's own words are not repeated: they quote what was taken for the port, which may be a password."""
    if str(error).startswith("Invalid value for"):
        return str(error)
    return "write user:password@host:6379/0 after it, and %23 %2F %3A %3F %40 for # / : ? @ in a password"


def _unknown(options: dict[str, Any]) -> dict[str, Any]:
    known = _TAKEN_OVER | _OF_OTHERS | {"connection_class"}
    return {name: value for name, value in options.items() if name not in known and not name.startswith("ssl")}


def from_client(client: Any) -> Address:
    """Take over the connection settings of a redis-py client, blocking or async; the client itself is not used."""
    pool: Any = getattr(client, "connection_pool", None)
    options = getattr(pool, "connection_kwargs", None)
    if options is None:
        raise ConfigurationError(
            f"client= must be a redis.Redis or redis.asyncio.Redis, not {type(client).__name__}: "
            "or pass the url as the first argument"
        )
    return _address(pool.connection_class, dict(options))


def _address(connection_class: Any, options: dict[str, Any]) -> Address:
    # A subclass may find its server in a way of its own (Sentinel's does): then host and port say nothing.
    kind = next((k for k, pair in _KINDS.items() if connection_class in pair), None)
    if kind is None:
        raise ConfigurationError(f"connections of class {connection_class.__name__} are not supported: pass a url")
    if any(value for name, value in options.items() if "ocsp" in name):
        raise ConfigurationError("OCSP validation is not supported: redis-py has it for blocking connections only")
    kept = {name: value for name, value in options.items() if _kept(name, value)}
    place = kept.get("path") or f"{kept.get('host', 'localhost')}:{kept.get('port', 6379)}"
    return Address(kind, kept, f"{place}/{kept.get('db') or 0}")


def _kept(name: str, value: object) -> bool:
    return value is not None and (name in _TAKEN_OVER or name.startswith("ssl"))
