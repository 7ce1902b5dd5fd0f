"""The blocking driver: performs effects on connections of redis-py, one call at a time for each thread."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any

from sync_kit._io.flow import Batch, Effect, Eval, Flow, Pop, T, Wait
from sync_kit._io.scripts import ASKING, Script, blpop
from sync_kit._io.translate import (
    DEMOTED,
    LOST,
    REPLIED,
    UNKNOWN_SCRIPT,
    element,
    given,
    lost,
    outcome,
    sent_again,
    timed_out,
)
from sync_kit.errors import SyncKitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.connection import AbstractConnection

    from sync_kit._io.address import Address

_POP_SLICE = 1.0
"""A thread waits no longer than this for a hint, so that it can be asked to end."""


class BlockingDriver(ABC):
    """Performs flows in the calling thread. May be shared by threads."""

    def run(self, flow: Flow[T]) -> T:
        """Perform `flow` and return its result."""
        try:
            effect = next(flow)
            while True:
                try:
                    reply = self.perform(effect)
                except Exception as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    def perform(self, effect: Effect) -> Any:
        """Perform one effect and return what it answers."""
        if isinstance(effect, Eval):
            return self._eval(effect)
        if isinstance(effect, Pop):
            return self._pop(effect)
        if isinstance(effect, Batch):
            return self._batch(effect.calls)
        if isinstance(effect, Wait):
            return effect.event.wait(effect.seconds)  # type: ignore[call-arg]
        return time.sleep(effect.seconds)

    @abstractmethod
    def close(self) -> None:
        """Close every idle connection. The driver stays usable."""

    @abstractmethod
    def _eval(self, effect: Eval) -> Any: ...

    @abstractmethod
    def _pop(self, effect: Pop) -> bytes | None: ...

    @abstractmethod
    def _batch(self, calls: Sequence[Eval]) -> list[Any]: ...


class ServerDriver(BlockingDriver):
    """For one server: a connection serves one call, or one batch, at a time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: dict[float, deque[AbstractConnection]] = {}

    def close(self) -> None:
        """See `BlockingDriver`."""
        for idle in list(self._idle.values()):  # threads add to it
            while idle:
                idle.pop().disconnect()

    def _eval(self, effect: Eval) -> Any:
        packed = effect.script.call(effect.keys, effect.args)
        (reply,) = self._exchange((packed,), effect.deadline or self._address.timeout)
        if isinstance(reply, Exception):
            return given(self._answers((effect,), [reply])[0])
        return reply

    def _batch(self, calls: Sequence[Eval]) -> list[Any]:
        return self._answers(calls, self._send(calls, Script.call))

    def _answers(self, calls: Sequence[Eval], replies: list[Any]) -> list[Any]:
        """What calls end with. Some are sent once more, whole: the second time nothing is left to be found out."""
        again = [index for index, call in enumerate(calls) if sent_again(call, replies[index])]
        if any(not isinstance(replies[index], UNKNOWN_SCRIPT) for index in again):
            self.close()  # what broke one connection may just be breaking the idle ones
        if again:
            more = self._send([calls[index] for index in again], Script.whole)
            for index, reply in zip(again, more, strict=True):
                replies[index] = reply
        return [outcome(self._address.label, call, reply) for call, reply in zip(calls, replies, strict=True)]

    def _send(self, calls: Sequence[Eval], pack: Callable[..., bytes]) -> list[Any]:
        packed = [pack(call.script, call.keys, call.args) for call in calls]
        timeout = max([call.deadline or self._address.timeout for call in calls], default=0)
        return self._exchange(packed, timeout)

    def _pop(self, effect: Pop) -> bytes | None:
        packed, limit = [self._blpop(effect)], _POP_SLICE + self._address.timeout
        (reply,) = self._exchange(packed, limit)
        if isinstance(reply, DEMOTED):
            self.close()
            (reply,) = self._exchange(packed, limit)
        return element(given(outcome(self._address.label, effect, reply)))

    def asking(self, effect: Eval | Pop) -> Any:
        """Perform an effect on a node to which its slot is on the way: `ASKING` is for the next command only."""
        if isinstance(effect, Pop):
            packed, limit = self._blpop(effect), _POP_SLICE + self._address.timeout
        else:
            packed = effect.script.whole(effect.keys, effect.args)
            limit = effect.deadline or self._address.timeout
        answer = given(outcome(self._address.label, effect, self._exchange([ASKING, packed], limit)[1]))
        return element(answer) if isinstance(effect, Pop) else answer

    def _blpop(self, effect: Pop) -> bytes:
        return blpop(effect.keys, min(effect.seconds, _POP_SLICE))

    def _exchange(self, packed: Sequence[bytes], timeout: float) -> list[Any]:
        """Send commands in one write; their replies, and as values what came instead of a reply."""
        replies: list[Any] = []
        try:
            if packed:
                self._converse(packed, timeout, replies)
        except (*LOST, SyncKitError) as error:
            failure = error if timed_out(error) else lost(error)
            replies += [failure] * (len(packed) - len(replies))
        return replies

    def _converse(self, packed: Sequence[bytes], timeout: float, replies: list[Any]) -> None:
        connection = self._take(timeout)
        try:
            connection.send_packed_command([b"".join(packed)], check_health=False)
            for _ in packed:
                replies.append(_read(connection))
        except BaseException:
            connection.disconnect()
            raise
        self._idle.setdefault(timeout, deque()).append(connection)

    def _take(self, timeout: float) -> AbstractConnection:
        """An idle connection that is still good, else a new one. Connections are kept by their time limit."""
        idle = self._idle.setdefault(timeout, deque())
        while idle:
            connection = idle.pop()
            if _silent(connection):
                return connection
            connection.disconnect()
        return self._address.connect(timeout)


def _read(connection: AbstractConnection) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except REPLIED as error:
        return error


def _silent(connection: AbstractConnection) -> bool:
    """Whether an idle connection has nothing to read: anything else means that the server closed it."""
    try:
        return not connection.can_read(timeout=0)
    except LOST:
        return False
