"""Where plain functions run in tests: on threads that may be left behind, or in the thread that sent."""

from __future__ import annotations

import contextvars
import queue
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from sync_kit._io.loops import Loop, current_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Call:
    """A call that one thread makes for another: what it makes or raises is given to whoever asked for it.

    It runs in a copy of the context of who asked.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._context = _context()
        self._work = work
        self._made: Any = None
        self._raised: BaseException | None = None

    def perform(self) -> None:
        """Make the call. Raises nothing."""
        try:
            self._made = self._context.run(self._work)
        except BaseException as error:
            self._raised = error

    def answer(self) -> Any:
        """What it made; raises what it raised."""
        if self._raised is not None:
            raise self._raised
        return self._made


def _context() -> contextvars.Context:
    """A copy of the context that does not say that an event loop runs: none does on the other thread."""
    context = contextvars.copy_context()
    if (sniffio := sys.modules.get("sniffio")) is not None:
        context.run(sniffio.current_async_library_cvar.set, None)
    return context


async def on_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a plain function on a thread of its own; when the caller is cancelled, that is left behind.

    It is a daemon: a function that never ends keeps neither the test nor the process.
    """
    call, done, loop = Call(partial(function, *arguments)), anyio.Event(), Loop(current_token())

    def work() -> None:
        call.perform()
        loop.call_soon(done.set)

    threading.Thread(target=work, name="sync-kit-test", daemon=True).start()
    await done.wait()
    return call.answer()


class Threads:
    """Where handlers run inline: for async senders on threads that may be left behind, else in the sender's thread."""

    call = staticmethod(on_thread)

    def run(self, work: Callable[[Callable[..., Awaitable[Any]]], Awaitable[Any]]) -> Any:
        """See `sync_kit.jobs.outlet.Threads`."""
        helper = Helper()
        return helper.run(partial(work, helper.call))


class Helper:
    """A thread with an event loop that hands plain functions back, to be called by the thread that waits for it.

    So a plain handler runs where its job was sent: it sees what belongs to that thread, as database transactions do.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Perform async `work` on the helper's loop, and what it hands back in this thread."""
        job = Call(partial(anyio.run, work))

        def helping() -> None:
            job.perform()
            self._calls.put(None)

        threading.Thread(target=helping, name="sync-kit-test", daemon=True).start()
        while (call := self._calls.get()) is not None:
            call()
        return job.answer()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Let the waiting thread call a plain function. It cannot be interrupted, so it is not."""
        call, done, loop = Call(partial(function, *arguments)), anyio.Event(), Loop(current_token())

        def work() -> None:
            call.perform()
            loop.call_soon(done.set)

        self._calls.put(work)
        with anyio.CancelScope(shield=True):
            await done.wait()
        return call.answer()
