"""The worker: slots that run what comes from one or more queues, beside your code or as a process of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import anyio

from sync_kit._io.aio import to_the_end
from sync_kit._io.loops import current_task, is_cancelled
from sync_kit.errors import ConfigurationError
from sync_kit.options import Seconds, refuse_unknown, seconds, whole
from sync_kit.queue.apart import Apart
from sync_kit.queue.ids import make_id
from sync_kit.queue.line import Line
from sync_kit.queue.pool import Pool, Share, Slot
from sync_kit.queue.records import Outcome
from sync_kit.queue.source import Source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from typing_extensions import Never, Self

    from sync_kit.queue.records import Claim
    from sync_kit.queue.run import Run

log = logging.getLogger("sync_kit")

HAND_BACK_LIMIT = 5.0
POLL_INTERVAL = 2.5
DRAIN_TIMEOUT = 20.0
TELLS = hasattr(asyncio.Task, "cancelling")
"""Whether a task says that it was cancelled from outside: before Python 3.11 it does not."""
OPTIONS = ("concurrency", "poll_interval", "drain_timeout", "weights", "limits", "strict", "max_jobs")


class Worker:
    """Runs jobs and messages of one or more queues while its `async with` block lasts.

    On exit it takes no more, gives what runs `drain_timeout` seconds, then cancels it and hands it back unharmed.
    When the block ends by an error or a cancellation it does not drain but hands back at once. An internal error
    ends the block: a worker never stops silently.

    Args:
        sources: `Jobs` and queues (`Queue.processing(...)`).
        concurrency: runs at the same time, for all queues together.
        poll_interval: seconds that it waits for a wake-up at most.
        drain_timeout: seconds that what runs has to end on exit.
        weights: by queue, its part of the slots when there is work in all of them; 1 if not named.
        limits: by queue, the slots that it may have at most.
        strict: a queue is only asked when there is no work in those before it.
        max_jobs: runs after which it takes no more; None for no limit.

    Attributes:
        concurrency, drain_timeout: see above.
        took: runs that began here.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        *sources: Source,
        concurrency: int = 10,
        poll_interval: Seconds = POLL_INTERVAL,
        drain_timeout: Seconds = DRAIN_TIMEOUT,
        weights: Mapping[Source, int] | None = None,
        limits: Mapping[Source, int] | None = None,
        strict: bool = False,
        max_jobs: int | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("Worker", unknown, OPTIONS)
        _refuse_sources(sources)
        if strict and weights:
            raise ConfigurationError("a worker takes its queues in strict order or by weights, not both")
        self.id = make_id()
        self.concurrency = whole("concurrency", concurrency, least=1, most=10_000)
        self._poll_interval = seconds("poll_interval", poll_interval, least=0.01, most=60)
        self.drain_timeout = seconds("drain_timeout", drain_timeout)
        self._sources = sources
        self._weights = _by_source("weights", weights, sources)
        self._limits = _by_source("limits", limits, sources)
        self._strict = strict
        self._max_jobs = None if max_jobs is None else whole("max_jobs", max_jobs, least=1)
        self.took = 0
        self.stuck: set[Run] = set()
        self._scopes: list[anyio.CancelScope] = []
        self._slots = 0
        self._entered = False

    def __repr__(self) -> str:
        return f"<Worker of {self._names()}, concurrency {self.concurrency}>"

    @property
    def healthy(self) -> bool:
        """Whether none of its threads is stuck: in a plain function that runs for more than ten of its timeouts."""
        return not self.stuck

    @property
    def silent(self) -> float:
        """Seconds since it last told Redis that it is there, which it does every ten; of several queues, the most."""
        return max(time.monotonic() - line.attended for line in self._lines)

    def quiet(self) -> None:
        """Take no more from now on, while its block goes on; what runs may end. Call on its event loop."""
        self._pool.close()

    async def rest(self) -> None:
        """Wait until nothing runs here, because its queues have nothing that it may run now."""
        await self._pool.rest()

    async def spent(self) -> None:
        """Wait until `max_jobs` have been run: it takes no more."""
        await self._pool.spent.wait()

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("this worker is running already: make another one")
        self._entered = True
        self._owner = current_task()
        self._scopes, self._slots, self.took = [], 0, 0
        self.id = make_id()  # what its lanes remember in Redis is not of an earlier time
        threads = anyio.CapacityLimiter(self.concurrency)
        self._lines = [Line(self, source, self._poll_interval, threads) for source in self._sources]
        self._by_courier = {line.courier: line for line in self._lines}
        shares = [self._share(line) for line in self._lines]
        self._pool = Pool(shares, strict=self._strict, slots=self.concurrency, most=self._max_jobs)
        self._all_idle, self._all_deaf, self._listening = anyio.Event(), anyio.Event(), anyio.CancelScope()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._start()
        log.info("worker of %s started: concurrency %d", self._names(), self.concurrency)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        cancelled = await self._drain(self.drain_timeout if error is None else 0)
        try:
            _, again = await to_the_end(self._hand_back)
        finally:
            for line in self._lines:
                line.leases.stop()
            for scope in (*self._scopes, self._tasks.cancel_scope):
                scope.cancel()
            self._entered = False
            ended = await leave(self._tasks, kind, error, trace)
        log.info("worker of %s stopped", self._names())
        if cancelled or again:
            raise cancelled or again  # type: ignore[misc]
        return ended

    async def _drain(self, limit: float) -> BaseException | None:
        """Take no more, and let what runs end; a cancellation ends the wait, and is answered."""
        self._pool.close()
        try:
            with anyio.move_on_after(limit):
                await self._all_idle.wait()
        except anyio.get_cancelled_exc_class() as error:
            return error
        return None

    def _share(self, line: Line) -> Share:
        line_limit = min(self._limits.get(line.source, self.concurrency), self.concurrency)
        return Share(line.courier, self._weights.get(line.source, 1), line_limit)

    def _start(self) -> None:
        for line in self._lines:
            line.courier.bind(self._pool, line.delivered, line.cancel, line.told)
            line.leases.start()
            for lane in range(line.courier.lanes):
                self.begin(partial(line.courier.carry, lane))
        self.begin(self._listen)
        for _ in range(self.concurrency):
            self._slots += 1
            self.begin(self._slot)

    def begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start a task that a cancelled owner does not tear apart: it ends when the worker has."""
        scope = anyio.CancelScope(shield=True)
        self._scopes.append(scope)

        async def shielded() -> None:
            with scope:
                try:
                    await work()
                except asyncio.CancelledError as error:
                    if scope.cancel_called or self.ends() or not TELLS:
                        raise
                    raise RuntimeError("somebody cancelled a task of the worker") from error

        self._tasks.start_soon(shielded)

    def ends(self) -> bool:
        """Whether its tasks are being cancelled: then a cancellation is not a handler's own."""
        return self._tasks.cancel_scope.cancel_called or is_cancelled(self._owner)

    async def _listen(self) -> None:
        """All that reads and reports, until the worker stops."""
        try:
            with self._listening:
                async with anyio.create_task_group() as group:
                    for line in self._lines:
                        group.start_soon(line.courier.listen)
                        group.start_soon(line.attend)
                        group.start_soon(line.notes.write)
                        if line.companion is not None:
                            group.start_soon(line.companion.run)
        finally:
            self._all_deaf.set()

    async def _slot(self) -> None:
        slot, outcome = Slot(), None
        try:
            while (claim := await self._pool.next(slot, outcome)) is not None:
                outcome = await self._run(self._line(slot), claim)
        finally:
            self._slots -= 1
            if self._slots == 0:
                self._all_idle.set()

    def _line(self, slot: Slot) -> Line:
        assert slot.share is not None
        return self._by_courier[slot.share.courier]

    async def _run(self, line: Line, claim: Claim) -> Outcome | None:
        self.took += 1
        try:
            run = line.source.open(claim)
            context = run.context()
        except Exception as error:
            log.error("job %s has a record that cannot be read: %r", claim.id, error)
            return Outcome(claim.id, claim.generation, "fail", text=f"unreadable record: {error!r}")
        line.hold(run)
        return await Apart(run.outcome(line.host), context)

    async def _hand_back(self) -> None:
        for line in self._lines:
            for run in line.leases.runs:
                run.stop("shutdown")
        await self._all_idle.wait()
        for line in self._lines:
            line.courier.finish()
        await self._handed_back()

    async def _handed_back(self) -> None:
        with anyio.move_on_after(HAND_BACK_LIMIT):
            for line in self._lines:
                await line.courier.done.wait()
                await line.courier.carry_rest()
        if any(line.courier.loaded for line in self._lines):
            log.error("the last outcomes could not be handed in: those jobs run again when their leases end")
            return
        self._listening.cancel()
        await self._all_deaf.wait()
        for line in self._lines:
            await line.leave()

    def _names(self) -> str:
        return " and ".join(f"queue {source.name!r}" for source in self._sources)


def _refuse_sources(sources: Sequence[Source]) -> None:
    if not sources:
        raise ConfigurationError("a worker needs a queue: Worker(jobs)")
    for source in sources:
        if not isinstance(source, Source):
            raise ConfigurationError(f"a worker takes Jobs and queue.processing(...), not {source!r}")
    if len({(id(source._kit), source.space, source.name) for source in sources}) < len(sources):
        raise ConfigurationError("a worker was given the same queue twice")


def _by_source(name: str, given: object, sources: Sequence[Source]) -> dict[Source, int]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{name} must be a mapping from queues to numbers, as in {name}={{mail: 2}}")
    for source in given:
        if source not in sources:
            raise ConfigurationError(f"{name} names {source!r}, which is none of the queues of this worker")
    return {source: whole(name, number, least=1, most=10_000) for source, number in given.items()}


async def leave(
    tasks: anyio.abc.TaskGroup,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
) -> bool | None:
    """Leave the task group; a single error, also of several tasks, comes out as itself rather than as a group."""
    try:
        return await tasks.__aexit__(kind, error, trace)
    except BaseException as raised:
        errors = _leaves(raised)
        if errors == [raised] or len({repr(each) for each in errors}) > 1:
            raise
        raise errors[0] from None


def _leaves(error: BaseException) -> list[BaseException]:
    """What is in a group, and in groups within it. (Python 3.10 has no exception groups of its own.)"""
    inner: Sequence[BaseException] = getattr(error, "exceptions", ())
    return [leaf for each in inner for leaf in _leaves(each)] or [error]
