"""The async drivers: perform effects on asyncio (one shared connection) and on trio (threads)."""

from __future__ import annotations

import asyncio
import contextvars
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread

from sync_kit._io.flow import Batch, Effect, Eval, Flow, Pop, Sleep, T
from sync_kit._io.pipeline import Pipeline, open_connection
from sync_kit._io.scripts import pack
from sync_kit._io.translate import LOST, REPLIED, UNKNOWN_SCRIPT, ConnectionLost, refused, unavailable
from sync_kit.errors import SyncKitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from redis.asyncio.connection import AbstractConnection

    from sync_kit._io.address import Address
    from sync_kit._io.blocking import BlockingDriver

_THREADS = 40


class AsyncDriver(Protocol):
    """What async facades use: performs flows for the tasks of one event loop."""

    async def run(self, flow: Flow[T]) -> T:
        """Perform `flow` and return its result. A checkpoint, like every await here."""
        ...

    async def aclose(self) -> None:
        """Close the connections of this loop; calls under way fail with `Unavailable`."""
        ...


class _Driver(ABC):
    async def run(self, flow: Flow[T]) -> T:
        try:
            effect = next(flow)
        except StopIteration as stop:
            await self._checkpoint()
            return stop.value  # type: ignore[no-any-return]
        try:
            while True:
                try:
                    outcome = await self.perform(effect)
                    if isinstance(outcome, Exception):
                        outcome = await self._after(effect, outcome)
                except Exception as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(outcome)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    @abstractmethod
    def perform(self, effect: Effect) -> Awaitable[Any]:
        """Begin one effect. What is awaited is its answer; an exception as answer is looked into by `_after`."""

    @abstractmethod
    async def _after(self, effect: Effect, outcome: Exception) -> Any:
        """What a flow is told after an exception as answer; raises what it ends with."""

    async def _checkpoint(self) -> None:
        await anyio.lowlevel.checkpoint()


class AsyncioDriver(_Driver):
    """For asyncio, with and without uvloop: calls of one turn of the loop share a write (see `pipeline`)."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._pipeline = Pipeline(address)
        self._waiting: deque[AbstractConnection] = deque()
        self._keeper: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        await self._pipeline.aclose()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await asyncio.sleep(0)

    def perform(self, effect: Effect) -> Awaitable[Any]:
        if isinstance(effect, Eval):  # a future, not a coroutine: this is the hot path
            return self._call(effect, effect.script.call(effect.keys, effect.args))
        if isinstance(effect, Batch):
            return self._batch(effect)
        return self._pop(effect) if isinstance(effect, Pop) else anyio.sleep(effect.seconds)

    def _call(self, effect: Eval, packed: bytes) -> asyncio.Future[Any]:
        return self._pipeline.call(packed, effect.deadline or self._address.timeout)

    async def _checkpoint(self) -> None:
        await asyncio.sleep(0)

    async def _batch(self, effect: Batch) -> list[Any]:
        """All calls of one turn of the loop leave in one write."""
        begun = [(call, self.perform(call)) for call in effect.calls]
        return [await self._settled(call, await future) for call, future in begun]

    async def _settled(self, effect: Eval, outcome: Any) -> Any:
        if not isinstance(outcome, Exception):
            return outcome
        try:
            return await self._after(effect, outcome)
        except SyncKitError as error:
            return error

    async def _after(self, effect: Effect, outcome: Exception) -> Any:
        """The second try of a call that did not succeed, if it may have one; else the error that it ends with."""
        assert isinstance(effect, Eval)
        if isinstance(outcome, UNKNOWN_SCRIPT) or _may_repeat(effect, outcome):
            second: Any = await self._call(effect, effect.script.whole(effect.keys, effect.args))
            if not isinstance(second, Exception):
                return second
            outcome = second
        cause = outcome.__cause__ or outcome
        if isinstance(cause, SyncKitError):
            raise cause
        if isinstance(outcome, REPLIED):
            raise refused(effect, outcome) from outcome
        raise unavailable(self._address.label, effect, cause) from cause

    async def _pop(self, effect: Pop) -> bool:
        """Blocking reads have connections of their own, so that nothing waits behind what waits."""
        try:
            reply = await self._blpop(connection := await self._free(), effect)
        except LOST as error:
            raise unavailable(self._address.label, effect, error) from error
        if self._keeper is None or self._keeper.done():  # closed meanwhile
            await connection.disconnect(nowait=True)
        else:
            self._waiting.append(connection)
        if isinstance(reply, Exception):
            raise refused(effect, reply) from reply
        return reply is not None

    async def _free(self) -> AbstractConnection:
        """A connection on which nobody waits and that is still good, else a new one."""
        while self._waiting:
            connection = self._waiting.pop()
            if await _silent(connection):
                return connection
            await connection.disconnect(nowait=True)
        if self._keeper is None or self._keeper.done():
            self._keeper = contextvars.Context().run(asyncio.ensure_future, self._keep())
        return await open_connection(self._address)

    async def _keep(self) -> None:
        """Close the connections on which nobody waits when the loop ends: it cancels its tasks then."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            while self._waiting:
                await self._waiting.pop().disconnect(nowait=True)

    async def _blpop(self, connection: AbstractConnection, effect: Pop) -> Any:
        limit = effect.seconds + self._address.timeout
        try:
            await connection.send_packed_command(pack("BLPOP", effect.key, f"{effect.seconds:.3f}"), check_health=False)
            with anyio.fail_after(limit):
                return await connection.read_response(disable_decoding=True)
        except REPLIED as error:
            return error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise


def _may_repeat(effect: Eval, outcome: Exception) -> bool:
    """Whether a call may be sent once more: it carries an id, and its connection was lost, not closed by us."""
    lost = isinstance(outcome, ConnectionLost) and not isinstance(outcome.__cause__, SyncKitError)
    return lost and effect.repeat


async def _silent(connection: AbstractConnection) -> bool:
    """Whether an idle connection has nothing to read: anything else means that the server closed it."""
    readable: Any = getattr(connection, "can_read", None) or connection.can_read_destructive  # redis-py 8, before
    try:
        return not await readable()
    except LOST:
        return False


async def to_the_end(work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, BaseException | None]:
    """Await `work()` whatever cancels the caller; answers its result, and the cancellation that came meanwhile.

    The caller must raise that cancellation again when it has cleaned up. A native `Task.cancel` of asyncio
    ignores shields, so there the work is a task of its own.
    """
    if asyncio._get_running_loop() is None:
        with anyio.CancelScope(shield=True):
            result = await work()
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except anyio.get_cancelled_exc_class() as cancelled:
            return result, cancelled
        return result, None
    task = asyncio.ensure_future(work())
    try:
        return await asyncio.shield(task), None
    except asyncio.CancelledError as cancelled:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        return task.result(), cancelled


class TrioDriver(_Driver):
    """For trio, which redis-py does not know: effects run on the blocking driver, on threads.

    A thread is never abandoned: an acquire that runs after its clean-up would leave its key behind.
    A cancelled caller therefore waits until the reply, or the time limit, is there.
    """

    def __init__(self, blocking: BlockingDriver) -> None:
        self._blocking = blocking
        self._calls = anyio.CapacityLimiter(_THREADS)
        self._waits = anyio.CapacityLimiter(_THREADS)

    async def aclose(self) -> None:
        """Nothing to do: the connections are the blocking driver's."""

    def perform(self, effect: Effect) -> Awaitable[Any]:
        if isinstance(effect, Sleep):
            return anyio.sleep(effect.seconds)
        limiter = self._waits if isinstance(effect, Pop) else self._calls
        return anyio.to_thread.run_sync(self._blocking.perform, effect, limiter=limiter)

    async def _after(self, _: Effect, outcome: Exception) -> Any:
        raise outcome
