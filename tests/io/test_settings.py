"""Several servers: urls and clients for a cluster and for sentinels, and what is refused at construction."""

from __future__ import annotations

from typing import Any

import pytest
import redis
import redis.sentinel
from redis.connection import Connection, SSLConnection

from sync_kit import ConfigurationError, SyncKit
from sync_kit._io.cluster import Cluster
from sync_kit._io.sentinel import SentinelAddress
from sync_kit._io.settings import from_client, from_url


def node(cluster: object, host: str = "n", port: int = 1) -> Any:
    """A connection to one node."""
    assert isinstance(cluster, Cluster)
    made: Any = cluster.at((host, port)).connection(1)
    assert (made.host, made.port) == (host, port)
    return made


@pytest.mark.parametrize(
    ("url", "kind", "login", "label"),
    [
        ("redis+cluster://h", Connection, (None, None), "h:6379"),
        ("valkey+cluster://a:1,b:2,c:3/0", Connection, (None, None), "a:1,b:2,c:3"),
        ("rediss+cluster://u:p%2C%40@a:1,[::1]:2", SSLConnection, ("u", "p,@"), "a:1,::1:2"),
        ("valkeys+cluster://:p@a", SSLConnection, (None, "p"), "a:6379"),
        ("redis+cluster://a?socket_timeout=0.3&client_name=me", Connection, (None, None), "a:6379"),
    ],
)
def test_urls_of_clusters(url, kind, login, label):
    cluster = from_url(url, "ns")
    made = node(cluster)
    assert type(made) is kind
    assert (made.username, made.password) == login
    assert cluster.label == label
    assert repr(SyncKit(url)) == f"<SyncKit {label} namespace='sync-kit'>"


def test_options_of_a_cluster_are_those_of_every_node():
    cluster = from_url("redis+cluster://a,b?socket_timeout=0.3&socket_connect_timeout=0.7&client_name=me", "ns")
    assert isinstance(cluster, Cluster)
    address = cluster.at(("n", 1))
    assert (address.timeout, address.connect_timeout, node(cluster).client_name) == (0.3, 0.7, "me")


@pytest.mark.parametrize(
    ("url", "kind", "label"),
    [
        ("redis+sentinel://h/mymaster", Connection, "h:26379/mymaster/0"),
        ("valkey+sentinel://a:1,b:2/mymaster/3", Connection, "a:1,b:2/mymaster/3"),
        (
            "rediss+sentinel://u:p@a:1/mymaster/0?sentinel_username=s&sentinel_password=t",
            SSLConnection,
            "a:1/mymaster/0",
        ),
        ("valkeys+sentinel://a/mymaster", SSLConnection, "a:26379/mymaster/0"),
    ],
)
def test_urls_of_sentinels(url, kind, label):
    address = from_url(url, "ns")
    assert isinstance(address, SentinelAddress)
    assert type(address.connection(1)) is kind
    assert address.label == label


def test_the_login_of_the_server_is_not_told_to_the_sentinels():
    address: Any = from_url("redis+sentinel://u:p@a:1,b:2/m/3?sentinel_username=s&sentinel_password=t", "ns")
    server = address.connection(1)
    assert (server.username, server.password, server.db) == ("u", "p", 3)
    asked = [each.connection(1) for each in address._sentinels]
    assert [(each.host, each.port, each.username, each.password, each.db) for each in asked] == [
        ("a", 1, "s", "t", 0),
        ("b", 2, "s", "t", 0),
    ]
    plain: Any = from_url("redis+sentinel://u:p@a:1/m/3", "ns")
    (asked_plainly,) = [each.connection(1) for each in plain._sentinels]
    assert (asked_plainly.username, asked_plainly.password) == (None, None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+cluster://:hunter2@h/1", "a cluster has no database 1: leave it out, and use a namespace"),
        ("redis+cluster://:hunter2@h?db=1", "a cluster has no database 1"),
        ("redis+cluster://:hunter2@h/one", r"database in the redis\+cluster:// url must be a number, as in redis\+cl"),
        ("redis+cluster://:hunter2@h:1,g:99999", r"the redis\+cluster:// url cannot be read"),
        ("redis+cluster://:hunter2@h?nonsense=1", "no option 'nonsense'"),
        ("redis+cluster://:hunter2@h?sentinel_password=x", "no option 'sentinel_password'"),
        ("redis+sentinel://:hunter2@h", r"names no service: write redis\+sentinel://host:26379/mymaster/0"),
        ("redis+sentinel://:hunter2@h//0", "names no service"),
        ("redis+sentinel://:hunter2@h/m/zero", r"must be a number, as in redis\+sentinel://host:26379/mymaster/0"),
        ("redis+sentinel://:hunter2@h/m/0?sentinel_pasword=x", "did you mean 'sentinel_password'"),
        ("unix+cluster:///hunter2", r"cannot connect to 'unix\+cluster'.*redis\+cluster://, redis\+sentinel://"),
        ("redis+swarm://:hunter2@h", r"cannot connect to 'redis\+swarm'"),
        ("embedded+cluster://hunter2", "cannot connect to 'embedded"),
    ],
)
def test_a_url_that_cannot_be_used_fails_at_construction_without_its_password(url, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        SyncKit(url)
    assert "hunter2" not in "\n".join([str(caught.value), repr(caught.value), repr(caught.value.__cause__)])


def test_tls_settings_of_a_sentinels_client_are_taken_over():
    manager = redis.sentinel.Sentinel([("s", 1)], sentinel_kwargs={"password": "t", "ssl": True})
    client = manager.master_for("m", ssl=True, ssl_ca_certs="/ca", password="p", db=2)
    address: Any = from_client(client)
    server, (sentinel,) = address.connection(1), [each.connection(1) for each in address._sentinels]
    assert (type(server), server.ca_certs, server.password, server.db) == (SSLConnection, "/ca", "p", 2)
    assert (type(sentinel), sentinel.host, sentinel.port, sentinel.password) == (SSLConnection, "s", 1, "t")
