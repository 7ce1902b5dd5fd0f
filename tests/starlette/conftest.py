"""What the tests of the Starlette adapter share."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from starlette.testclient import TestClient

BACKENDS: dict[str, dict[str, Any]] = {"asyncio": {}, "uvloop": {"use_uvloop": True}, "trio": {}}


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def ask(request):
    """`ask(app)` is a test client of the app, with lifespan, on one of the backends."""
    clients = []

    def make(app):
        backend: Literal["asyncio", "trio"] = "trio" if request.param == "trio" else "asyncio"
        client = TestClient(app, backend=backend, backend_options=BACKENDS[request.param]).__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def kit(make_kit):
    """The app closes it at its shutdown."""
    made = make_kit()
    yield made
    made.close()
