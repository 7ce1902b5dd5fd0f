"""Fixtures of the limiter's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ratelimit.counters import TIMED, Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from tests.support.servers import Server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A plain client of the shared server."""
    with server.client() as made:
        yield made


@pytest.fixture
def clock(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The server's clock, in the hands of the test."""
    for name, script in TIMED.items():
        monkeypatch.setattr(f"sync_kit.ratelimit.{name}", script)
    return Clock(client)
