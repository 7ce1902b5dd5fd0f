"""The async drivers: perform effects on asyncio (one shared connection) and on trio (threads)."""

from __future__ import annotations

import asyncio
import contextvars
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread

from sync_kit._io.flow import Batch, Effect, Eval, Flow, Pop, T
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
            await anyio.lowlevel.checkpoint()
            return stop.value  # type: ignore[no-any-return]
        try:
            while True:
                try:
                    reply = await self.perform(effect)
                except Exception as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    def perform(self, effect: Effect) -> Awaitable[Any]:
        if isinstance(effect, Eval):
            return self._eval(effect)
        if isinstance(effect, Pop):
            return self._pop(effect)
        if isinstance(effect, Batch):
            return self._batch(effect)
        return anyio.sleep(effect.seconds)

    async def _batch(self, effect: Batch) -> list[Any]:
        out = []
        for c in effect.calls:
            try:
                out.append(await self._eval(c))
            except Exception as e:
                out.append(e)
        return out

    @abstractmethod
    async def _eval(self, effect: Eval) -> Any: ...

    @abstractmethod
    async def _pop(self, effect: Pop) -> bool: ...


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

    async def _eval(self, effect: Eval) -> Any:
        try:
            reply = await self._pipeline.call(
                effect.script.call(effect.keys, effect.args), effect.deadline or self._address.timeout
            )
        except (ConnectionLost, asyncio.TimeoutError) as error:
            reply = await self._again(effect, error)
        if isinstance(reply, UNKNOWN_SCRIPT):
            reply = await self._whole(effect)
        if isinstance(reply, Exception):
            raise refused(effect, reply) from reply
        return reply

    async def _again(self, effect: Eval, error: Exception) -> Any:
        """A call that carries an id may be sent once more after its connection was lost."""
        if not effect.repeat or not isinstance(error, ConnectionLost) or isinstance(error.__cause__, SyncKitError):
            self._fail(effect, error)
        return await self._whole(effect)

    async def _whole(self, effect: Eval) -> Any:
        timeout = effect.deadline or self._address.timeout
        try:
            return await self._pipeline.call(effect.script.whole(effect.keys, effect.args), timeout)
        except (ConnectionLost, asyncio.TimeoutError) as error:
            self._fail(effect, error)

    def _fail(self, effect: Eval, error: Exception) -> NoReturn:
        cause = error.__cause__ or error
        if isinstance(cause, SyncKitError):
            raise cause
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

    async def _eval(self, effect: Eval) -> Any:
        return await anyio.to_thread.run_sync(self._blocking.perform, effect, limiter=self._calls)

    async def _pop(self, effect: Pop) -> bool:
        came: bool = await anyio.to_thread.run_sync(self._blocking.perform, effect, limiter=self._waits)
        return came
