"""The keeper: what every worker does for the schedules of its jobs."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from sync_kit.errors import SyncKitError
from sync_kit.jobs.schedules.plan import fires
from sync_kit.jobs.schedules.timetable import SOON
from sync_kit.queue.companion import Companion
from sync_kit.queue.courier import back_off
from sync_kit.queue.engine import BATCH
from sync_kit.queue.events import Sent

if TYPE_CHECKING:
    from sync_kit.jobs.jobs import Jobs
    from sync_kit.jobs.schedules.plan import Firing
    from sync_kit.jobs.schedules.timetable import Due, Stored, Timetable, Waiting
    from sync_kit.queue.run import Run

log = logging.getLogger("sync_kit")

LONGEST_SLEEP, IDLE_SLEEP = 10.0, SOON / 1000
"""Seconds between two looks at most: while there are schedules, and while there are none."""
BUSY_SLEEP = 1.0
"""Seconds between two looks while a slot waits for the last run of its schedule."""
SETTLE = 30.0
"""Seconds between two comparisons of what is declared with what is stored."""
HASTE = 0.05
"""Seconds until it looks again when it has to: for the record of its worker, or after another one was faster."""
REST = 4
"""It rests for this many times as long as a look took, whatever it is told meanwhile."""
MOST_WORKERS = 1000


class Look(NamedTuple):
    """What a look found. `busy`: a slot waits for the last run; `sent`: jobs, None if nothing could fire here."""

    due: Due
    busy: bool
    sent: int | None


class Keeper(Companion):
    """Fires the slots that are due, makes the declared schedules known, and takes away those that nobody declares.

    All keepers of a queue do so at the same time; the script lets one of them fire a slot. It goes on for ever.
    """

    def __init__(self, jobs: Jobs, worker: str) -> None:
        self._jobs = jobs
        self._worker = worker
        self._called = anyio.Event()
        self._settles_at = self._prunes_at = time.monotonic()
        self._has_declared = False
        self._haste = HASTE
        self._undeclared: set[tuple[str, str]] = set()
        self._unreadable: set[str] = set()

    def hear(self, word: bytes) -> None:  # noqa: ARG002 (whatever it is, a look is cheap)
        """See `Companion.hear`."""
        self._called.set()

    def ended(self, run: Run) -> None:
        """See `Companion.ended`: a slot may wait for this."""
        if getattr(getattr(run, "header", None), "schedule", None) is not None:
            self._called.set()

    def said(self) -> dict[str, Any]:
        """See `Companion.said`: what this code declares."""
        return {"declared": sorted(self._mine())}

    async def run(self) -> None:
        """See `Companion.run`."""
        failures = 0
        while True:
            self._called, began = anyio.Event(), time.monotonic()
            try:
                pause = await self._look()
                failures = 0
            except SyncKitError as error:
                self._prunes_at = time.monotonic() + SETTLE  # the records of others may have lapsed meanwhile
                failures = await back_off(failures, "keeping schedules", error)
                continue
            rest = min(REST * (time.monotonic() - began), pause, BUSY_SLEEP)
            await anyio.sleep(rest)  # with thousands that are due, a look takes long
            with anyio.move_on_after(pause - rest):
                await self._called.wait()

    async def _look(self) -> float:
        """Fire what is due; returns the seconds until there is something to do."""
        table = self._jobs.schedules.timetable
        pause = await self._settle_in_time(table)
        look = await self._fire_page(table)
        while look.sent:
            look = await self._fire_page(table)
        if look.sent is not None:
            return HASTE  # another keeper was faster
        due = look.due
        if due.coming is not None:
            pause = min(pause, max(0, due.coming - due.now + 1) / 1000)
        return min(pause, BUSY_SLEEP if look.busy else LONGEST_SLEEP if due.total else IDLE_SLEEP)

    async def _fire_page(self, table: Timetable) -> Look:
        """Fire the first hundred that are due and can fire here."""
        skip, busy = 0, False
        while True:
            due = await self._jobs.kit.driver.run(table.due_flow(skip))
            ready = []
            for waiting in due.waiting:
                firing, waits = self._decide(due.now, waiting)
                busy = busy or waits
                if firing is not None:
                    ready.append((waiting, firing))
            if ready:
                return Look(due, busy, await self._fire(table, ready))
            if len(due.waiting) < BATCH:
                return Look(due, busy, None)
            skip += BATCH

    def _decide(self, now: int, waiting: Waiting) -> tuple[Firing | None, bool]:
        """What fires of a schedule that is due; and whether it waits for its last run."""
        plan = waiting.plan
        if plan is None:
            if waiting.name not in self._unreadable and len(self._unreadable) < MOST_WORKERS:
                self._unreadable.add(waiting.name)
                log.error("schedule %r cannot be read here: it waits for a worker that can", waiting.name)
            return None, False
        if plan.kind not in self._jobs.kinds:
            return None, False
        busy = waiting.live and not plan.overlap
        firing = fires(plan, waiting.turn.anchor, waiting.slot, now, busy=busy)
        return firing, firing is None

    async def _fire(self, table: Timetable, ready: list[tuple[Waiting, Firing]]) -> int:
        """Fire slots; returns how many jobs were sent."""
        sent = await self._jobs.kit.driver.run(table.fire_flow(ready))
        for (waiting, _), ids in zip(ready, sent, strict=True):
            for job in ids:
                log.debug("schedule %r sent job %s", waiting.name, job)
                if self._jobs.observers and waiting.plan is not None:
                    self._jobs.observers.tell(Sent(self._jobs.name, job, self._jobs.title(waiting.plan.kind)))
        return sum(map(len, sent))

    async def _settle_in_time(self, table: Timetable) -> float:
        """Compare what is declared with what is stored, when it is time; returns the seconds until it is again."""
        left = self._settles_at - time.monotonic()
        if left > 0:
            return left
        pause = await self._settle(table)
        self._settles_at = time.monotonic() + pause
        return pause

    async def _settle(self, table: Timetable) -> float:
        run = self._jobs.kit.driver.run
        if not self._has_declared:
            if self._jobs.declared:
                if not await self._is_listed():
                    self._haste = min(2 * self._haste, LONGEST_SLEEP)
                    return self._haste
                await run(table.put_flow([made for _, made in self._jobs.declared.values()]))
            self._has_declared = True
            return SETTLE
        stored = await run(table.list_flow())
        declared = await self._declared_anywhere() if stored else None
        await self._repair(table, stored, declared)
        await self._prune(table, stored, declared)
        return SETTLE

    async def _prune(self, table: Timetable, stored: dict[str, Stored], declared: set[str] | None) -> None:
        """Take away what nobody declares, if that was so at the last look, too: a deploy may just begin."""
        if time.monotonic() < self._prunes_at:
            declared = None
        seen, self._undeclared = self._undeclared, set(_gone(stored, declared))
        gone = sorted(seen & self._undeclared)
        if gone:
            names = [name for name, _ in gone]
            log.info("no worker of queue %r declares these schedules any more: %s", self._jobs.name, names)
            await self._jobs.kit.driver.run(table.delete_flow(gone))

    async def _is_listed(self) -> bool:
        """Whether this worker has said what it declares, so that others do not take it for gone."""
        workers = await self._jobs.kit.driver.run(self._jobs.desk.workers_flow())
        return len(workers) >= MOST_WORKERS or self._worker in [worker for worker, _, _ in workers]

    async def _repair(self, table: Timetable, stored: dict[str, Stored], declared: set[str] | None) -> None:
        """Make known again what is missing, or is as no live worker declares it."""
        mine = self._jobs.declared.items()
        missing = [made for name, (_, made) in mine if _is_to_be_put(name, made, stored, declared)]
        if missing:
            await self._jobs.kit.driver.run(table.put_flow(missing))

    async def _declared_anywhere(self) -> set[str] | None:
        """What live workers declare, as `name@digest`; None while it is not known: then nothing may go.

        So it is before this worker has said what it declares, or when the record of another cannot be read.
        """
        workers = await self._jobs.kit.driver.run(self._jobs.desk.workers_flow())
        said = {worker: _declared(record) for worker, _, record in workers}
        if said.get(self._worker) is None or len(workers) >= MOST_WORKERS or None in said.values():
            return None
        return self._mine().union(*(each for each in said.values() if each is not None))

    def _mine(self) -> set[str]:
        return {f"{name}@{made.plan.digest}" for name, (_, made) in self._jobs.declared.items()}


def _declared(record: bytes) -> set[str] | None:
    """What a worker says that it declares; None if its record cannot be read."""
    try:
        return set(json.loads(record).get("declared", ()))
    except (ValueError, TypeError, AttributeError):
        return None


def _is_to_be_put(name: str, made: Any, stored: dict[str, Stored], declared: set[str] | None) -> bool:
    if name not in stored:
        return True
    plan = stored[name].plan
    if plan == made.plan or declared is None:
        return False
    return plan is None or not plan.declared or f"{name}@{plan.digest}" not in declared


def _gone(stored: dict[str, Stored], declared: set[str] | None) -> list[tuple[str, str]]:
    """Declared schedules that nobody declares any more, with their revisions. A pause holds until it is undone."""
    if declared is None:
        return []
    names = {each.rpartition("@")[0] for each in declared}
    return [
        (name, schedule.turn.revision)
        for name, schedule in stored.items()
        if schedule.plan is not None and schedule.plan.declared and name not in names and not schedule.turn.paused
    ]
