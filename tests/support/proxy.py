"""A real TCP proxy between a client and a server, to make the network slow, deaf or broken."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.support.servers import Server

T = TypeVar("T")


class Proxy:
    """Forwards bytes to `server`, on a port and a thread of its own.

    Set `delay` (seconds, each direction), `drop_replies` and `hold_replies` at any time; `cut`,
    `black_hole` and `refuse` break things, `heal` undoes all of it.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = 0
        self.delay = 0.0
        self.drop_replies = False
        self.hold_replies = False
        self.accepted = 0
        self._drop_all = False
        self._listener: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """The server's url with the proxy's port."""
        return self.server.url.replace(f":{self.server.port}/", f":{self.port}/")

    @property
    def connections(self) -> int:
        """How many connections are open now (`accepted` counts all that ever were)."""
        return len(self._sessions)

    def cut(self) -> None:
        """Close every connection that is open now; new ones are welcome."""
        self._run(self._cut())

    def black_hole(self) -> None:
        """Keep accepting, forward nothing in either direction."""
        self._drop_all = True

    def refuse(self) -> None:
        """Stop listening and close every connection: connecting is refused from now on."""
        self._run(self._refuse())

    def heal(self) -> None:
        """Back to a fast and honest proxy on the same port."""
        self.delay, self.drop_replies, self.hold_replies, self._drop_all = 0.0, False, False, False
        self._run(self._listen())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._listener is not None:
            for listening in self._listener.sockets:
                self._loop.remove_reader(listening)
            await asyncio.sleep(0)  # whom asyncio has accepted already it hands over now; later it would lose him open
            self._listener.close()
            self._listener = None
        await self._cut()

    async def _cut(self) -> None:
        sessions = list(self._sessions)
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        session = self._loop.create_task(self._session(reader, writer))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)
        # here, because one that is cancelled before its first step does not close anything itself
        session.add_done_callback(lambda _: writer.transport.abort())

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        try:
            upstream, to_server = await asyncio.open_connection("127.0.0.1", self.server.port)
        except OSError:
            return
        there = asyncio.ensure_future(self._pump(reader, to_server, lambda: self._drop_all, lambda: False))
        back = asyncio.ensure_future(
            self._pump(upstream, writer, lambda: self._drop_all or self.drop_replies, lambda: self.hold_replies)
        )
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # before anything is awaited: a second cancellation must not leave them open
            to_server.transport.abort()
            writer.transport.abort()
            await end(there, back)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        dropped: Callable[[], bool],
        held: Callable[[], bool],
    ) -> None:
        """Read at once, write `delay` later: the delay is latency, not a limit of throughput."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        writing = asyncio.ensure_future(self._write(waiting, sink, held))
        try:
            while chunk := await source.read(65536):
                if not dropped():
                    waiting.put_nowait((self._loop.time() + self.delay, chunk))
            await waiting.join()
        except OSError:
            pass
        finally:
            await end(writing)

    async def _write(
        self, waiting: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter, held: Callable[[], bool]
    ) -> None:
        while True:
            due, chunk = await waiting.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            while held():
                await asyncio.sleep(0.002)
            sink.write(chunk)
            waiting.task_done()


async def end(*tasks: asyncio.Future[None]) -> None:
    """Cancel and wait; whatever they raise was about the broken connection."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
