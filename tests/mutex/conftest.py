"""Fixtures of the mutex's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sync_kit import Mutex
from tests.mutex.tools import History

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sync_kit import SyncKit
    from tests.support.servers import Server


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    """A plain client of the server."""
    with server.client(socket_timeout=5) as made:
        yield made


@pytest.fixture
def mutex(kit: SyncKit) -> Mutex:
    """A mutex with a long lease that does not wait."""
    return Mutex("reports", wait=0, kit=kit)


@pytest.fixture
def history(client: Any) -> Iterator[History]:
    """What critical sections wrote."""
    yield History(client)
    client.delete(History.KEY)
