"""One run of one job or message, from the claim to its outcome."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import math
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.to_thread

from sync_kit._io.loops import current_task
from sync_kit.queue.records import TRACEBACK, Outcome

if TYPE_CHECKING:
    from sync_kit.queue.notes import Notes
    from sync_kit.queue.records import Claim, Word

log = logging.getLogger("sync_kit")

MOST_TEXT = 4000
MOST_TRACEBACK = 4000
MOST_TIMEOUTS = 10
"""A plain function that runs longer than this many timeouts is given up: its thread cannot be ended."""

_CALL = "__call__"
Call = Callable[[], Awaitable[Any]]
Around = Sequence[Callable[[Call], Awaitable[Any]]]
Reason = Literal["timeout", "lost", "shutdown", "cancelled"]


class Stopped(Exception):
    """Why a run has no result of its own: it was told to stop."""


@dataclass(frozen=True)
class Host:
    """What a worker offers to its runs.

    Attributes:
        threads: the limit of threads for plain functions.
        hand_in: takes an outcome before the run has ended.
        stuck: the runs whose thread was given up and has not ended.
        ends: whether the tasks of the worker are being cancelled.
        notes: takes what runs say of themselves.
        worker: its name, if it has one.
    """

    threads: anyio.CapacityLimiter
    hand_in: Callable[[Outcome], None]
    stuck: set[Run]
    ends: Callable[[], bool]
    notes: Notes
    worker: str | None = None


class Run(ABC):
    """A claimed job while it runs here. `stop` may be called from the loop, at any time.

    Args:
        claim: what was taken.
        timeout: seconds that the handler may take, or None.

    Attributes:
        seconds: how long it took until its outcome was known.
        was_told: somebody said that it is to stop; may be read by any thread.
        given_up: it has failed already, although its thread has not ended.
        result: what the handler made.
    """

    def __init__(self, claim: Claim, timeout: float | None) -> None:
        self.claim = claim
        self.timeout = timeout
        self.seconds = 0.0
        self.given_up = False
        self.was_told = False
        self.result: Any = None
        self._began = time.monotonic()
        self._reason: Reason | None = None
        self._scope = anyio.CancelScope()
        self._ran = False

    @property
    def reason(self) -> Reason | None:
        """Why it was stopped, if it was."""
        return self._reason or ("timeout" if self._scope.cancel_called else None)

    def stop(self, reason: Reason) -> None:
        """Cancel the handler; a plain function on a thread cannot be interrupted and goes on."""
        self._reason = self.reason or reason
        self.was_told = True
        self._scope.cancel()

    def context(self) -> contextvars.Context:
        """The context that it runs in: what it sets there is not seen by later ones."""
        return contextvars.copy_context()

    @abstractmethod
    async def outcome(self, host: Host) -> Outcome | None:
        """Run the handler and say what becomes of the job; None if that was handed in before."""

    @abstractmethod
    async def failed(self, error: BaseException, *, final: bool = False) -> Outcome | None:
        """What becomes of the job after an error (`final`: whatever its retries); None if it is given up."""

    def ended(self, word: Word, *, delay: float = 0.0, text: str = "") -> Outcome:
        """An outcome of this run."""
        self.seconds = time.monotonic() - self._began
        return Outcome(self.claim.id, self.claim.generation, word, delay, text)

    async def perform(
        self,
        handler: Callable[..., Any],
        arguments: tuple[Any, ...],
        host: Host,
        *,
        is_async: bool,
        around: Around = (),
    ) -> BaseException | None:
        """Call the handler within its timeout: None when it ended well, `Stopped`, or the error that it ended with.

        The functions `around` it are called with what is inside of them, the outermost last.
        """
        try:
            with self._scope:
                self.result = await self._call_within(handler, arguments, host, is_async, around)
        except asyncio.CancelledError as error:
            if host.ends():
                return Stopped()
            _take_back()
            return error
        except BaseException as error:
            if not _is_of_the_handler(error):
                raise
            return error if self.reason in (None, "timeout") else self._upset(error)
        ended_well = self._ran and self.reason != "timeout"
        return self._verdict() if self._scope.cancelled_caught and not ended_well else None

    async def _call_within(
        self, handler: Callable[..., Any], arguments: tuple[Any, ...], host: Host, is_async: bool, around: Around
    ) -> Any:
        if is_async or around:
            self._limit()
        if is_async and not around:  # as most are
            return await handler(*arguments)
        call: Call = partial(handler, *arguments) if is_async else partial(self._on_thread, handler, arguments, host)
        for outer in around:
            call = partial(outer, call)
        return await call()

    def _limit(self) -> None:
        """From now on, it may take as long as its timeout."""
        if self.timeout is not None:
            self._scope.deadline = anyio.current_time() + self.timeout

    async def _on_thread(self, handler: Callable[..., Any], arguments: tuple[Any, ...], host: Host) -> Any:
        """Call a plain function. What it makes of an `async def` that it wraps is awaited on the loop.

        A thread cannot be interrupted, so only what is around it has a limit: before it, and again after it.
        """
        self._ran, is_limited = False, self._scope.deadline < math.inf
        self._scope.deadline = math.inf
        if self.timeout is None:
            await self._call(handler, arguments, host)
        else:
            await self._watched(handler, arguments, host, self.timeout)
        if inspect.isawaitable(made := self.result):
            self._ran, self.result = False, None
            self._limit()
            return await made
        if is_limited:
            self._limit()
        return made

    async def _call(self, handler: Callable[..., Any], arguments: tuple[Any, ...], host: Host) -> None:
        (self.result,) = await anyio.to_thread.run_sync(_boxed, handler, arguments, limiter=host.threads)
        self._ran = True  # also when a cancellation that came meanwhile is noticed only later

    async def _watched(
        self, handler: Callable[..., Any], arguments: tuple[Any, ...], host: Host, timeout: float
    ) -> None:
        raised, watching = None, anyio.CancelScope(shield=True)
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, watching, timeout, host)
            try:
                await self._call(handler, arguments, host)
            except BaseException as error:
                if not _is_of_the_handler(error):
                    raise
                raised = error  # the task group would wrap it
            finally:
                watching.cancel()
        host.stuck.discard(self)
        if raised is not None:
            raise raised

    async def _watch(self, watching: anyio.CancelScope, timeout: float, host: Host) -> None:
        """A thread cannot be interrupted: say so, and after many timeouts give it up, though not its slot."""
        with watching:
            await anyio.sleep(timeout)
            log.warning(
                "%r runs on a thread for more than its timeout of %g s; it cannot be interrupted", self, timeout
            )
            await anyio.sleep((MOST_TIMEOUTS - 1) * timeout)
            error = TimeoutError(f"still running after {MOST_TIMEOUTS} timeouts of {timeout:g} s, on a thread")
            log.error(
                "%r is given up: %s. Its slot is taken until it ends, and this worker is not healthy", self, error
            )
            host.stuck.add(self)
            outcome = await self.failed(error, final=True)
            self.given_up = True
            if outcome is not None:
                host.hand_in(outcome)

    def _verdict(self) -> BaseException:
        if self.reason == "timeout":
            return TimeoutError(f"the run took longer than {self.timeout:g} s")
        return Stopped()

    def _upset(self, error: BaseException) -> BaseException:
        """A handler that was told to stop raised an error of its own on the way out: that is not the job's failure."""
        log.warning("%r raised while it was stopped (%s)", self, self.reason, exc_info=error)
        return Stopped()


def _boxed(handler: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any]:
    """What a handler makes, in a box: trio's threads refuse coroutines, and one that wraps an `async def` makes one."""
    return (handler(*arguments),)


def is_async(handler: Callable[..., Any]) -> bool:
    """Whether a handler is to be awaited; others run on threads."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, _CALL, None))


def text(error: BaseException) -> str:
    """Type and message of an error, and behind `TRACEBACK` the end of its traceback."""
    said = "".join(traceback.format_exception_only(type(error), error)).strip()[:MOST_TEXT]
    frames = "".join(traceback.format_exception(error)).strip() if error.__traceback__ else ""
    parts = (printable(part).replace(TRACEBACK, "\\0") for part in (said, frames[-MOST_TRACEBACK:]) if part)
    return TRACEBACK.join(parts)


def printable(said: str) -> str:
    """A text that can be encoded, whatever it was."""
    return said.encode("utf-8", "backslashreplace").decode()


def _take_back() -> None:
    """Undo the cancellation of this task that a handler asked for itself."""
    task = current_task()
    while getattr(task, "cancelling", int)():  # before Python 3.11 there is nothing to undo
        task.uncancel()


def _is_of_the_handler(error: BaseException) -> bool:
    """Whether an error is the handler's: any but those that end whoever runs it, and groups in which there is one."""
    if isinstance(error, Exception):
        return True
    if inner := getattr(error, "exceptions", ()):
        return all(map(_is_of_the_handler, inner))
    return not isinstance(error, (KeyboardInterrupt, GeneratorExit, anyio.get_cancelled_exc_class()))
