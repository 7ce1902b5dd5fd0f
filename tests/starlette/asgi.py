"""An ASGI client in the hands of the test: it reads as slowly as it likes, and goes when it likes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE = 10.0


class Call:
    """One request under way.

    Attributes:
        sent: the messages that the app has sent, and the client has read.
        error: what the app raised to the server.
        ended: is set when the app has ended.
    """

    def __init__(self, spec: str, slow: bool) -> None:
        self.sent: list[Any] = []
        self.error: BaseException | None = None
        self.ended = anyio.Event()
        self._spec = spec
        self._turns, self._reads = anyio.create_memory_object_stream[None](100)
        self._slow = slow
        self._asked = False
        self._gone = anyio.Event()

    @property
    def status(self) -> int:
        """The status of the response."""
        return next(int(message["status"]) for message in self.sent if message["type"] == "http.response.start")

    @property
    def body(self) -> bytes:
        """What came of the body so far."""
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def whole(self) -> bool:
        """Whether the last message has come."""
        return bool(self.sent) and self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body")

    def read(self) -> None:
        """A slow client reads one more message."""
        self._turns.send_nowait(None)

    def go(self) -> None:
        """The client goes away."""
        self._gone.set()

    async def run(self, app: Any, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            self.error = error
        finally:
            self.ended.set()
            self._turns.close()
            self._reads.close()

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self._slow and not self._gone.is_set():
            await self._reads.receive()
        if self._gone.is_set():
            if self._spec >= "2.4":
                raise OSError("the client is gone")
            await anyio.lowlevel.checkpoint()
            return
        self.sent.append(message)


@asynccontextmanager
async def calling(
    app: Any, path: str = "/", *, spec: str = "2.3", slow: bool = False, method: str = "GET", **more: Any
) -> AsyncIterator[Call]:
    """A request that runs beside the block; it goes with the block, and has ended after it."""
    url, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": url,
        "raw_path": url.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
        **more,
    }
    call = Call(spec, slow)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(call.run, app, scope)
            yield call
            call.go()
            await call.ended.wait()


async def asked(app: Any, path: str = "/", **options: Any) -> Call:
    """A request from its beginning to its end."""
    async with calling(app, path, **options) as call:
        await call.ended.wait()
    return call
