"""The blocking driver: performs effects on connections of redis-py, one call at a time for each thread."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from sync_kit._io.flow import Batch, Effect, Eval, Flow, Pop, T
from sync_kit._io.scripts import pack
from sync_kit._io.translate import LOST, REPLIED, UNKNOWN_SCRIPT, ConnectionLost, refused, timed_out, unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        if isinstance(effect, Batch):
            return self._batch(effect)
        if isinstance(effect, Pop):
            return self._pop(effect)
        return time.sleep(effect.seconds)

    def close(self) -> None:
        """Close every idle connection. The driver stays usable."""
        for idle in self._idle.values():
            while idle:
                idle.pop().disconnect()

    def _eval(self, effect: Eval) -> Any:
        (outcome,) = self._batch(Batch([effect]))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _batch(self, effect: Batch) -> list[Any]:
        """All calls in one write; those that may have a second try have it together. Errors are values."""
        calls = effect.calls
        if not calls:
            return []
        outcomes = self._outcomes(calls, [call.script.call(call.keys, call.args) for call in calls])
        again = [i for i, call in enumerate(calls) if _may_repeat(call, outcomes[i])]
        if again:
            if not all(isinstance(outcomes[i], UNKNOWN_SCRIPT) for i in again):
                self.close()  # what broke one connection may just be breaking the idle ones
            whole = [calls[i].script.whole(calls[i].keys, calls[i].args) for i in again]
            for i, outcome in zip(again, self._outcomes([calls[i] for i in again], whole), strict=True):
                outcomes[i] = outcome
        return [self._explained(call, outcome) for call, outcome in zip(calls, outcomes, strict=True)]

    def _outcomes(self, calls: Sequence[Eval], packed: Sequence[bytes]) -> list[Any]:
        try:
            return self._exchange(packed, max(call.deadline or self.address.timeout for call in calls))
        except LOST as error:  # while connecting, an error reply is one too
            lost = ConnectionLost(str(error))
            lost.__cause__ = error
            return [lost] * len(calls)

    def _explained(self, call: Eval, outcome: Any) -> Any:
        """An outcome with its error, if it is one, in our words."""
        if not isinstance(outcome, Exception):
            return outcome
        cause = outcome.__cause__ if isinstance(outcome, ConnectionLost) and outcome.__cause__ else outcome
        replied = isinstance(outcome, REPLIED)
        error = refused(call, cause) if replied else unavailable(self.address.label, call, cause)
        error.__cause__ = cause
        return error

    def _pop(self, effect: Pop) -> bool:
        seconds = min(effect.seconds, _POP_SLICE)
        packed = pack("BLPOP", effect.key, f"{seconds:.3f}")
        try:
            (reply,) = self._exchange([packed], _POP_SLICE + self.address.timeout)
        except LOST as error:
            reply = error
        if isinstance(reply, REPLIED):
            raise refused(effect, reply) from reply
        if isinstance(reply, Exception):
            raise unavailable(self.address.label, effect, reply) from reply
        return reply is not None

    def _exchange(self, packed: Sequence[bytes], timeout: float) -> list[Any]:
        """Send all, then read a reply for each. An error reply, or what ended the connection, stands in its place."""
        connection = self._take(timeout)
        outcomes: list[Any] = []
        try:
            connection.send_packed_command([b"".join(packed)], check_health=False)
            while len(outcomes) < len(packed):
                outcomes.append(_reply(connection))
        except LOST as error:
            connection.disconnect()
            return outcomes + [error] * (len(packed) - len(outcomes))
        except BaseException:
            connection.disconnect()
            raise
        self._idle.setdefault(timeout, deque()).append(connection)
        return outcomes

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


def _reply(connection: AbstractConnection) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except REPLIED as error:
        return error


def _may_repeat(call: Eval, outcome: Any) -> bool:
    """Whether a call may be sent once more: the server did not know its script, or it carries an id."""
    if isinstance(outcome, REPLIED):
        return isinstance(outcome, UNKNOWN_SCRIPT)
    lost = isinstance(outcome, (ConnectionLost, *LOST)) and not timed_out(outcome.__cause__ or outcome)
    return call.repeat and lost


def _silent(connection: AbstractConnection) -> bool:
    """Whether an idle connection has nothing to read: anything else means that the server closed it."""
    try:
        return not connection.can_read(timeout=0)
    except LOST:
        return False
