"""What a url, a client or the environment says about the server; see `address`, `sentinel` and `cluster`."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
import redis.asyncio.sentinel
import redis.connection
import redis.sentinel

from sync_kit._io.address import KINDS, TAKEN_OVER, Address
from sync_kit._io.cluster import Cluster
from sync_kit._io.sentinel import SentinelAddress
from sync_kit.errors import ConfigurationError
from sync_kit.options import refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

_SERVERS = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_PORTS = {"cluster": 6379, "sentinel": 26379}
_SENTINEL_LOGIN = ("sentinel_username", "sentinel_password")
_OF_OTHERS = frozenset(inspect.signature(redis.Redis).parameters) | {"timeout"}
"""What a url that is shared with other programs may say; it means nothing here unless it is taken over."""
_MANAGED = {
    redis.sentinel.SentinelManagedConnection: redis.connection.Connection,
    redis.sentinel.SentinelManagedSSLConnection: redis.connection.SSLConnection,
    redis.asyncio.sentinel.SentinelManagedConnection: redis.connection.Connection,
    redis.asyncio.sentinel.SentinelManagedSSLConnection: redis.connection.SSLConnection,
}

Place = Address | Cluster


def from_environment() -> str:
    """The url of `REDIS_URL`, else of `VALKEY_URL`, else localhost."""
    return os.environ.get("REDIS_URL") or os.environ.get("VALKEY_URL") or "redis://localhost:6379/0"


# -- urls ------------------------------------------------------------------------------------------------------------


def from_url(url: str, namespace: str) -> Place:
    """Read a url. Raises `ConfigurationError` without repeating a password that the url may hold."""
    if not isinstance(url, str):
        raise ConfigurationError(f"the url must be a str, not {type(url).__name__}: pass a client as client=...")
    scheme, separator, rest = url.partition("://")
    server, _, many = scheme.partition("+")
    if separator and scheme == "embedded":
        return Address("embedded", {}, url, embedded=(url, namespace))
    if separator and server in _SERVERS and many in _PORTS:
        return _from_several(scheme, _SERVERS[server], many, rest)
    if separator and (scheme in _SERVERS or scheme == "unix"):
        return _address(*_parsed(scheme, f"{_SERVERS.get(scheme, scheme)}://{rest}"))
    shown = repr(scheme) if separator else "a url without a scheme"
    raise ConfigurationError(
        f"cannot connect to {shown}: use one of redis://, rediss://, unix://, valkey://, valkeys://, embedded://, "
        "or for several servers redis+cluster://, redis+sentinel:// (rediss, valkey and valkeys likewise)"
    )


def _from_several(scheme: str, server: str, many: str, rest: str) -> Place:
    """A url with a list of hosts: it is read once for each of them."""
    place, mark, query = rest.partition("?")
    before, _, path = place.partition("/")
    login, at, hosts = before.rpartition("@")
    service, _, database = path.partition("/") if many == "sentinel" else ("", "", path)
    if many == "sentinel" and not service:
        raise ConfigurationError(f"the {scheme}:// url names no service: write {scheme}://host:26379/mymaster/0")
    urls = [f"{server}://{login}{at}{host}/{database}{mark}{query}" for host in hosts.split(",")]
    parsed = [_parsed(scheme, url, many) for url in urls]
    nodes = [_node(options, many) for _, options in parsed]
    kind, options = parsed[0]
    if many == "cluster":
        return _cluster(kind, options, nodes)
    keeper_login = {name.removeprefix("sentinel_"): options.pop(name, None) for name in _SENTINEL_LOGIN}
    return _sentinel(
        kind, options, service, [(kind, {**_without_login(options), **keeper_login}, node) for node in nodes]
    )


def _node(options: dict[str, Any], many: str) -> tuple[str, int]:
    return options.get("host", "localhost"), options.get("port", _PORTS[many])


def _without_login(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("username", "password", "db")}


def _parsed(scheme: str, url: str, many: str = "") -> tuple[Any, dict[str, Any]]:
    """The connection class and the options of a url that redis-py understands."""
    try:
        options: dict[str, Any] = dict(redis.connection.parse_url(url))
        path = urlsplit(url).path
        options.get("host", "").encode("idna")  # what connecting would stumble over
    except ValueError as error:
        raise ConfigurationError(f"the {scheme}:// url cannot be read: {_why(error)}") from None
    extra = _SENTINEL_LOGIN if many == "sentinel" else ()
    refuse_unknown(f"the {scheme}:// url", _unknown(options, extra), sorted((*TAKEN_OVER, *extra)))
    if scheme == "unix" and not options.get("path"):
        raise ConfigurationError("the unix:// url has no path: write unix:///path/of/the.sock")
    if scheme != "unix" and path.strip("/") and not path.strip("/").isdigit():
        service = "/mymaster" if many == "sentinel" else ""
        example = f"{scheme}://host:{_PORTS.get(many, 6379)}{service}/0"
        raise ConfigurationError(f"the database in the {scheme}:// url must be a number, as in {example}")
    return options.pop("connection_class", redis.connection.Connection), options


def _why(error: ValueError) -> str:
    """Python's own words are not repeated: they quote what was taken for the port, which may be a password."""
    if str(error).startswith("Invalid value for"):
        return str(error)
    return "write user:password@host:6379/0 after it, and %23 %2F %3A %3F %40 for # / : ? @ in a password"


def _unknown(options: dict[str, Any], extra: Sequence[str]) -> dict[str, Any]:
    known = TAKEN_OVER | _OF_OTHERS | {"connection_class", *extra}
    return {name: value for name, value in options.items() if name not in known and not name.startswith("ssl")}


# -- clients ---------------------------------------------------------------------------------------------------------


def from_client(client: Any) -> Place:
    """Take over the connection settings of a redis-py client, blocking or async; the client itself is not used."""
    if hasattr(client, "nodes_manager"):
        return _from_cluster_client(client.nodes_manager)
    pool: Any = getattr(client, "connection_pool", None)
    options = getattr(pool, "connection_kwargs", None)
    if options is None:
        raise ConfigurationError(
            f"client= must be a redis.Redis or redis.asyncio.Redis, not {type(client).__name__}: a RedisCluster or "
            "what Sentinel.master_for makes will do too; or pass the url as the first argument"
        )
    if hasattr(pool, "sentinel_manager"):
        return _from_sentinel_pool(pool)
    return _address(pool.connection_class, dict(options))


def _from_cluster_client(manager: Any) -> Cluster:
    options = dict(manager.connection_kwargs)
    plain = redis.connection.SSLConnection if options.get("ssl") else redis.connection.Connection
    nodes = [(node.host, node.port) for node in manager.startup_nodes.values()]
    return _cluster(options.get("connection_class") or plain, options, nodes, getattr(manager, "address_remap", None))


def _from_sentinel_pool(pool: Any) -> SentinelAddress:
    if not pool.is_master:
        raise ConfigurationError("the client reads from replicas: pass one made by master_for(...)")
    pools = [each.connection_pool for each in pool.sentinel_manager.sentinels]
    keepers = [
        (each.connection_class, dict(each.connection_kwargs), _node(each.connection_kwargs, "sentinel"))
        for each in pools
    ]
    kind = _MANAGED.get(pool.connection_class, pool.connection_class)
    return _sentinel(kind, dict(pool.connection_kwargs), pool.service_name, keepers)


# -- from redis-py's settings to ours --------------------------------------------------------------------------------


def _address(connection_class: Any, options: dict[str, Any]) -> Address:
    kind, kept = _kind(connection_class, options), _kept(options)
    place = kept.get("path") or f"{kept.get('host', 'localhost')}:{kept.get('port', 6379)}"
    return Address(kind, kept, f"{place}/{kept.get('db') or 0}")


def _cluster(
    connection_class: Any, options: dict[str, Any], nodes: Sequence[tuple[str, int]], remap: Any = None
) -> Cluster:
    if options.get("db"):
        raise ConfigurationError(
            f"a cluster has no database {options['db']}: leave it out, and use a namespace instead"
        )
    return Cluster(_kind(connection_class, options), _kept(options), nodes, remap)


def _sentinel(
    connection_class: Any,
    options: dict[str, Any],
    service: str,
    keepers: Sequence[tuple[Any, dict[str, Any], tuple[str, int]]],
) -> SentinelAddress:
    hosts = ",".join(f"{host}:{port}" for _, _, (host, port) in keepers)
    sentinels = [_address(kind, {**more, "host": host, "port": port}) for kind, more, (host, port) in keepers]
    kept = _kept(options)
    label = f"{hosts}/{service}/{kept.get('db') or 0}"
    return SentinelAddress(_kind(connection_class, options), kept, label, sentinels, service)


def _kind(connection_class: Any, options: dict[str, Any]) -> str:
    # A subclass may find its server in a way of its own: then host and port say nothing.
    kind = next((k for k, pair in KINDS.items() if connection_class in pair), None)
    if kind is None:
        raise ConfigurationError(f"connections of class {connection_class.__name__} are not supported: pass a url")
    if any(value for name, value in options.items() if "ocsp" in name):
        raise ConfigurationError("OCSP validation is not supported: redis-py has it for blocking connections only")
    return kind


def _kept(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in options.items()
        if value is not None and (name in TAKEN_OVER or name.startswith("ssl"))
    }
