"""The flows of schedules: making, changing and looking; and what keepers ask and do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sync_kit._io.flow import Batch, Eval
from sync_kit._io.scripts import Keys, Script
from sync_kit.errors import SyncKitError
from sync_kit.jobs.schedules.plan import Turn, read_plan
from sync_kit.queue.desk import SIGNAL
from sync_kit.queue.engine import LEASE, batches, ms
from sync_kit.queue.ids import make_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit._io.flow import Flow
    from sync_kit.jobs.schedules.plan import Draft, Firing, Plan
    from sync_kit.queue.desk import Desk
    from sync_kit.queue.engine import Layout

READ = Script.load(__name__, "read")
LIST = Script.load(__name__, "list")
PUT = Script.load(__name__, "put")
PAUSE = Script.load(__name__, "pause")
DELETE = Script.load(__name__, "delete")
DUE = Script.load(__name__, "due")
FIRE = Script.load(__name__, "fire")

WORD = b"schedules"
"""What keepers are told of a schedule that is due sooner than they look by themselves."""
SOON = 30_000
"""Milliseconds after which every keeper has looked by itself."""


class Stored(NamedTuple):
    """A schedule as it is in Redis. `plan`: None if it cannot be read here; `next_ms`: 0 while it is paused."""

    name: str
    plan: Plan | None
    payload: bytes
    turn: Turn
    next_ms: int = 0


class Waiting(NamedTuple):
    """A schedule that is due. `live`: its last job has not ended."""

    name: str
    plan: Plan | None
    turn: Turn
    slot: int
    live: bool


class Due(NamedTuple):
    """What is due. `total`: how many schedules there are; `coming`: when the next one is due, None for none."""

    now: int
    total: int
    coming: int | None
    waiting: list[Waiting]


class Timetable:
    """The schedules of one queue in Redis."""

    def __init__(self, layout: Layout, desk: Desk) -> None:
        key = layout.group.key
        self._layout, self._desk = layout, desk
        self._schedules, self._payloads, self._turns = key("schedules"), key("payloads"), key("turns")
        self._timetable = key("timetable")
        self._all = Keys((self._schedules, self._payloads, self._turns, self._timetable))
        self._ended = (layout.done, layout.failed, layout.cancelled)

    def read_flow(self, names: Sequence[str]) -> Flow[tuple[int, dict[str, Stored]]]:
        """The server's time, and what is known of some schedules; unknown ones are left out."""
        now, known = 0, {}
        for batch in batches(names):
            _, now, *found = yield Eval(READ, self._all, batch, repeat=True)
            for name, each in zip(batch, found, strict=True):
                if each:
                    plan, payload, turn, coming = each
                    known[name] = Stored(name, read_plan(name, plan), payload, Turn.read(turn), int(coming or 0))
        return now, known

    def list_flow(self) -> Flow[dict[str, Stored]]:
        """All schedules, without their payloads."""
        cursor, known = b"0", {}
        while True:
            _, cursor, *found = yield Eval(LIST, (self._schedules, self._turns), (cursor,), repeat=True)
            for name, plan, turn in found:
                title = name.decode()
                known[title] = Stored(title, read_plan(title, plan), b"", Turn.read(turn))
            if cursor == b"0":
                return known

    def put_flow(self, drafts: Sequence[Draft]) -> Flow[int]:
        """Make schedules, or change those that differ; returns how many there were.

        The next slot stays as it is while the rule does. What somebody else changes meanwhile is looked at again.
        """
        changed, soon, left = 0, False, list(drafts)
        while left:
            now, known = yield from self.read_flow([draft.plan.name for draft in left])
            again = []
            for draft in left:
                stored = known.get(draft.plan.name)
                if stored is None or stored.plan != draft.plan:
                    slot = _slot(draft, stored, now)
                    (word,) = yield Eval(PUT, self._all, _put(draft, stored, slot, now), repeat=True)
                    changed += word == b"ok"
                    soon = soon or 0 <= slot < now + SOON
                    again += [draft] * (word != b"ok")
            left = again
        if soon:
            yield from self.signal_flow()
        return changed

    def pause_flow(self, name: str) -> Flow[bool]:
        """Take a schedule off the timetable; False if there is none, or it was paused."""
        _, changed = yield Eval(PAUSE, (self._turns, self._timetable), (name, 1, "-", 0))
        return bool(changed)

    def resume_flow(self, name: str) -> Flow[bool]:
        """Put a schedule back on the timetable, at the next slot from now; False if there was none paused."""
        while True:
            now, known = yield from self.read_flow([name])
            stored = known.get(name)
            if stored is None or stored.plan is None:
                return False
            turn = stored.turn
            slot = stored.plan.rule.following(max(now, turn.last), turn.anchor)
            word, *changed = yield Eval(PAUSE, (self._turns, self._timetable), (name, 0, turn.revision, slot))
            if word == b"ok":
                break
        if changed[0] and slot < now + SOON:
            yield from self.signal_flow()
        return bool(changed[0])

    def delete_flow(self, schedules: Sequence[tuple[str, str]]) -> Flow[int]:
        """Forget schedules, given as name and revision (empty: any); returns how many there were."""
        deleted = 0
        for batch in batches(schedules):
            _, count = yield Eval(DELETE, self._all, [part for pair in batch for part in pair])
            deleted += count
        return deleted

    def due_flow(self, skip: int) -> Flow[Due]:
        """A hundred schedules that are due, behind the first `skip` of them."""
        keys = (*self._all, self._layout.body, *self._ended)
        _, now, total, coming, *found = yield Eval(DUE, keys, (skip,), repeat=True)
        waiting = []
        for name, plan, turn, slot, live in found:
            title = name.decode()
            waiting.append(Waiting(title, read_plan(title, plan), Turn.read(turn), int(slot), bool(live)))
        return Due(now, total, int(coming) if coming else None, waiting)

    def fire_flow(self, firings: Sequence[tuple[Waiting, Firing]]) -> Flow[list[list[str]]]:
        """Send the jobs of slots that are due; returns for each schedule the ids of those that were."""
        layout = self._layout
        keys = Keys((*self._all, layout.ready, layout.body, layout.state, layout.wake, *self._ended))
        ids = [[make_id() for _ in firing.slots] for _, firing in firings]
        calls = [
            Eval(FIRE, keys, _fire(waiting, firing, jobs), repeat=True)
            for (waiting, firing), jobs in zip(firings, ids, strict=True)
        ]
        replies = yield Batch(calls)
        return [jobs if _word(reply) == b"ok" else [] for jobs, reply in zip(ids, replies, strict=True)]

    def signal_flow(self) -> Flow[None]:
        """Tell the keepers of all workers to look. It is a hint: they look by themselves, too."""
        workers = yield from self._desk.workers_flow()
        for batch in batches(workers):
            controls = [self._layout.control(worker) for worker, _, _ in batch]
            yield Batch([Eval(SIGNAL, (control,), (WORD, ms(LEASE)), repeat=True) for control in controls])


def _slot(draft: Draft, stored: Stored | None, now: int) -> int:
    """The next slot of a schedule that is put; -1 for the one that it has."""
    rule = draft.plan.rule
    if stored is not None and stored.plan is not None and stored.plan.rule == rule:
        return -1
    fired = 0 if stored is None else stored.turn.last  # by a clock of the server that was set back since, perhaps
    return now if draft.start_immediately else rule.following(max(now, fired), now)


def _put(draft: Draft, stored: Stored | None, slot: int, now: int) -> tuple[Any, ...]:
    plan, seen = draft.plan, "-" if stored is None else stored.turn.revision
    return (plan.name, seen, make_id(), plan.write(), draft.payload, slot, now)


def _fire(waiting: Waiting, firing: Firing, jobs: Sequence[str]) -> list[Any]:
    plan, last = waiting.plan, firing.slots[-1] if firing.slots else 0
    assert plan is not None
    kind = plan.kind.encode()
    args: list[Any] = [waiting.name, waiting.turn.revision, waiting.slot, firing.following, last]
    args += [int(plan.overlap), plan.priority]
    for job, slot in zip(jobs, firing.slots, strict=True):
        args += [job, b"%b\n%b" % (kind, plan.head(slot))]
    return args


def _word(reply: Any) -> bytes:
    if isinstance(reply, SyncKitError):
        raise reply
    word: bytes = reply[0]
    return word
