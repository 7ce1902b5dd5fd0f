"""Where the waiters of a process are called to their turn.

A release sends the token of the next waiter to the inbox of its process. That is a hint: a waiter asks
when it is called, and whatever is lost on the way is called again within a beat (see `stay.lua`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_kit._io.flow import Batch, Eval
from sync_kit._io.scripts import Script
from sync_kit.errors import SyncKitError
from sync_kit.inbox import Inbox, LoopInbox, Seat, ThreadInbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sync_kit._io.flow import Flow
    from sync_kit.kit import Home
    from sync_kit.mutex.grant import Grant
    from sync_kit.mutex.site import Site

STAY = Script.load(__name__, "stay")
BATCH = 100


def seat_here(grant: Grant, home: Home) -> Seat:
    """A seat for a task of the running event loop. To be taken before Redis is asked, whose call may be faster."""
    site = grant.site
    if not home.loop.is_asyncio:
        return _seat(_of_threads(site), grant, home)
    inbox: Inbox | None = home.kept.get(site.inbox_name)
    if inbox is None:
        inbox = home.kept[site.inbox_name] = LoopInbox(home, site.kit, site.new_inbox_key(), stay_flow)
    site.inbox = inbox
    return _seat(inbox, grant, None)


def seat_in_thread(grant: Grant) -> Seat:
    """A seat for this thread."""
    return _seat(_of_threads(grant.site), grant, None)


def _seat(inbox: Inbox, grant: Grant, home: Home | None) -> Seat:
    grant.inbox = inbox.key
    return Seat(inbox, grant.token, None if home is None else home.loop, grant)


def _of_threads(site: Site) -> Inbox:
    kept, name = site.kit.kept, site.inbox_name
    inbox: Inbox = kept.get(name) or kept.setdefault(name, ThreadInbox(site.kit, site.new_inbox_key(), stay_flow))
    site.inbox = inbox
    return inbox


def stay_flow(everybody: list[Seat]) -> Flow[None]:
    """Say who is still here; who has lost its place in a line is called, to ask again."""
    calls = list(_calls([seat for seat in everybody if seat.taken and seat.alive]))
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
        lines.setdefault(seat.about.keys.line, []).append(seat)
    for waiting in lines.values():
        for start in range(0, len(waiting), BATCH):
            some = waiting[start : start + BATCH]
            yield Eval(STAY, some[0].about.keys.release, [seat.name for seat in some], repeat=True), some
