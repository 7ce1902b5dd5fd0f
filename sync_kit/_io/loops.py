"""What sync_kit needs to know of a running event loop: its identity, a way in for threads, its beat."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = logging.getLogger("sync_kit")

BEAT = 1.0
LATE = 2.0
"""Seconds without a turn of the loop after which it is reported."""


def current_token() -> Any:
    """The running asyncio loop or trio token, or None outside of both."""
    loop = asyncio._get_running_loop()
    if loop is not None:
        return loop
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


def current_task() -> Any:
    """The running task of asyncio or trio; outside of both, the identity of the thread."""
    if asyncio._get_running_loop() is not None:
        return asyncio.current_task()
    return sys.modules["trio"].lowlevel.current_task() if current_token() is not None else threading.get_ident()


def is_cancelled(task: Any) -> bool:
    """Whether somebody cancelled a task of asyncio, as an event loop does at its end; not known before Python 3.11."""
    cancelling: Any = getattr(task, "cancelling", None)
    return cancelling is not None and (cancelling() > 0 or task.done())


def _nothing() -> None:
    """What a thread asks a trio loop to do, to learn whether it still runs."""


class Loop:
    """One event loop, seen from threads.

    `beat` is when the loop last ran (monotonic seconds). It is kept up while somebody `watch`es,
    so that a thread can tell a busy loop from a dead one. A beat that comes late is reported.
    """

    def __init__(self, token: Any) -> None:
        self._token = token
        self._watchers: dict[object, None] = {}
        self._beating = False
        self._late: deque[tuple[float, float]] = deque(maxlen=60)
        self._tasks: set[object] = set()
        self.beat = time.monotonic()

    @property
    def is_asyncio(self) -> bool:
        """Whether this is an asyncio loop (uvloop included)."""
        return isinstance(self._token, asyncio.AbstractEventLoop)

    @property
    def ended(self) -> bool:
        """Whether the loop can run nothing any more."""
        if self.is_asyncio:
            return bool(self._token.is_closed())
        try:
            self._token.run_sync_soon(_nothing)
        except RuntimeError:
            return True
        return False

    def call_soon(self, call: Callable[[], Any]) -> None:
        """Run `call` on the loop, from any thread; a loop that has ended is ignored."""
        try:
            if self.is_asyncio:
                self._token.call_soon_threadsafe(call)
            else:
                self._token.run_sync_soon(call)
        except RuntimeError:
            return  # the loop is closed: whatever it owned has ended with it

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `await work()` in a task of its own, which nobody waits for. Call on the loop. It must not raise."""
        if self.is_asyncio:
            task = contextvars.Context().run(self._token.create_task, work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            sys.modules["trio"].lowlevel.spawn_system_task(work, context=contextvars.Context())

    def watch(self, watcher: object) -> None:
        """Keep `beat` up to date until `unwatch`. Call on the loop. The text of `watcher` says what is at stake."""
        self._watchers[watcher] = None
        self.beat = time.monotonic()
        if not self._beating:
            self._beating = True
            self._start()

    def lag(self, since: float) -> float:
        """The longest time for which it did not run when it had to, in the beats since then (monotonic seconds)."""
        now = time.monotonic()
        return max(0.0, now - self.beat - BEAT, *(late for beat, late in list(self._late) if beat >= since))

    def unwatch(self, watcher: object) -> None:
        """Undo `watch`. Call on the loop, or when it has ended."""
        self._watchers.pop(watcher, None)

    def _beat(self) -> None:
        late, self.beat = time.monotonic() - self.beat - BEAT, time.monotonic()
        self._late.append((self.beat, late))
        if late > LATE and self._watchers:
            some = [*map(str, list(self._watchers)[:3]), *(["..."] if len(self._watchers) > 3 else [])]
            log.warning("an event loop did not run for %.1f s, and what it holds was kept: %s", late, ", ".join(some))

    def _start(self) -> None:
        if self.is_asyncio:
            self._token.call_later(BEAT, self._pulse)
        else:
            sys.modules["trio"].lowlevel.spawn_system_task(self._trio_pulse, name="sync_kit beat")

    def _pulse(self) -> None:
        self._beat()
        if self._watchers:
            self._token.call_later(BEAT, self._pulse)
        else:
            self._beating = False

    async def _trio_pulse(self) -> None:
        trio = sys.modules["trio"]
        while self._watchers:
            await trio.sleep(BEAT)
            self._beat()
        self._beating = False
