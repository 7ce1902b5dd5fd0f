"""Between a worker's slots and one queue: carries outcomes there and jobs back, in one call for all slots."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from sync_kit.errors import ServerError, SyncKitError
from sync_kit.queue.engine import BATCH, HINT, LOOK, Lane
from sync_kit.queue.events import Failed, Lost
from sync_kit.queue.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sync_kit.queue.pool import Pool, Slot
    from sync_kit.queue.records import Claim, Turn
    from sync_kit.queue.records import Lost as LostRun
    from sync_kit.queue.source import Source

log = logging.getLogger("sync_kit")

LANES = 8
"""Exchanges that may be under way at a time."""
PACE = 0.001
"""Seconds between two exchanges that are under way at a time: what ends meanwhile leaves together."""
SWEEP = 1.0
"""Seconds between two looks of a busy worker after what is kept."""
SETTLE = 0.1
"""Seconds after which a read is opened although exchanges are under way."""
LONG_READ = 10.0
"""Seconds of a read that waits for no hint."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
HOPELESS = 30.0
"""Seconds after which an answer that waiting does not cure ends the worker, loudly."""
REMIND = 16
"""Failures after which one is logged again: about a minute."""
_THEN = {"back": "it runs again", "fail": "it has failed", "cancel": "it is cancelled", "expire": "it has failed"}


class Courier:
    """Hands in outcomes and fetches jobs for the slots that the pool gave it.

    An exchange takes what there is and leaves at once when none is under way. When half of the slots or more are done
    at a time it takes one half, and the other half leaves with the next one: the jobs of one run while Redis is busy
    with the other. Any further exchange leaves `PACE` after the one before, so a slow network delays nothing by more
    than itself. Redis trouble is survived for ever: an exchange is repeated under the same number, which is safe.

    Attributes:
        empty: the last exchange found less than was wanted, and the worker waits for a hint since then.
        lanes: how many tasks are to `carry`.
        done: set when all of them have ended.
    """

    def __init__(self, source: Source, worker: str, poll_interval: float, lanes: int) -> None:
        self.lanes = self._open_lanes = min(lanes, LANES)
        self._most = min(BATCH, (lanes + 1) // 2)
        self.done = anyio.Event()
        self._source = source
        self._worker = worker
        self._poll_interval = poll_interval
        self._pool: Pool
        self._delivered: Callable[[Outcome, bool], None]
        self._cancel: Callable[[str, int], None]
        self._told: Callable[[bytes], None]
        self._slots: deque[Slot] = deque()
        self._asking: set[Slot] = set()
        self._outcomes: deque[Outcome] = deque()
        self._work = anyio.Event()
        self._door = anyio.Lock(fast_acquire=True)
        self._quiet = anyio.Event()
        self._under_way = self._calls = 0
        self._left = self._swept = time.monotonic()
        self._pause = poll_interval
        self._passes_on = False
        self._deaf = False
        self._finishes = False
        self._skip, self._adopts = -1, ""
        self.empty = False

    @property
    def loaded(self) -> bool:
        """Whether there are outcomes that are not stored yet."""
        return bool(self._outcomes) or self._open_lanes > 0

    def bind(
        self,
        pool: Pool,
        delivered: Callable[[Outcome, bool], None],
        cancel: Callable[[str, int], None],
        told: Callable[[bytes], None],
    ) -> None:
        """Who gets the jobs; who is told whether an outcome was stored, that a run is to be cancelled, and the rest."""
        self._pool, self._delivered, self._cancel, self._told = pool, delivered, cancel, told

    def expect(self, slot: Slot) -> None:
        """Fetch a job for `slot`."""
        self._slots.append(slot)
        self._work.set()

    def hand_in(self, outcome: Outcome) -> None:
        """Carry an outcome. The exchange goes there anyway, so it may bring a job back."""
        self._outcomes.append(outcome)
        self.empty = False
        self._work.set()

    def adopt(self, kinds: Sequence[str]) -> None:
        """Fetch parked jobs of some kinds, before others."""
        self._skip, self._adopts = 0, "\n".join(kinds)
        self.empty = False
        self._pool.share_out()

    def dismiss(self) -> None:
        """Fetch no more jobs; what an exchange that is under way brings goes back."""
        for slot in (*self._slots, *self._asking):
            slot.end()
        self._slots.clear()

    def finish(self) -> None:
        """Carry what was handed in, then end."""
        self._finishes = True
        self._work.set()

    async def carry(self, number: int) -> None:
        """The task of one lane: one exchange after the other, until `finish`."""
        lane = self._lane(number)
        try:
            while (load := await self._next_load()) is not None:
                await self._exchange(lane, *load)
        finally:
            self._open_lanes -= 1
            if self._open_lanes == 0:
                self.done.set()

    async def carry_rest(self) -> None:
        """Carry what is left when all lanes have ended, because their event loop ends."""
        lane = self._lane(LANES)
        while self._outcomes:
            await self._exchange(lane, *self._load())

    async def listen(self) -> None:
        """The task that waits for hints, and for what else this worker must hear at once."""
        failures = 0
        while True:
            await self._settled()
            waits = self.empty
            try:
                said = await self._hear(waits)
                failures = 0
            except SyncKitError as error:
                failures = await back_off(failures, "waiting for work", error)
                said = None
            self._heard(said, waits)

    def _lane(self, number: int) -> Lane:
        source = self._source
        return Lane(source.engine.layout, self._worker, number, source.keep, max_deliveries=source.max_deliveries)

    async def _has_work(self) -> bool:
        """Wait until something is to be carried; False when that was all."""
        while not (self._outcomes or self._slots or self._passes_on):
            if self._finishes:
                return False
            await self._work.wait()
            self._work = anyio.Event()
        if self._outcomes:
            await anyio.lowlevel.checkpoint()  # what else ends in this turn of the loop leaves with it
        if self._under_way > (1 if len(self._outcomes) >= self._most else 0):
            with anyio.move_on_after(max(0.0, self._left + PACE - time.monotonic())):
                await self._quiet.wait()
        return True

    async def _next_load(self) -> tuple[list[Outcome], list[Slot]] | None:
        async with self._door:
            return self._load() if await self._has_work() else None

    def _load(self) -> tuple[list[Outcome], list[Slot]]:
        outcomes = [self._outcomes.popleft() for _ in range(min(self._most, len(self._outcomes)))]
        most = self._most if len(outcomes) == self._most else BATCH
        slots = [self._slots.popleft() for _ in range(min(most, len(self._slots)))]
        if self._under_way == 0:
            self._quiet = anyio.Event()
        self._under_way += 1
        self._passes_on = False
        self._left = time.monotonic()
        return outcomes, slots

    async def _exchange(self, lane: Lane, outcomes: list[Outcome], slots: list[Slot]) -> None:
        deaf, lone = self._deaf, bool(slots) and self._pool.take_lone()
        self._asking.update(slots)
        try:
            turn = await self._repeat(lane, outcomes, len(slots), lone=lone, deaf=deaf, sweep=self._is_to_sweep())
            self._settle(outcomes, turn)
            self._share(turn, slots, lone=lone, deaf=deaf)
        except BaseException:
            for slot in slots:
                slot.end()
            raise
        finally:
            self._asking.difference_update(slots)
            self._under_way -= 1
            if self._under_way == 0:
                self._quiet.set()

    def _share(self, turn: Turn, slots: list[Slot], *, lone: bool, deaf: bool) -> None:
        """Hand out what came; the other slots may find work elsewhere."""
        given = self._give(turn.claims, slots)
        if lone:
            self._mark(turn.claims, given)
        if len(given) < len(slots):
            self._pause = self._poll_interval if turn.next_due is None else min(turn.next_due, self._poll_interval)
            self.empty = self._skip < 0 and (deaf or not self._deaf)
            self._pool.give_back(slots[len(given) :])

    def _mark(self, claims: list[Claim], slots: list[Slot]) -> None:
        """The first suspect keeps others from being taken until it has ended."""
        suspect = next((slot for claim, slot in zip(claims, slots, strict=False) if claim.crashes), None)
        if suspect is None:
            self._pool.lone_is_free = True
        else:
            suspect.lone = True

    def _is_to_sweep(self) -> bool:
        due = self._left - self._swept > SWEEP
        if due:
            self._swept = self._left
        return due

    async def _repeat(
        self, lane: Lane, outcomes: list[Outcome], want: int, *, lone: bool, deaf: bool, sweep: bool
    ) -> Turn:
        """One exchange, again and again until it is answered."""
        self._calls += 1
        call, adopts, failures, began = self._calls, self._adopts, 0, time.monotonic()
        ask = partial(self._source.engine.exchange_flow, lane, call, outcomes, want, lone=lone, deaf=deaf, sweep=sweep)
        while True:
            try:
                turn = await self._source.kit.driver.run(ask(skip=self._skip, adopts=adopts if want else ""))
            except SyncKitError as error:
                if isinstance(error, ServerError) and time.monotonic() - began > HOPELESS:
                    raise
                failures = await back_off(failures, "exchanging jobs", error)
            else:
                if adopts == self._adopts and want:
                    self._skip = turn.skip
                return turn

    def _settle(self, outcomes: list[Outcome], turn: Turn) -> None:
        for outcome in outcomes:
            self._delivered(outcome, outcome.id not in turn.refused)
        for refused in turn.refused:
            log.warning("the outcome of job %s was refused: its lease had been lost to another run", refused)
        for lost in turn.lost:
            what = lost.kind or "message"
            log.warning("%s %s of queue %r: %s, %s", what, lost.id, self._source.name, lost.text, _THEN[lost.outcome])
            tell_lost(self._source, lost)

    def _give(self, claims: list[Claim], slots: list[Slot]) -> list[Slot]:
        """Hand jobs to slots; what comes when no more are taken goes back."""
        if not self._pool.open:
            self._outcomes += [Outcome(claim.id, claim.generation, "back") for claim in claims]
            self._work.set()
            return []
        for claim, slot in zip(claims, slots, strict=False):
            slot.give(claim)
        return slots[: len(claims)]

    async def _settled(self) -> None:
        """Wait until no exchange is under way that may say whether there is work: then it is known how to wait."""
        with anyio.move_on_after(SETTLE):
            while self._under_way or self._slots or self._outcomes:
                if self._under_way:
                    await self._quiet.wait()
                await anyio.lowlevel.checkpoint()

    async def _hear(self, waits: bool) -> bytes | None:
        """Read what is said to this worker, and a hint if it `waits` for one: a busy worker leaves them to others."""
        layout = self._source.engine.layout
        control = layout.control(self._worker)
        keys, seconds = ((control, layout.wake), max(0.001, self._pause)) if waits else ((control,), LONG_READ)
        self._deaf = not waits
        try:
            return await self._source.kit.driver.run(self._source.engine.listen_flow(keys, seconds))
        finally:
            self._deaf = False

    def _heard(self, said: bytes | None, waited: bool) -> None:
        word, _, rest = (said or b"").partition(b" ")
        if word == b"cancel":
            job, _, generation = rest.partition(b" ")
            self._cancel(job.decode(), int(generation))
        elif word not in (HINT, LOOK, b""):
            self._told(word)
        elif said in (HINT, None) and waited:
            self.empty = False
            self._pool.share_out()
            if said == HINT and not self._slots:
                self._passes_on = True
                self._work.set()


def tell_lost(source: Source, lost: LostRun) -> None:
    """Tell the observers what became of a job whose worker died, or that nobody came for."""
    about = (source.name, lost.id, source.title(lost.kind))
    if lost.outcome != "expire":
        source.observers.tell(Lost(*about))
    if lost.outcome in ("fail", "expire"):
        source.observers.tell(Failed(*about, lost.attempts, 0.0, lost.text))


async def back_off(failures: int, doing: str, error: SyncKitError) -> int:
    """Sleep longer after each failure, with jitter so that workers do not come back as one."""
    if failures % REMIND == 0:
        log.warning("%s failed, the worker goes on trying: %s", doing, error)
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures, 10))
    await anyio.sleep(pause * random.uniform(0.5, 1.0))
    return failures + 1
