"""Where the waiters of a process are called to their turn: one inbox, and one connection.

A release sends the token of the next waiter to the inbox of its process. That is a hint: a waiter asks
when it is called, and whatever is lost on the way is called again within a beat (see `stay.lua`).
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import anyio

from sync_kit._io.flow import Batch, Eval, Pop, Sleep, Wait
from sync_kit._io.scripts import Script
from sync_kit.errors import SyncKitError, Unavailable
from sync_kit.mutex.grant import BEAT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from sync_kit._io.flow import Flow
    from sync_kit._io.loops import Loop
    from sync_kit.kit import Home, SyncKit
    from sync_kit.mutex.grant import Grant
    from sync_kit.mutex.site import Site

log = logging.getLogger("sync_kit")

STAY = Script.load(__name__, "stay")
BATCH = 100
AGAIN = 0.02
"""Seconds after a first failure until the inbox is read again."""
LINGER = 3.0
"""Seconds that an inbox is read when nobody waits: the next waiter need not connect again."""


class Seat:
    """Where one waiter sits until it is called. A context manager: whoever has left is not called any more."""

    __slots__ = ("_called", "_event", "_inbox", "_loop", "grant", "taken")

    def __init__(self, inbox: Inbox, grant: Grant, loop: Loop | None) -> None:
        self._inbox = inbox
        self._loop = loop
        self._called = False
        self._event: Any = None
        self.grant = grant
        grant.inbox = inbox.key
        self.taken = False

    def __str__(self) -> str:
        return f"a waiter for {self.grant}"

    def __enter__(self) -> Self:
        self._inbox.seats[self.grant.token] = self
        return self

    def __exit__(self, *error: object) -> None:
        del self._inbox.seats[self.grant.token]
        if self.taken and self._loop is not None:
            self._loop.unwatch(self)

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
    """The waiters of one event loop, or of the threads of a process, and where they are called."""

    def __init__(self, kit: SyncKit, key: str) -> None:
        self.key = key
        self.seats: dict[str, Seat] = {}
        self._kit = kit
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
        """Call whom a release names; every beat, say who is still here."""
        beat = time.monotonic() + BEAT
        bored = beat + LINGER
        while not self._stops(bored):
            try:
                token = yield Pop((self.key,), beat - time.monotonic())
                if token is not None and (seat := self.seats.get(token.decode())):
                    seat.call()
                if time.monotonic() >= beat:
                    beat = time.monotonic() + BEAT
                    yield from self._stay()
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
            log.warning("who waits cannot be called to its turn, and asks every %.0f s itself: %s", BEAT, error)
        return BEAT

    def _call_all(self) -> None:
        for seat in list(self.seats.values()):
            seat.call()

    def _stay(self) -> Flow[None]:
        seats = [seat for seat in list(self.seats.values()) if seat.taken and seat.alive]
        calls = list(_calls(seats))
        answers = (yield Batch([call for call, _ in calls])) if calls else []
        for (_, waiting), answer in zip(calls, answers, strict=True):
            if isinstance(answer, SyncKitError):
                raise answer
            for seat, known in zip(waiting, answer[1:], strict=True):
                if not known:
                    seat.call()


def _calls(seats: list[Seat]) -> Iterator[tuple[Eval, list[Seat]]]:
    """The calls that say who waits, a hundred of one line in each."""
    lines: dict[str, list[Seat]] = {}
    for seat in seats:
        lines.setdefault(seat.grant.keys.line, []).append(seat)
    for waiting in lines.values():
        for start in range(0, len(waiting), BATCH):
            some = waiting[start : start + BATCH]
            tokens = [seat.grant.token for seat in some]
            yield Eval(STAY, some[0].grant.keys.release, tokens, repeat=True), some


class LoopInbox(Inbox):
    """Of an asyncio loop: read by a task of the loop."""

    def __init__(self, home: Home, kit: SyncKit, key: str) -> None:
        super().__init__(kit, key)
        self._home = home

    def event(self, loop: Loop | None) -> Any:  # noqa: ARG002
        """See `Inbox`."""
        return anyio.Event()

    def open(self) -> None:
        """See `Inbox`."""
        if self._home.closed:
            raise Unavailable("the kit was closed while a resource was waited for, which was not acquired")
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


def seat_here(grant: Grant, home: Home) -> Seat:
    """A seat for a task of the running event loop. To be taken before Redis is asked, whose call may be faster."""
    if not home.loop.is_asyncio:
        return Seat(_of_threads(grant.site), grant, home.loop)
    site = grant.site
    inbox: Inbox | None = home.kept.get(site.inbox_name)
    if inbox is None:
        inbox = home.kept[site.inbox_name] = LoopInbox(home, site.kit, site.new_inbox_key())
    site.inbox = inbox
    return Seat(inbox, grant, None)


def seat_in_thread(grant: Grant) -> Seat:
    """A seat for this thread."""
    return Seat(_of_threads(grant.site), grant, None)


def _of_threads(site: Site) -> Inbox:
    kept, name = site.kit.kept, site.inbox_name
    inbox: Inbox = kept.get(name) or kept.setdefault(name, ThreadInbox(site.kit, site.new_inbox_key()))
    site.inbox = inbox
    return inbox
