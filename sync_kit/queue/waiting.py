"""Waiting for the end of a job: asked for, called, and asked for again."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_kit._io.flow import Eval
from sync_kit._io.scripts import Script
from sync_kit.inbox import Inbox, LoopInbox, Seat, ThreadInbox

if TYPE_CHECKING:
    from typing import Literal

    from sync_kit._io.flow import Flow
    from sync_kit.kit import Home, SyncKit
    from sync_kit.queue.engine import Layout

ASK = Script.load(__name__, "ask")

LOOK_AGAIN = 2.5
"""Seconds after which who waits asks, although nobody called it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended: with a result if that is kept, or with the text of an error."""

    word: Literal["completed", "failed", "cancelled", "unknown"]
    result: bytes = b""
    error: str = ""


def wait_flow(layout: Layout, job: str, until: float, seat: Seat) -> Flow[Ending | None]:
    """How a job ends; None when it has not at `until` (monotonic seconds)."""
    keys = (layout.done, layout.failed, layout.cancelled, layout.body, layout.error, layout.results, layout.waiters)
    while True:
        word, *told = yield Eval(ASK, keys, (job, seat.inbox_key), repeat=True)
        if word != b"waits":
            result, error = told or (b"", b"")
            return Ending(word.decode(), result, error.decode("utf-8", "replace"))
        left = until - time.monotonic()
        if left <= 0:
            return None
        yield seat.wait(min(left, LOOK_AGAIN))


def seat_here(kit: SyncKit, layout: Layout, job: str, home: Home) -> Seat:
    """A seat for a task of the running event loop."""
    if not home.loop.is_asyncio:
        return Seat(_of_threads(kit, layout), job, home.loop, f"job {job}")
    name = _name(layout)
    inbox: Inbox | None = home.kept.get(name)
    if inbox is None:
        inbox = home.kept[name] = LoopInbox(home, kit, _key(layout, id(home)))
    return Seat(inbox, job, None, f"job {job}")


def seat_in_thread(kit: SyncKit, layout: Layout, job: str) -> Seat:
    """A seat for this thread."""
    return Seat(_of_threads(kit, layout), job, None, f"job {job}")


def _of_threads(kit: SyncKit, layout: Layout) -> Inbox:
    name = _name(layout)
    inbox: Inbox = kit.kept.get(name) or kit.kept.setdefault(name, ThreadInbox(kit, _key(layout, id(kit))))
    return inbox


def _name(layout: Layout) -> str:
    return f"inbox of {layout.group.head}"


def _key(layout: Layout, reader: int) -> str:
    """A list for one reader, which is the same one when it waits again later."""
    return layout.inbox(f"{_process}-{reader:x}")


_process = secrets.token_hex(12)


def _after_fork() -> None:
    global _process
    _process = secrets.token_hex(12)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
