"""The worker: slots that run jobs, beside your code or as a process of its own."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Any

import anyio

from sync_kit.errors import ConfigurationError
from sync_kit.jobs.courier import Courier, Slot
from sync_kit.jobs.renewal import JobRenewal
from sync_kit.jobs.run import Run
from sync_kit.queue import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from typing_extensions import Self

    from sync_kit.jobs.jobs import Jobs
    from sync_kit.queue import Claim

log = logging.getLogger("sync_kit")

HAND_BACK_LIMIT = 5.0


class Worker:
    """Runs the jobs of a queue while its `async with` block lasts. Made by `jobs.worker(...)`.

    On exit it takes no more jobs, gives the running ones `drain_timeout` seconds, then cancels them
    and hands them back unharmed. When the block ends by an error or a cancellation it does not drain
    but hands back at once. An internal error ends the block: a worker never stops silently.
    """

    def __init__(self, jobs: Jobs, *, concurrency: int, poll_interval: float, drain_timeout: float) -> None:
        self._jobs = jobs
        self._concurrency = concurrency
        self._poll_interval = poll_interval
        self._drain_timeout = drain_timeout
        self._runs: set[Run] = set()
        self._scopes: list[anyio.CancelScope] = []
        self._slots = 0
        self._entered = False

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("this worker is running already: make another with jobs.worker(...)")
        self._entered = True
        kit, engine = self._jobs.kit, self._jobs.engine
        self._renewal = JobRenewal(kit, engine, kit.home().loop, self._jobs.name)
        self._courier = Courier(kit, engine, self._jobs.keep, self._poll_interval, self._delivered)
        self._threads = anyio.CapacityLimiter(self._concurrency)
        self._all_idle = anyio.Event()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._renewal.start()
        self._begin(self._courier.carry)
        self._tasks.start_soon(self._courier.wake)
        for _ in range(self._concurrency):
            self._slots += 1
            self._begin(self._slot)
        log.info("worker of queue %r started: concurrency %d", self._jobs.name, self._concurrency)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            with anyio.CancelScope(shield=True):
                await self._end(drain=error is None)
        finally:
            self._renewal.stop()
            for scope in (*self._scopes, self._tasks.cancel_scope):
                scope.cancel()
            self._entered = False
            ended = await _leave(self._tasks, kind, error, trace)
        log.info("worker of queue %r stopped", self._jobs.name)
        return ended

    def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start a task that a cancelled owner does not tear apart: it ends when it is told to."""
        scope = anyio.CancelScope(shield=True)
        self._scopes.append(scope)

        async def shielded() -> None:
            with scope:
                await work()

        self._tasks.start_soon(shielded)

    async def _slot(self) -> None:
        slot, outcome = Slot(), None
        try:
            while (claim := await self._courier.next(slot, outcome)) is not None:
                outcome = await self._run(claim)
        finally:
            self._slots -= 1
            if self._slots == 0:
                self._all_idle.set()

    async def _run(self, claim: Claim) -> Outcome:
        try:
            run = Run(claim)
        except (ValueError, KeyError) as error:
            log.error("job %s has a record that cannot be read: %r", claim.id, error)
            return Outcome(claim.id, claim.generation, "fail", text=f"unreadable record: {error!r}")
        self._runs.add(run)
        self._renewal.hold(run)
        try:
            return await run.outcome(self._jobs.tasks, self._threads)
        finally:
            self._runs.discard(run)

    def _delivered(self, outcome: Outcome) -> None:
        self._renewal.drop(outcome.id, outcome.generation)

    async def _end(self, *, drain: bool) -> None:
        self._courier.stop_taking()
        with anyio.move_on_after(self._drain_timeout if drain else 0):
            await self._all_idle.wait()
        for run in list(self._runs):
            run.stop("shutdown")
        await self._all_idle.wait()
        self._courier.finish()
        await self._handed_back()

    async def _handed_back(self) -> None:
        with anyio.move_on_after(HAND_BACK_LIMIT):
            await self._courier.done.wait()
        if not self._courier.done.is_set():
            log.error("the last outcomes could not be handed in: those jobs run again when their leases end")


async def _leave(
    tasks: anyio.abc.TaskGroup,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
) -> bool | None:
    """Leave the task group; a single error comes out as itself rather than as a group."""
    try:
        return await tasks.__aexit__(kind, error, trace)
    except BaseException as raised:
        inner: Any = getattr(raised, "exceptions", ())  # Python 3.10 has no exception groups of its own
        if len(inner) == 1:
            raise inner[0] from None
        raise


async def run_worker(worker: Worker, *, handle_signals: bool) -> None:
    """Be a worker until cancelled, or until SIGINT or SIGTERM where these are handled."""
    if not handle_signals:
        async with worker:
            await anyio.sleep_forever()
        return
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with worker:
            async for number in signals:
                log.info("signal %s: draining", signal.Signals(number).name)
                break
