"""Jobs that run at once, where they are sent."""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from sync_kit._io.loops import Loop, current_task, current_token, is_cancelled
from sync_kit.jobs import outlet
from sync_kit.queue.apart import Apart
from sync_kit.queue.notes import Notes
from sync_kit.queue.records import Claim
from sync_kit.queue.run import Host
from sync_kit.testing.errors import FailedJobsError, NestedTooDeepError
from sync_kit.testing.mode import Mode
from sync_kit.testing.stand_in import stand_in
from sync_kit.testing.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit.jobs import Receipt, Sender
    from sync_kit.jobs.parcel import Parcel
    from sync_kit.queue.records import Item, Outcome
    from sync_kit.queue.run import Run
    from sync_kit.queue.source import Source
    from sync_kit.testing.sent import SentJob, Slot
    from sync_kit.testing.stand_in import Call

MOST_DEPTH = 50
THREADS = Threads()


def inline() -> Inline:
    """Run what is sent at once: `with inline() as sent: ...`. Redis is not asked.

    `send` returns when the job has ended. Payloads make the trip as JSON, the handler gets its `Job`, retries follow
    without pause, hooks are called; delays, times and priorities are ignored. What a job fails with for good is
    raised by the `send` of the test; a handler that sends is not told, as on a worker.

    An `async def` runs on the event loop of the sender, a plain `def` on a thread of its own, where it fails when it
    overruns its timeout. For a blocking `send` a plain `def` runs in the sender's own thread, an `async def` on an
    event loop of its own.

    It holds for the whole process, threads included.

    Returns:
        A context manager that gives the list of what is sent, as `recorded` does.
    """
    return Inline()


class Inline(Mode):
    """See `inline`."""

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[Slot, str] = {}

    async def send(self, parcel: Parcel) -> list[Receipt]:
        """See `Outlet.send`."""
        await anyio.lowlevel.checkpoint()
        with Nesting(parcel.sender.name) as nesting:
            accepted = self.accept(parcel)
            call = (outlet.threads or THREADS).call
            endings = await self._run_all(parcel.sender, accepted.items, nesting.chain, call)
        return accepted.receipts(endings)

    def send_blocking(self, parcel: Parcel) -> list[Receipt]:
        """See `Outlet.send_blocking`."""
        with Nesting(parcel.sender.name) as nesting:
            accepted = self.accept(parcel)
            work = partial(self._run_all, parcel.sender, accepted.items, nesting.chain)
            endings = (outlet.threads or THREADS).run(work)
        return accepted.receipts(endings)

    def owner(self, slot: Slot) -> str | None:
        """See `Mode.owner`."""
        return self._running.get(slot)

    def hold(self, job: SentJob, owner: str | None) -> None:  # noqa: ARG002
        """See `Mode.hold`: one that runs and is replaced goes on."""
        if job.slot is not None:
            self._running[job.slot] = job.id

    async def _run_all(
        self, sender: Sender[Any, Any], items: Sequence[Item], chain: Chain, call: Call
    ) -> dict[str, Outcome]:
        endings: dict[str, Outcome] = {}
        failures: dict[str, BaseException] = {}
        source = stand_in(sender.jobs, call, failures)
        try:
            for item in items:
                endings[item.id] = await _run(source, item)
                self._let_go([item])
        finally:
            self._let_go(items)
            chain.errors += failures.values()
        return endings

    def _let_go(self, items: Sequence[Item]) -> None:
        ended = {item.id for item in items}
        for slot in [slot for slot, owner in list(self._running.items()) if owner in ended]:
            self._running.pop(slot, None)


ENDS = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)


class Chain:
    """A job that was sent by a test, the jobs that it sends, those that these send, and so on.

    Attributes:
        errors: of jobs that failed for good; who sent the first one is told.
        broken: there is no end to it, so no more are run.
    """

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.broken = False


_inside: contextvars.ContextVar[tuple[Chain, int] | None] = contextvars.ContextVar("_inside", default=None)


class Nesting:
    """Around each send: who sends within it belongs to the same chain. Leaving the outermost one raises what failed."""

    def __init__(self, task: str) -> None:
        self.chain, depth = _inside.get() or (Chain(), 0)
        self._depth = depth + 1
        if self._depth > MOST_DEPTH or self.chain.broken:
            self.chain.broken = True
            raise NestedTooDeepError(task, MOST_DEPTH)

    def __enter__(self) -> Nesting:
        self._outside = _inside.set((self.chain, self._depth))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        _inside.reset(self._outside)
        if kind is None and self._depth == 1 and self.chain.errors:
            error = self.chain.errors[0]
            if _ends_a_test(error):
                raise FailedJobsError([repr(error)]) from error
            raise error


def _ends_a_test(error: BaseException) -> bool:
    """An exit or a cancellation that a handler raised by itself must not be taken for one of the test.

    What test frameworks raise to fail a test (pytest's `fail` is no `Exception` either) is meant to be.
    """
    inner = getattr(error, "exceptions", ())
    return isinstance(error, ENDS) or (not isinstance(error, Exception) and any(map(_ends_a_test, inner)))


class Unheard(Notes):
    """For what runs say of themselves: nobody can ask for it."""

    def progress(self, run: tuple[str, int], said: str) -> None:
        """See `Notes.progress`."""

    def line(self, run: tuple[str, int], said: str) -> None:
        """See `Notes.line`."""


async def _run(source: Source, item: Item) -> Outcome:
    """Run one job until it is completed or failed."""
    attempt = 0
    while True:
        attempt += 1
        run = source.open(Claim(item.id, item.kind, item.body, attempt, attempt, 0))
        if (ending := await _outcome(source, run)).word != "retry":
            return ending


async def _outcome(source: Source, run: Run) -> Outcome:
    """Let a run end, in a task of its own as on a worker. When the sender is cancelled, so is the handler."""
    owner, done = current_task(), anyio.Event()
    ended: list[Outcome] = []
    raised: list[BaseException] = []
    notes = Unheard(source, Loop(current_token()))
    host = Host(anyio.CapacityLimiter(1), ended.append, set(), lambda: is_cancelled(owner), notes)

    async def shielded() -> None:
        try:
            with anyio.CancelScope(shield=True):
                ended.extend(filter(None, [await Apart(run.outcome(host), run.context())]))
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # an exit of the test's own; the task group would wrap it
            raised.append(error)
        finally:
            done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(shielded)
        try:
            await done.wait()
        except anyio.get_cancelled_exc_class():
            run.stop("shutdown")
            raise
    if raised:
        raise raised[0]
    return ended[0]
