"""Fixtures of the tests with several servers: `kit` is on a cluster, or on what sentinels watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from sync_kit import SyncKit
from tests.support.cluster import Cluster, Sentinels
from tests.support.leaks import leaked_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.faces import Face


@pytest.fixture
async def kit(place: Cluster | Sentinels, namespace: str) -> AsyncIterator[SyncKit]:
    """A kit on the `place` of the module."""
    made = SyncKit(place.url, namespace=namespace)
    yield made
    await made.aclose()
    await to_thread.run_sync(made.close)


@pytest.fixture
def driver(kit: SyncKit, face: Face) -> Any:
    """`await driver(effect)` in all four modes."""
    from tests.io.tools import Caller, one

    async def perform(effect: Any) -> Any:
        return await face(Caller(kit)).run(one(effect))

    return perform


@pytest.fixture
def own_sentinels(pytestconfig: pytest.Config) -> Iterator[Sentinels]:
    """A primary, a replica and sentinels for this test alone."""
    with Sentinels(pytestconfig.getoption("server")) as started:
        yield started


@pytest.fixture(autouse=True)
def no_key_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """The check of the house, on every node."""
    place = request.getfixturevalue("place") if "place" in request.fixturenames else None
    yield
    if place is not None:
        try:
            leaked = [key for client in place.clients() for key in leaked_keys(client)]
        finally:
            place.clear()
        assert not leaked, f"keys without TTL left behind: {', '.join(leaked)}"
