"""The flows of those who look at a queue and act on it by hand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sync_kit._io.flow import Eval
from sync_kit._io.scripts import Script
from sync_kit.errors import ConfigurationError
from sync_kit.options import shown
from sync_kit.queue.engine import BATCH, GONE, LEASE, batches, ms
from sync_kit.queue.records import Entry, Oddities, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit._io.flow import Flow
    from sync_kit.queue.engine import Layout
    from sync_kit.queue.records import Status

LOOK = Script.load(__name__, "look")
LIST = Script.load(__name__, "list")
COUNT = Script.load(__name__, "count")
EXAMINE = Script.load(__name__, "examine")
CANCEL = Script.load(__name__, "cancel")
SIGNAL = Script.load(__name__, "signal")
RETRY = Script.load(__name__, "retry")
DELETE = Script.load(__name__, "delete")
PURGE = Script.load(__name__, "purge")
PAUSE = Script.load(__name__, "pause")
WORKERS = Script.load(__name__, "workers")

_CURSOR = re.compile(r"([0-9]):(-?[0-9]{1,16}):([\x21-\x7e]{0,100})")
NEWEST_FIRST = ("completed", "failed", "cancelled")


class Desk:
    """One queue in Redis, for those who look after it."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._places = {
            "waiting": (layout.suspects, layout.ready, layout.held),
            "delayed": (layout.delayed,),
            "active": (layout.leases,),
            "completed": (layout.done,),
            "failed": (layout.failed,),
            "cancelled": (layout.cancelled,),
            "parked": (layout.parked,),
        }

    def look_flow(self, ids: Sequence[str]) -> Flow[list[Entry]]:
        """What is known of `ids`; unknown ones are left out."""
        layout, entries = self._layout, []
        places = (layout.delayed, layout.leases, layout.done, layout.failed, layout.cancelled, layout.parked)
        known = (layout.body, layout.state, layout.error, layout.results, layout.progress, layout.log)
        for batch in batches(ids):
            _, *found = yield Eval(LOOK, (*places, *known), batch, repeat=True)
            entries += [Entry.read(job, told) for job, told in zip(batch, found, strict=True) if told]
        return entries

    def page_flow(
        self, status: Status, limit: int, cursor: str | None
    ) -> Flow[tuple[list[tuple[Entry, str]], str | None]]:
        """Up to `limit` jobs of one status, at most `BATCH`, each with the cursor behind it.

        Also the cursor of the next page, None at the end.
        """
        places = self._places[status]
        index, score, after = _read_cursor(cursor, len(places))
        newest_first, most = int(status in NEWEST_FIRST), min(limit, BATCH)
        _, *found = yield Eval(LIST, (places[index],), (newest_first, most, score, after), repeat=True)
        behind = {job.decode(): f"{index}:{score.decode()}:{job.decode()}" for job, score in found}
        if len(found) == most:
            cursor = [*behind.values()][-1]
        else:
            cursor = f"{index + 1}:0:" if index + 1 < len(places) else None
        entries = yield from self.look_flow([*behind])
        return [(entry, behind[entry.id]) for entry in entries if entry.status == status], cursor

    def count_flow(self) -> Flow[Tally]:
        """How many jobs are in each status."""
        layout = self._layout
        keys = (layout.ready, layout.suspects, layout.delayed, layout.leases, layout.done, layout.failed)
        more = (layout.cancelled, layout.parked, layout.state, layout.held)
        reply: Any = yield Eval(COUNT, (*keys, *more), (), repeat=True)
        *counts, oldest = reply[1:]
        return Tally(*[*counts, None if oldest < 0 else oldest / 1000])

    def examine_flow(self) -> Flow[Oddities]:
        """What is unusual about the queue."""
        layout = self._layout
        reply = yield Eval(EXAMINE, (layout.paused, layout.suspects, layout.kinds), (), repeat=True)
        _, paused, suspects, *kinds = reply
        parked = {kind.decode(): int(jobs) for kind, jobs in zip(kinds[::2], kinds[1::2], strict=True)}
        return Oddities(bool(paused), suspects, parked)

    def cancel_flow(self, job: str) -> Flow[bool]:
        """End a job that has not ended: at once, or by telling the worker that runs it. False if it had ended.

        The mark on the job is what counts; if the message is lost, the next renewal of its lease tells.
        """
        layout = self._layout
        places = (layout.ready, layout.suspects, layout.delayed, layout.leases, layout.parked, layout.held)
        more = (layout.body, layout.state, layout.cancelled, layout.kinds, layout.unique, layout.waiters)
        word, *told = yield Eval(CANCEL, (*places, *more), (job,), repeat=True)
        if word == b"active":
            worker, generation = told
            message = b"cancel %b %d" % (job.encode(), generation)
            yield Eval(SIGNAL, (layout.control(worker.decode()),), (message, ms(LEASE)), repeat=True)
        return bool(word != b"ended")

    def retry_flow(self, ids: Sequence[str] = ()) -> Flow[int]:
        """Let failed jobs run again: those of `ids`, or all that have failed by now; returns how many there were."""
        layout = self._layout
        keys = (layout.ready, layout.failed, layout.cancelled, layout.state, layout.unique, layout.wake)
        until, skip, retried, more = 0, 0, 0, True
        while more:
            _, until, count, skip, more = yield Eval(RETRY, keys, (until, skip, *ids))
            retried += count
            more = more and not ids
        return retried

    def delete_flow(self, ids: Sequence[str]) -> Flow[int]:
        """Forget jobs that have ended; returns how many there were."""
        layout = self._layout
        places = (layout.done, layout.failed, layout.cancelled)
        known = (layout.body, layout.state, layout.error, layout.results, layout.progress, layout.log)
        reply = yield Eval(DELETE, (*places, *known, layout.expiries), ids)
        return int(reply[1])

    def purge_flow(self) -> Flow[int]:
        """Forget all jobs that wait or are delayed, a hundred at a time; returns how many there were."""
        layout, total, count = self._layout, 0, BATCH
        places = (layout.ready, layout.suspects, layout.delayed, layout.held)
        known = (layout.body, layout.state, layout.error, layout.progress, layout.log)
        keys = (*places, *known, layout.unique, layout.waiters)
        while count == BATCH:
            _, count = yield Eval(PURGE, keys, ())
            total += count
        return total

    def pause_flow(self, pauses: bool) -> Flow[bool]:
        """Let no jobs be taken, or let them be taken again; returns whether that changed anything."""
        layout = self._layout
        reply = yield Eval(PAUSE, (layout.paused, layout.ready, layout.suspects, layout.wake), (int(pauses),))
        return bool(reply[1])

    def workers_flow(self) -> Flow[list[tuple[str, float, bytes]]]:
        """The workers that were heard of lately: name, seconds since then, record."""
        keys = (self._layout.workers, self._layout.records)
        _, *found = yield Eval(WORKERS, keys, (ms(GONE),), repeat=True)
        return [(worker.decode(), silent / 1000, record) for worker, silent, record in found]


def _read_cursor(cursor: str | None, places: int) -> tuple[int, str, str]:
    if cursor is None:
        return 0, "0", ""
    match = _CURSOR.fullmatch(cursor)
    if match is None or int(match[1]) >= places:
        raise ConfigurationError(
            f"the cursor {shown(cursor)} is none of a list of this status: pass on what .cursor says"
        )
    return int(match[1]), match[2], match[3]
