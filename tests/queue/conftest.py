"""What the tests of queues share."""

from __future__ import annotations

import pytest

from tests.queue.hands import Hands


@pytest.fixture
def hands(kit):
    return Hands(kit)


@pytest.fixture
def client(server):
    with server.client() as made:
        yield made
