"""Cancel an operation at each of its awaits, one after the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator


class CutAt:
    """Awaits `work`, and calls `cancel` when it suspends for the `point`-th time (from 0)."""

    def __init__(self, work: Awaitable[Any], point: int, cancel: Callable[[], object]) -> None:
        self.work, self.point, self.cancel = work, point, cancel
        self.suspensions = 0

    @property
    def reached(self) -> bool:
        """Whether the work suspended often enough to be cancelled."""
        return self.suspensions > self.point

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.work.__await__()
        step: Callable[[], Any] = lambda: next(steps)  # noqa: E731
        while True:
            try:
                wish = step()
            except StopIteration as stop:
                return stop.value
            self._suspended()
            step = yield from _ask(steps, wish)

    def _suspended(self) -> None:
        if self.suspensions == self.point:
            self.cancel()
        self.suspensions += 1


def _ask(steps: Generator[Any, Any, Any], wish: Any) -> Generator[Any, Any, Callable[[], Any]]:
    """Hand a wish to the event loop; returns how the work goes on with the answer."""
    try:
        answer = yield wish
    except BaseException as error:
        thrown = error
        return lambda: steps.throw(thrown)
    return lambda: steps.send(answer)


async def cancel_points(
    action: Callable[[], Awaitable[Any]],
    after: Callable[[int], Awaitable[Any]] | None = None,
    *,
    edge: bool = False,
    limit: int = 1000,
) -> int:
    """Run `action` again and again, cancelled at its 0th, 1st, 2nd ... suspension, until one run completes.

    `after(point)` runs, uncancelled, after every run, the complete one included: put the assertions there.
    Cancellation is anyio's (a scope: every later await is cancelled too); with `edge=True` it is asyncio's
    own (the task is cancelled once, as `asyncio.wait_for` and `Task.cancel` do). Errors of `action`
    other than the cancellation are raised. Returns the number of runs that were cancelled.
    """
    run = _run_and_cancel_task if edge else _run_and_cancel_scope
    for point in range(limit):
        reached = await run(action, point)
        if after is not None:
            await after(point)
        if not reached:
            return point
    raise AssertionError(f"still not complete after {limit} runs")


async def _run_and_cancel_scope(action: Callable[[], Awaitable[Any]], point: int) -> bool:
    with anyio.CancelScope() as scope:
        work = CutAt(action(), point, scope.cancel)
        await work
    return work.reached


async def _run_and_cancel_task(action: Callable[[], Awaitable[Any]], point: int) -> bool:
    async def body() -> None:
        await work

    work = CutAt(action(), point, lambda: task.cancel())
    task = asyncio.ensure_future(body())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return work.reached
