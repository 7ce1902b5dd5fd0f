"""A TCP proxy that puts the server of the bench further away: every byte is half of the delay under way in either direction.

`with far(2) as port:` runs one as a process of its own. It reads at once and writes later, in order, so that what it adds is
latency and not a limit; its own work is about 30 microseconds a message. The TCP handshake is not delayed, and there is room for about
500 connections (select, because the time limits of epoll are whole milliseconds)."""
from __future__ import annotations

import asyncio
import contextlib
import selectors
import subprocess
import sys
from collections import deque
from pathlib import Path

from common import HOST, SERVER_PORT


class Road:
    """All that is under way. Everything takes as long, so what came first is due first."""

    def __init__(self, seconds: float) -> None:
        self.loop, self.seconds, self.under_way = asyncio.get_running_loop(), seconds, deque()

    def send(self, arrive, *args) -> None:
        due = self.loop.time() + self.seconds
        if not self.under_way:
            self.loop.call_at(due, self.deliver)
        self.under_way.append((due, arrive, args))

    def deliver(self) -> None:
        while self.under_way and self.under_way[0][0] <= self.loop.time():
            _, arrive, args = self.under_way.popleft()
            arrive(*args)
        if self.under_way:
            self.loop.call_at(self.under_way[0][0], self.deliver)


class End(asyncio.Protocol):
    """One end of a connection; what it receives goes to the other end."""

    def __init__(self, road: Road, other: End | None = None) -> None:
        self.road, self.other = road, other

    def connection_made(self, transport) -> None:
        self.transport = transport
        if self.other is None:
            transport.pause_reading()
            self.connecting = asyncio.ensure_future(self.connect())

    async def connect(self) -> None:
        _, self.other = await self.road.loop.create_connection(lambda: End(self.road, self), HOST, SERVER_PORT)
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.road.send(self.other.transport.write, data)

    def connection_lost(self, _) -> None:
        if self.other:
            self.road.send(self.other.transport.close)


@contextlib.contextmanager
def far(delay_ms: float):
    p = subprocess.Popen([sys.executable, __file__, str(delay_ms)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
    try:
        yield int(p.stdout.readline())
    finally:
        p.kill()
        p.wait()


async def main() -> None:
    road = Road(float(sys.argv[1]) / 2000)
    server = await road.loop.create_server(lambda: End(road), HOST, 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(main())
