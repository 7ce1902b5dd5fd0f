"""Working real queues off until they are empty, without waiting for what is delayed."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import anyio

from sync_kit._io.flow import Eval
from sync_kit._io.scripts import Script
from sync_kit.options import Seconds, refuse_unknown, seconds, whole
from sync_kit.queue import Worker
from sync_kit.queue.events import Event, Failed, Finished, Retried
from sync_kit.testing.errors import FailedJobsError, NotDrainedError
from sync_kit.testing.stand_in import stand_in
from sync_kit.testing.threads import Call, on_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Never, Self

    from sync_kit._io.flow import Flow
    from sync_kit.queue.records import Entry, Status, Tally
    from sync_kit.queue.source import Source

ADVANCE = Script.load(__name__, "advance")

OPTIONS = ("timeout", "concurrency", "raise_failed")
PAUSE = 0.005
POLL_INTERVAL = 0.25
LOOKING = 2.0
"""Seconds to find out what is left."""
GRACE = 10.0
"""Seconds after its timeout in which a drain on a thread has to end."""
MOST_LEFT = 100
UNFINISHED: tuple[Status, ...] = ("active", "waiting", "delayed")


@dataclass(frozen=True, slots=True)
class Drained:
    """What one call of `drain` did.

    Attributes:
        completed: jobs that ended well.
        failed: jobs that failed for good.
        retried: runs that failed and were followed by another.
        parked: jobs that are parked, because nobody here knows their task.
        failures: a line for each failed job: task, id and error.
    """

    completed: int
    failed: int
    retried: int
    parked: int
    failures: tuple[str, ...]


@dataclass
class Watch:
    """Sees what happens to the jobs of some queues while its `with` block lasts."""

    sources: Sequence[Source]
    events: Counter[type[Event]] = field(default_factory=Counter)
    failed: list[Failed] = field(default_factory=list)

    def __enter__(self) -> Self:
        for source in self.sources:
            source.observe(self.see)
        return self

    def __exit__(self, *error: object) -> None:
        for source in self.sources:
            source.observers.remove(self.see)

    def see(self, event: Event) -> None:
        """An observer."""
        self.events[type(event)] += 1
        if isinstance(event, Failed):
            self.failed.append(event)

    def drained(self, parked: int) -> Drained:
        """What happened."""
        failures = tuple(f"{event.queue}/{event.task} {event.id}: {event.error}" for event in self.failed)
        return Drained(self.events[Finished], len(failures), self.events[Retried], parked, failures)


async def drain(
    jobs: Source,
    *more: Source,
    timeout: Seconds = 10.0,
    concurrency: int = 10,
    raise_failed: bool = True,
    **unknown: Never,
) -> Drained:
    """Run a worker until nothing of these queues is waiting, delayed or active any more.

    Delays and the pauses before retries are jumped over: whenever nothing else is left, the earliest hundred delayed
    jobs are made due. What jobs send meanwhile is run, too. An `async def` runs on this event loop, a plain `def`
    on a thread of its own, where it fails when it overruns its timeout. Jobs of unknown tasks stay parked.

    Args:
        jobs: `Jobs`, or a queue with a handler (`queue.processing(handle)`).
        more: further ones; jobs of one may send to another.
        timeout: seconds for all of it.
        concurrency: jobs that run at the same time; 1 for one after the other.
        raise_failed: whether a job that failed for good is an error. A test that does not look would pass otherwise.

    Raises:
        FailedJobsError: jobs failed for good; the queues are empty all the same.
        NotDrainedError: a `TimeoutError`; it lists what was left.
        ConfigurationError: an argument is wrong.
        Unavailable: Redis cannot be reached.
    """
    refuse_unknown("drain", unknown, OPTIONS)
    limit, errors = seconds("timeout", timeout, above=0), dict[str, BaseException]()
    sources = [stand_in(source, on_thread, errors) for source in (jobs, *more)]
    worker = Worker(*sources, concurrency=whole("concurrency", concurrency, least=1), poll_interval=POLL_INTERVAL)
    for source in sources:  # a worker would wait for a server that is away
        await source.kit.driver.run(source.desk.count_flow())
    with Watch(sources) as watch:
        async with worker:
            parked = await _emptied(sources, watch, limit)
    drained = watch.drained(parked)
    if raise_failed and drained.failed:
        advice = "\nIf that is what the test wants to see: drain(..., raise_failed=False)"
        raise FailedJobsError([*drained.failures], advice) from errors.get(watch.failed[0].id)
    return drained


def drain_blocking(
    jobs: Source,
    *more: Source,
    timeout: Seconds = 10.0,
    concurrency: int = 10,
    raise_failed: bool = True,
    **unknown: Never,
) -> Drained:
    """The same for code without an event loop: handlers run on threads and on an event loop of their own.

    Takes and raises what `drain` does.
    """
    refuse_unknown("drain_blocking", unknown, OPTIONS)
    limit = seconds("timeout", timeout, above=0)
    jobs.kit.refuse_in_loop("drain(...)")
    options: dict[str, Any] = {"timeout": limit, "concurrency": concurrency, "raise_failed": raise_failed}
    call = Call(partial(anyio.run, partial(drain, jobs, *more, **options)))
    thread = threading.Thread(target=call.perform, name="sync-kit-drain", daemon=True)
    thread.start()
    thread.join(limit + GRACE)
    if thread.is_alive():
        left = [jobs.kit.thread_driver.run(left_flow(source)) for source in (jobs, *more)]
        raise NotDrainedError(limit, [*chain(*left)], ", and a handler blocks the event loop")
    return call.answer()  # type: ignore[no-any-return]


async def _emptied(sources: Sequence[Source], watch: Watch, limit: float) -> int:
    """Wait until nothing is left; returns how many jobs are parked. Raises `NotDrainedError`."""
    with anyio.move_on_after(limit):
        return await _empty(sources, watch)
    left: list[str] = []
    with anyio.move_on_after(LOOKING):
        for source in sources:
            left += await source.kit.driver.run(left_flow(source))
    raise NotDrainedError(limit, left)


async def _empty(sources: Sequence[Source], watch: Watch) -> int:
    """Let time pass whenever nothing else is left, until nothing is.

    Queues are looked at one after the other, and a job may send to one that was seen already: only when two looks
    at all of them find nothing, and nothing happened meanwhile, they are empty.
    """
    looks, happened, parked = 0, 0, 0
    while looks < 2:
        tallies = [await source.kit.driver.run(source.desk.count_flow()) for source in sources]
        left = [await _left(source, tally) for source, tally in zip(sources, tallies, strict=True)]
        looks = looks + 1 if not any(left) and watch.events.total() == happened else 0
        happened = watch.events.total()
        if not any(tally.waiting or tally.active for tally in tallies):
            for source, tally in zip(sources, tallies, strict=True):
                if tally.delayed:
                    await source.kit.driver.run(advance_flow(source))
        parked = sum(tally.parked for tally in tallies)
        await anyio.sleep(PAUSE)
    return parked


async def _left(source: Source, tally: Tally) -> bool:
    """Whether there is something to run: the worker also fetches parked jobs of tasks that it knows."""
    if tally.waiting or tally.delayed or tally.active or not tally.parked:
        return bool(tally.waiting or tally.delayed or tally.active)
    entries, _ = await source.kit.driver.run(source.desk.page_flow("parked", MOST_LEFT, None))
    return any(entry.kind in source.kinds for entry, _ in entries)


def advance_flow(source: Source) -> Flow[int]:
    """Let the earliest delayed jobs be due; returns how many."""
    layout = source.engine.layout
    reply: Any = yield Eval(ADVANCE, (layout.delayed, layout.wake), ())
    return int(reply[1])


def left_flow(source: Source) -> Flow[list[str]]:
    """A line for each job that has not ended, about a hundred of each status."""
    lines: list[str] = []
    for status in UNFINISHED:
        found, cursor, more = 0, None, True
        while more and found < MOST_LEFT:
            entries, cursor = yield from source.desk.page_flow(status, MOST_LEFT, cursor)
            lines += [f"{source.name}/{_told(entry)}" for entry, _ in entries]
            found, more = found + len(entries), cursor is not None
    return lines


def _told(entry: Entry) -> str:
    error = f", last error {entry.error}" if entry.error else ""
    return f"{entry.kind} {entry.id}: {entry.status}, {entry.attempts} attempts{error}"
