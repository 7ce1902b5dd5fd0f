"""Small helpers of these tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio


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
    """Start an app and end it, as a server does. Raises what the app raises, which has to tell the server as well."""
    answers: list[str] = []

    async def live() -> None:
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, str]:
            return {"type": next(messages)}

        async def send(message: Any) -> None:
            answers.append(message["type"])

        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        except Exception:
            assert answers == ["lifespan.startup.failed"]
            raise

    anyio.run(live)
    assert answers == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
