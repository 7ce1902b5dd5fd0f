"""The async drivers: perform effects on asyncio (one shared connection) and on trio (threads)."""

from __future__ import annotations

import asyncio
import contextvars
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import anyio.lowlevel
import anyio.to_thread

from sync_kit._io.flow import Batch, Effect, Eval, Flow, Pop, T, Wait
from sync_kit._io.pipeline import Pipeline, close_connection, open_connection
from sync_kit._io.scripts import ASKING, Script, blpop
from sync_kit._io.translate import DEMOTED, LOST, REPLIED, element, given, lost, outcome, sent_again

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from redis.asyncio.connection import AbstractConnection

    from sync_kit._io.address import Address
    from sync_kit._io.blocking import BlockingDriver

_THREADS = 40
ENDING = 1.0
"""Seconds after all tasks of a loop were cancelled in which it is taken to be at its end."""
Outcome = tuple[Any, BaseException | None, BaseException | None]
"""What work ended with: a result or an error, and the cancellation that came meanwhile."""


class AsyncDriver(Protocol):
    """What async facades use: performs flows for the tasks of one event loop."""

    async def run(self, flow: Flow[T]) -> T:
        """Perform `flow` and return its result. A checkpoint, like every await here."""
        ...

    async def aclose(self) -> None:
        """Close the connections of this loop; calls under way fail with `Unavailable`."""
        ...


class BaseDriver(ABC):
    """Performs flows; what an effect means is said below."""

    async def run(self, flow: Flow[T]) -> T:
        """See `AsyncDriver`."""
        try:
            effect = next(flow)
        except StopIteration as stop:
            await self._checkpoint()
            return stop.value  # type: ignore[no-any-return]
        try:
            while True:
                try:
                    answer = await self._begin(effect)
                    if isinstance(answer, Exception):
                        answer = await self._after(effect, answer)
                except Exception as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    def perform(self, effect: Effect) -> Awaitable[Any]:
        """Perform one effect; awaited, it is the answer."""
        if isinstance(effect, Eval):
            return self._eval(effect)
        if isinstance(effect, Pop):
            return self._pop(effect)
        if isinstance(effect, Batch):
            return self._batch(effect) if effect.calls else _nothing()
        if isinstance(effect, Wait):
            return _until_set(effect)
        return anyio.sleep(effect.seconds)

    def _begin(self, effect: Effect) -> Awaitable[Any]:
        """What a flow waits for: the answer of `effect`, or an exception that `_after` looks into."""
        return self.perform(effect)

    async def _after(self, effect: Effect, error: Exception) -> Any:  # noqa: ARG002
        raise error

    async def _checkpoint(self) -> None:
        await anyio.lowlevel.checkpoint()

    @abstractmethod
    def _eval(self, effect: Eval) -> Awaitable[Any]: ...

    @abstractmethod
    def _pop(self, effect: Pop) -> Awaitable[bytes | None]: ...

    @abstractmethod
    def _batch(self, effect: Batch) -> Awaitable[list[Any]]: ...


async def _until_set(effect: Wait) -> None:
    with anyio.move_on_after(effect.seconds):
        await cast("anyio.Event", effect.event).wait()


async def _nothing() -> list[Any]:
    await anyio.lowlevel.checkpoint()
    return []


class AsyncioDriver(BaseDriver):
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

    def retire(self) -> None:
        """Close what is idle now, and the rest as soon as it is. Later calls connect anew."""
        self._pipeline.retire()
        if self._keeper is not None:
            self._keeper.cancel()

    def _begin(self, effect: Effect) -> Awaitable[Any]:
        """For a script the pipeline's own future: on the hot path a coroutine in between costs as much as the call."""
        if isinstance(effect, Eval):
            packed = effect.script.call(effect.keys, effect.args)
            if self._pipeline.cancelled_at is not None and self._ending():
                return self._once(packed, effect.deadline or self._address.timeout)
            return self._pipeline.call(packed, effect.deadline or self._address.timeout)
        return self.perform(effect)

    async def _after(self, effect: Effect, error: Exception) -> Any:
        if not isinstance(effect, Eval):
            raise error
        return given((await self._answers((effect,), [error]))[0])

    async def _checkpoint(self) -> None:
        await asyncio.sleep(0)

    async def _eval(self, effect: Eval) -> Any:
        answer = await self._begin(effect)
        return await self._after(effect, answer) if isinstance(answer, Exception) else answer

    async def _batch(self, effect: Batch) -> list[Any]:
        return await self._answers(effect.calls, await self._send(effect.calls, Script.call))

    async def _send(self, calls: Sequence[Eval], pack: Callable[..., bytes]) -> list[Any]:
        """Send calls in one write; their replies, and as values what came instead of a reply."""
        packed = [(pack(call.script, call.keys, call.args), call.deadline or self._address.timeout) for call in calls]
        if self._ending():
            return [await self._once(*each) for each in packed]
        futures = [self._pipeline.call(*each) for each in packed]
        return [await future for future in futures]

    def _ending(self) -> bool:
        """Whether the loop is about to end: a task that is started now would be torn apart."""
        cancelled_at = self._pipeline.cancelled_at
        if cancelled_at is not None and asyncio.get_running_loop().time() - cancelled_at > ENDING:
            self._pipeline = Pipeline(self._address)
            return False
        return cancelled_at is not None

    async def _once(self, packed: bytes, limit: float) -> Any:
        """Send one command on a connection for it alone, which leaves nothing behind."""
        try:
            connection = await open_connection(self._address)
            try:
                return await _exchange(connection, [packed], limit)
            finally:
                await close_connection(connection, self._address)
        except LOST as error:
            return lost(error)

    async def _answers(self, calls: Sequence[Eval], replies: list[Any]) -> list[Any]:
        """What calls end with. Some are sent once more, whole: the second time nothing is left to be found out."""
        again = [index for index, call in enumerate(calls) if sent_again(call, replies[index])]
        if again:
            self._leave_retired()
            more = await self._send([calls[index] for index in again], Script.whole)
            for index, reply in zip(again, more, strict=True):
                replies[index] = reply
        return [outcome(self._address.label, call, reply) for call, reply in zip(calls, replies, strict=True)]

    def _leave_retired(self) -> None:
        """After the server has become a replica: go on with a new connection, which may lead to another one."""
        if self._pipeline.retired:
            self._pipeline = Pipeline(self._address)

    async def _pop(self, effect: Pop) -> bytes | None:
        """Blocking reads have connections of their own, so that nothing waits behind what waits."""
        packed, limit = [blpop(effect.keys, effect.seconds)], effect.seconds + self._address.timeout
        reply = await self._alone(packed, limit)
        if isinstance(reply, DEMOTED):
            await self._close_waiting()
            reply = await self._alone(packed, limit)
        return element(given(outcome(self._address.label, effect, reply)))

    async def asking(self, effect: Eval | Pop) -> Any:
        """Perform an effect on a node to which its slot is on the way: `ASKING` is for the next command only."""
        if isinstance(effect, Pop):
            packed, limit = blpop(effect.keys, effect.seconds), effect.seconds + self._address.timeout
        else:
            packed = effect.script.whole(effect.keys, effect.args)
            limit = effect.deadline or self._address.timeout
        answer = given(outcome(self._address.label, effect, await self._alone([ASKING, packed], limit)))
        return element(answer) if isinstance(effect, Pop) else answer

    async def _alone(self, packed: list[bytes], limit: float) -> Any:
        """Send commands on a connection that is not shared; the last reply, or what came instead, as value."""
        try:
            reply = await _exchange(connection := await self._free(), packed, limit)
        except LOST as error:
            return lost(error)
        if self._keeper is None or self._keeper.done():  # closed meanwhile
            await close_connection(connection, self._address)
        else:
            self._waiting.append(connection)
        return reply

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
            await self._close_waiting()

    async def _close_waiting(self) -> None:
        while self._waiting:
            await close_connection(self._waiting.pop(), self._address)


async def _exchange(connection: AbstractConnection, packed: list[bytes], limit: float) -> Any:
    """Send commands and read their replies; the last one, or the error that it is, as value."""
    reply: Any = None
    try:
        await connection.send_packed_command(b"".join(packed), check_health=False)
        with anyio.fail_after(limit):
            for _ in packed:
                try:
                    reply = await connection.read_response(disable_decoding=True)
                except REPLIED as error:
                    reply = error
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return reply


async def _silent(connection: AbstractConnection) -> bool:
    """Whether an idle connection has nothing to read: anything else means that the server closed it."""
    readable: Any = getattr(connection, "can_read", None) or connection.can_read_destructive  # redis-py 8, before
    try:
        return not await readable()
    except LOST:
        return False


async def to_the_end(work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, BaseException | None]:
    """Await `work()` however often the caller is cancelled; answers its result, and the cancellation that came.

    The caller must raise that cancellation again when it has cleaned up. If the work fails, a cancellation that
    came goes before its error. A native `Task.cancel` of asyncio ignores shields, so there it is a task of its own.
    """
    finish = _finish_on_trio if asyncio._get_running_loop() is None else _finish_on_asyncio
    result, failed, cancelled = await finish(work)
    if failed is not None:
        raise cancelled or failed from (failed if cancelled else failed.__cause__)
    return result, cancelled


async def _finish_on_asyncio(work: Callable[[], Coroutine[Any, Any, Any]]) -> Outcome:
    task, cancelled = asyncio.ensure_future(work()), None
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError as first:
        cancelled = first
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as another:
                cancelled = cancelled or another
    failed = task.exception()
    return (None if failed else task.result()), failed, cancelled


async def _finish_on_trio(work: Callable[[], Coroutine[Any, Any, Any]]) -> Outcome:
    result, failed, cancelled = None, None, None
    with anyio.CancelScope(shield=True):
        try:
            result = await work()
        except Exception as error:
            failed = error
    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class() as error:
        cancelled = error
    return result, failed, cancelled


class TrioDriver(BaseDriver):
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

    async def _batch(self, effect: Batch) -> list[Any]:
        answers: list[Any] = await anyio.to_thread.run_sync(self._blocking.perform, effect, limiter=self._calls)
        return answers

    async def _pop(self, effect: Pop) -> bytes | None:
        came: bytes | None = await anyio.to_thread.run_sync(self._blocking.perform, effect, limiter=self._waits)
        return came
