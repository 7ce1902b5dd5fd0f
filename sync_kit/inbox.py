"""Where the waiters of a process are called by name: one inbox, and one connection, for all of them.

A call is a hint: whoever is called asks for himself, and whoever is not asks now and then. For the rooms of sync_kit.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import anyio

from sync_kit._io.flow import Pop, Sleep, Wait
from sync_kit.errors import SyncKitError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from sync_kit._io.flow import Flow
    from sync_kit._io.loops import Loop
    from sync_kit.kit import Home, SyncKit

log = logging.getLogger("sync_kit")

BEAT = 1.0
"""Seconds between two signs of life of who waits."""
AGAIN = 0.02
"""Seconds after a first failure until the inbox is read again."""
LINGER = 3.0
"""Seconds that an inbox is read when nobody waits: the next waiter need not connect again."""


class Seat:
    """Where one waiter sits until it is called. A context manager: whoever has left is not called any more.

    Args:
        inbox: where it is called.
        name: by what name.
        loop: its loop, if that is not the one that reads the inbox.
        about: what it waits for; its text is what is said of the waiter.
    """

    __slots__ = ("_called", "_event", "_inbox", "_loop", "about", "name", "taken")

    def __init__(self, inbox: Inbox, name: str, loop: Loop | None, about: Any) -> None:
        self._inbox = inbox
        self._loop = loop
        self._called = False
        self._event: Any = None
        self.name = name
        self.about = about
        self.taken = False

    def __str__(self) -> str:
        return f"a waiter for {self.about}"

    def __enter__(self) -> Self:
        self._inbox.add(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._inbox.remove(self)
        if self.taken and self._loop is not None:
            self._loop.unwatch(self)

    @property
    def inbox_key(self) -> str:
        """The list in Redis where it is called."""
        return self._inbox.key

    @property
    def alive(self) -> bool:
        """Whether the waiter could come if it was called: the loop of a task on trio must still run."""
        return self._loop is None or time.monotonic() - self._loop.beat < 2 * BEAT

    def wait(self, seconds: float) -> Wait:
        """The effect of waiting to be called, for at most `seconds`."""
        if not self.taken:
            self.taken = True
            if self._loop is not None:
                self._loop.watch(self)
        self._inbox.open()
        event = self._event = self._inbox.event(self._loop)
        if self._called:  # looked at after the event is in its place, and `call` does it the other way round
            event.set()
        self._called = False
        return Wait(event, seconds)

    def call(self) -> None:
        """Wake the waiter, or keep it from falling asleep. Called where the inbox is read."""
        self._called = True
        event = self._event
        if event is None:
            return
        if self._loop is None:
            event.set()
        else:
            self._loop.call_soon(event.set)


class Inbox(ABC):
    """The waiters of one event loop, or of the threads of a process, and where they are called.

    Args:
        kit: where it lives.
        key: the list in Redis that is read.
        stay: the flow that says every beat who is still here, if anybody wants to know.
    """

    def __init__(self, kit: SyncKit, key: str, stay: Callable[[list[Seat]], Flow[None]] | None = None) -> None:
        self.key = key
        self.seats: dict[str, list[Seat]] = {}
        self._kit = kit
        self._stay = stay
        self._reader: object = None
        self._failures = 0
        self._lock = threading.RLock()

    @abstractmethod
    def event(self, loop: Loop | None) -> Any:
        """What a waiter waits for."""

    @abstractmethod
    def _read(self, reader: object) -> None:
        """Begin to run `_serve`, and `_ended` at its end."""

    def _left(self) -> bool:
        """Whether the kit was closed since the inbox is read."""
        return False

    def add(self, seat: Seat) -> None:
        """A waiter comes."""
        with self._lock:
            self.seats[seat.name] = [*self.seats.get(seat.name, ()), seat]

    def remove(self, seat: Seat) -> None:
        """A waiter leaves."""
        with self._lock:
            others = [each for each in self.seats.pop(seat.name) if each is not seat]
            if others:
                self.seats[seat.name] = others

    def open(self) -> None:
        """See to it that the inbox is read. Raises `Unavailable` when the kit was closed meanwhile."""
        reader = object()
        with self._lock:
            if self._reader is not None:
                return
            self._reader = reader
        try:
            self._read(reader)
        except BaseException:
            self._ended(reader)
            raise

    def _serve(self) -> Flow[None]:
        """Call who is named; every beat, say who is still here."""
        beat = time.monotonic() + BEAT
        bored = beat + LINGER
        while not self._stops(bored):
            try:
                name = yield Pop((self.key,), beat - time.monotonic())
                for seat in self.seats.get((name or b"").decode(), ()):
                    seat.call()
                if time.monotonic() >= beat:
                    beat = time.monotonic() + BEAT
                    if self._stay is not None:
                        yield from self._stay(self._everybody())
                self._failures = 0
            except SyncKitError as error:
                yield Sleep(self._failed(error))
            if self.seats:
                bored = time.monotonic() + LINGER

    def _stops(self, bored: float) -> bool:
        with self._lock:
            stops = not self.seats and (self._left() or time.monotonic() > bored)
            if stops:
                self._reader = None
            return stops

    def _ended(self, reader: object) -> None:
        """This one does not read any more, perhaps because the kit was closed: whoever waits must look for himself."""
        with self._lock:
            if self._reader is not reader:
                return
            self._reader = None
        self._call_all()

    def _failed(self, error: SyncKitError) -> float:
        """Let everybody ask, who will then find out for himself; returns when to go on.

        At once when it went well before: perhaps only this connection broke.
        """
        self._failures += 1
        self._call_all()
        if self._failures == 1:
            return AGAIN
        if self.seats and self._failures == 2:
            log.warning("who waits cannot be called, and asks now and then itself: %s", error)
        return BEAT

    def _call_all(self) -> None:
        for seat in self._everybody():
            seat.call()

    def _everybody(self) -> list[Seat]:
        return [seat for seats in list(self.seats.values()) for seat in seats]


class LoopInbox(Inbox):
    """Of an asyncio loop: read by a task of the loop."""

    def __init__(
        self, home: Home, kit: SyncKit, key: str, stay: Callable[[list[Seat]], Flow[None]] | None = None
    ) -> None:
        super().__init__(kit, key, stay)
        self._home = home

    def event(self, loop: Loop | None) -> Any:  # noqa: ARG002
        """See `Inbox`."""
        return anyio.Event()

    def open(self) -> None:
        """See `Inbox`."""
        if self._home.closed:
            raise Unavailable("the kit was closed while something was waited for in it")
        super().open()

    def _read(self, reader: object) -> None:
        self._home.spawn(self._run(reader))

    async def _run(self, reader: object) -> None:
        try:
            await self._home.driver.run(self._serve())
        finally:
            self._ended(reader)


class ThreadInbox(Inbox):
    """Of the threads of a process, and of its trio loops: read by a daemon thread."""

    _closings = 0

    def event(self, loop: Loop | None) -> Any:
        """See `Inbox`."""
        return threading.Event() if loop is None else anyio.Event()

    def _read(self, reader: object) -> None:
        self._closings = self._kit.closings
        threading.Thread(target=self._run, args=(reader,), name="sync-kit-inbox", daemon=True).start()

    def _run(self, reader: object) -> None:
        try:
            self._kit.thread_driver.run(self._serve())
        finally:
            self._ended(reader)
            if self._left():
                self._kit.thread_driver.close()

    def _left(self) -> bool:
        return self._closings != self._kit.closings
