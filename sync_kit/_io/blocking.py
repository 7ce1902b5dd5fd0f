"""The blocking driver: performs effects on connections of redis-py, one call at a time for each thread."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from sync_kit._io.flow import Batch, Effect, Eval, Flow, Pop, T
from sync_kit._io.scripts import pack
from sync_kit._io.translate import LOST, REPLIED, UNKNOWN_SCRIPT, refused, timed_out, unavailable

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

    from sync_kit._io.address import Address

_POP_SLICE = 1.0
"""A thread waits no longer than this for a hint, so that it can be asked to end."""


class BlockingDriver:
    """Performs flows in the calling thread. May be shared by threads: a connection serves one call at a time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: dict[float, deque[AbstractConnection]] = {}

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
            return [self._tmp(c) for c in effect.calls]
        return time.sleep(effect.seconds)

    def _tmp(self, c: Eval) -> Any:
        try:
            return self._eval(c)
        except Exception as e:
            return e

    def close(self) -> None:
        """Close every idle connection. The driver stays usable."""
        for idle in self._idle.values():
            while idle:
                idle.pop().disconnect()

    def _eval(self, effect: Eval) -> Any:
        timeout = effect.deadline or self.address.timeout
        try:
            return self._reply(effect, timeout)
        except LOST as error:
            if timed_out(error) or not effect.repeat:
                raise unavailable(self.address.label, effect, error) from error
        self.close()  # what broke one connection may just be breaking the idle ones
        try:
            return self._reply(effect, timeout)
        except LOST as error:
            raise unavailable(self.address.label, effect, error) from error

    def _reply(self, effect: Eval, timeout: float) -> Any:
        reply = self._exchange(effect.script.call(effect.keys, effect.args), timeout)
        if isinstance(reply, UNKNOWN_SCRIPT):
            reply = self._exchange(effect.script.whole(effect.keys, effect.args), timeout)
        if isinstance(reply, Exception):
            raise refused(effect, reply) from reply
        return reply

    def _pop(self, effect: Pop) -> bool:
        seconds = min(effect.seconds, _POP_SLICE)
        try:
            reply = self._exchange(pack("BLPOP", effect.key, f"{seconds:.3f}"), _POP_SLICE + self.address.timeout)
        except LOST as error:
            raise unavailable(self.address.label, effect, error) from error
        if isinstance(reply, Exception):
            raise refused(effect, reply) from reply
        return reply is not None

    def _exchange(self, packed: bytes, timeout: float) -> Any:
        connection = self._take(timeout)
        try:
            connection.send_packed_command([packed], check_health=False)
            reply = connection.read_response(disable_decoding=True)
        except REPLIED as error:
            reply = error
        except BaseException:
            connection.disconnect()
            raise
        self._idle.setdefault(timeout, deque()).append(connection)
        return reply

    def _take(self, timeout: float) -> AbstractConnection:
        """An idle connection that is still good, else a new one. Connections are kept by their time limit."""
        idle = self._idle.setdefault(timeout, deque())
        while idle:
            connection = idle.pop()
            if _silent(connection):
                return connection
            connection.disconnect()
        self.address.resolve()
        connection = self.address.connection(timeout)
        connection.connect()
        return connection


def _silent(connection: AbstractConnection) -> bool:
    """Whether an idle connection has nothing to read: anything else means that the server closed it."""
    try:
        return not connection.can_read(timeout=0)
    except LOST:
        return False
