"""Implicit pipelining for asyncio: the calls of one turn of the loop leave in one write.

One connection serves all callers of a loop. A writer task sends what was called since its last
turn; a reader task hands out the replies in order. Rules that keep this right:

* A call that is cancelled before it is written is never sent; one that is cancelled later keeps its
  place, and its reply is dropped. So no reply ever reaches another caller.
* When the connection breaks, every call on it ends in a `ConnectionLost`; the next call connects again.
* Errors are results of the futures, not exceptions: nobody has to look at the outcome of a call that was given up.
* Time limits are looked after by a tick that only runs while calls are outstanding. What is overdue
  is given one more tick and some turns of the loop: if the loop was busy, not Redis, replies come then.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio

from sync_kit._io.translate import DEMOTED, LOST, REPLIED, lost
from sync_kit.errors import Unavailable

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from sync_kit._io.address import Address

TICK = 0.025
TURNS = 4
"""Turns of the loop in which a reply that is in the socket reaches its caller: poll, read, parse, and one to spare."""
GOODBYE = 0.2
"""Seconds that a server may take to answer the end of a TLS connection."""
HANDFUL = 32
"""Replies handed out in one go. Their callers run before the next handful, so the server works meanwhile."""


async def open_connection(address: Address) -> AbstractConnection:
    """A connected connection, within the address's `connect_timeout`; raises one of `LOST`."""
    if address.resolves:
        await asyncio.get_running_loop().run_in_executor(None, address.resolve)
    connection = address.async_connection()
    try:
        # Not asyncio.wait_for: before Python 3.12 it may swallow a cancellation that comes with the result.
        with anyio.fail_after(address.connect_timeout):
            await connection.connect()
            await address.async_check(connection)
    except BaseException:
        await close_connection(connection, address)
        raise
    return connection


async def close_connection(connection: AbstractConnection, address: Address) -> None:
    """Close a connection, whatever is cancelled.

    TLS says goodbye to the server first. That takes some turns of the loop: one that ended meanwhile would leave
    the socket open, and uvloop could not be closed.
    """
    if address.kind == "tls":
        with anyio.move_on_after(GOODBYE, shield=True):
            try:
                await connection.disconnect()
            except LOST:
                pass
    await connection.disconnect(nowait=True)


class Call:
    """One command and the future of its reply."""

    __slots__ = ("expires", "future", "packed", "timeout")

    def __init__(self, packed: bytes, future: asyncio.Future[Any], timeout: float, expires: float) -> None:
        self.packed = packed
        self.future = future
        self.timeout = timeout
        self.expires = expires


class Pipeline:
    """The shared connection of one event loop.

    Args:
        address: where to connect; connecting is limited by its `connect_timeout`. A connection on
            which nothing was heard for its `timeout` while a call waited is given up.

    Attributes:
        retired: the connection is to be closed as soon as no call is on it; calls should go elsewhere.
        cancelled_at: when its task was cancelled from outside, as an event loop does at its end; else None.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._queued: list[Call] = []
        self._sent: deque[Call] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._reason: Exception | None = None
        self._connected = False
        self._replies = 0
        self._counted = 0
        self._heard = 0.0
        self._ticking = False
        self.retired = False
        self.cancelled_at: float | None = None

    def call(self, packed: bytes, timeout: float) -> asyncio.Future[Any]:
        """Send one command in this turn of the loop.

        The future's result is the reply, or an exception: the server's error reply, `ConnectionLost`, `TimeoutError`.
        """
        now = self._loop.time()
        future: asyncio.Future[Any] = self._loop.create_future()
        allowed = timeout if self._connected else timeout + self._address.connect_timeout
        self._queued.append(Call(packed, future, timeout, now + allowed))
        if self._task is None:
            # A fresh context: the task must not keep the first caller's context variables alive.
            self._task = contextvars.Context().run(self._loop.create_task, self._serve())
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        if not self._ticking:
            self._ticking, self._counted, self._heard = True, self._replies, now
            self._loop.call_later(TICK, self._tick, now)
        return future

    def retire(self) -> None:
        """Close the connection as soon as no call is on it."""
        self.retired = True
        if not self._ticking:
            self._rest()

    async def aclose(self) -> None:
        """Close the connection; calls that are still on it end in `ConnectionLost`."""
        task = self._task
        if task is not None:
            closed = Unavailable("the kit was closed during the call: whether it was carried out is not known")
            self._end(task, closed)
            await asyncio.wait([task])
            if self._task is task:  # it was cancelled before its first step
                self._fail(closed)

    def _end(self, task: asyncio.Task[None], reason: Exception) -> None:
        self._reason = reason
        task.cancel()

    async def _serve(self) -> None:
        connection = None
        try:
            connection = await self._connect()
            await self._exchange(connection)
        except BaseException as error:
            if self._reason is None and isinstance(error, asyncio.CancelledError):
                self.cancelled_at = self._loop.time()
            self._fail(self._reason or error)
            if not isinstance(error, Exception):
                raise
        finally:
            if connection is not None:
                await close_connection(connection, self._address)

    async def _connect(self) -> AbstractConnection:
        connection = await open_connection(self._address)
        now = self._loop.time()
        self._connected, self._heard = True, now
        for call in self._queued:
            call.expires = now + call.timeout
        return connection

    async def _exchange(self, connection: AbstractConnection) -> None:
        reader = asyncio.ensure_future(self._read(connection))
        writer = asyncio.ensure_future(self._write(connection))
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            reader.cancel()
            writer.cancel()
            ended = await asyncio.gather(reader, writer, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            while not self._queued:
                self._wake = self._loop.create_future()
                await self._wake
            batch = [call for call in self._queued if not call.future.done()]
            self._queued.clear()
            if not batch:
                continue
            self._sent.extend(batch)
            await connection.send_packed_command(b"".join([call.packed for call in batch]), check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        sent = self._sent
        while True:
            try:
                reply = await connection.read_response(disable_decoding=True, disconnect_on_error=False)
            except REPLIED as error:
                reply = error
                if isinstance(error, DEMOTED):
                    self.retire()
            self._replies += 1
            future = sent.popleft().future
            if not future.done():
                future.set_result(reply)
            if self._replies % HANDFUL == 0:
                await asyncio.sleep(0)

    def _fail(self, error: BaseException) -> None:
        self._connected, self._reason, self._wake, self._task = False, None, None, None
        calls = [*self._sent, *self._queued]
        self._sent.clear()
        self._queued.clear()
        for call in calls:
            if not call.future.done():
                call.future.set_result(lost(error))

    def _rest(self) -> None:
        self._ticking = False
        if self.retired and self._task is not None:
            given_up = "the connection was given up during the call: whether it was carried out is not known"
            self._end(self._task, Unavailable(given_up))

    def _tick(self, before: float) -> None:
        if not (self._sent or self._queued):
            self._rest()
            return
        now = self._loop.time()
        if self._replies != self._counted:
            self._counted, self._heard = self._replies, now
        self._settle(before, self._replies, TURNS)
        self._loop.call_later(TICK, self._tick, now)

    def _settle(self, before: float, replies: int, turns: int) -> None:
        """End what was overdue at the tick `before`, unless a reply comes in the next turns: then the loop is busy."""
        if replies != self._replies:
            return
        if turns:
            self._loop.call_soon(self._settle, before, replies, turns - 1)
        else:
            self._expire(before)

    def _expire(self, before: float) -> None:
        for call in (*self._sent, *self._queued):
            if call.expires < before and not call.future.done():
                call.future.set_result(asyncio.TimeoutError())
        oldest = self._sent[0] if self._sent else None
        silent = before - self._heard > self._address.timeout
        if oldest is not None and oldest.expires < before and silent and self._task is not None:
            self._end(self._task, asyncio.TimeoutError("nothing was heard on the connection"))
