"""Small helpers of these tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient


def codes(client, *paths: str, **options) -> list[int]:
    """The status codes of some GETs, one after the other."""
    return [client.get(path, **options).status_code for path in paths]


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a condition, with a deadline; returns what it answered."""
    ends = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.01)
    return answer


def started(app: Any) -> None:
    """Start an app and end it, as a server does."""
    with TestClient(app):
        pass
