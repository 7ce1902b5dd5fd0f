"""One run of one job: from the claim to its outcome."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.lowlevel
import anyio.to_thread

from sync_kit.errors import InvalidPayloadError
from sync_kit.jobs.job import running, split
from sync_kit.queue import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sync_kit.jobs.policy import Policy
    from sync_kit.jobs.task import Task
    from sync_kit.queue import Claim

log = logging.getLogger("sync_kit")

UNKNOWN_PAUSE = 30.0
"""Seconds until a job is offered again after a worker that does not know its task put it back."""
MOST_TEXT = 4000

Reason = Literal["timeout", "lost", "shutdown"]


class Run:
    """A claimed job while it runs here. `stop` may be called from the loop, at any time."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.header, self._payload = split(claim.body)
        self.reason: Reason | None = None
        self._scope = anyio.CancelScope()
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<job {self.claim.id} of task {self.header.task!r}, run {self.claim.generation}>"

    def stop(self, reason: Reason) -> None:
        """Cancel the handler; a plain function on a thread cannot be interrupted and goes on."""
        self.reason = self.reason or reason
        self._scope.cancel()

    async def outcome(self, tasks: Mapping[str, Task[Any, Any]], threads: anyio.CapacityLimiter) -> Outcome:
        """Run the handler, say what becomes of the job, and tell the hooks of its task."""
        task = tasks.get(self.header.task)
        if task is None:
            log.error("%r: this worker has no such task; it is offered again in %.0f s", self, UNKNOWN_PAUSE)
            return self._ended("back", delay=UNKNOWN_PAUSE)
        try:
            job = running(self.claim, self.header, task.schema.load(self._payload))
        except InvalidPayloadError as error:
            self._error = error
            await task.policy.tell("on_failure", running(self.claim, self.header, self._plain()), error)
            return self._ended("fail", text=_text(error))
        outcome = await self._guarded(task, task.arguments(job), threads)
        if outcome.word == "done":
            await task.policy.tell("on_success", job)
        elif outcome.word != "back":
            await task.policy.tell("on_retry" if outcome.word == "retry" else "on_failure", job, self._error)
        return outcome

    async def _guarded(
        self, task: Task[Any, Any], arguments: tuple[Any, ...], threads: anyio.CapacityLimiter
    ) -> Outcome:
        began = time.monotonic()
        try:
            with self._scope:
                await self._call(task, arguments, threads)
        except asyncio.CancelledError as error:
            if _worker_is_cancelled():
                raise
            return self._failed(task.policy, error)
        except (Exception, SystemExit) as error:
            known = self.reason in (None, "timeout")
            return self._failed(task.policy, error) if known else self._upset(task.policy, error)
        if self._scope.cancelled_caught:
            return self._stopped(task.policy)
        self._report_overrun(time.monotonic() - began)
        return self._ended("done")

    async def _call(self, task: Task[Any, Any], arguments: tuple[Any, ...], threads: anyio.CapacityLimiter) -> None:
        if not task.is_async:
            await anyio.to_thread.run_sync(task.handler, *arguments, limiter=threads)
        elif self.header.timeout is None:
            await task.handler(*arguments)
        else:
            with anyio.CancelScope(deadline=anyio.current_time() + self.header.timeout) as limit:
                await task.handler(*arguments)
            if limit.cancelled_caught:
                self.stop("timeout")
                await anyio.lowlevel.checkpoint()

    def _stopped(self, policy: Policy) -> Outcome:
        if self.reason == "timeout":
            return self._failed(policy, TimeoutError(f"the run took longer than {self.header.timeout:g} s"))
        return self._ended("back")

    def _upset(self, policy: Policy, error: BaseException) -> Outcome:
        """A handler that was told to stop raised an error of its own on the way out: that is not the job's failure."""
        log.warning("%r raised while it was stopped (%s)", self, self.reason, exc_info=error)
        return self._stopped(policy)

    def _failed(self, policy: Policy, error: BaseException) -> Outcome:
        self._error = error
        pause = policy.pause(error, self.claim.attempts, self.header.retries)
        then = "for good" if pause is None else f"tried again in {pause:.1f} s" if pause else "tried again"
        log.warning("%r failed, %s", self, then, exc_info=error)
        if pause is None:
            return self._ended("fail", text=_text(error))
        return self._ended("retry", delay=pause, text=_text(error))

    def _plain(self) -> Any:
        """The payload as it is, for want of one that the schema accepts."""
        try:
            return json.loads(self._payload)
        except ValueError:
            return None

    def _ended(self, word: Literal["done", "retry", "fail", "back"], *, delay: float = 0.0, text: str = "") -> Outcome:
        return Outcome(self.claim.id, self.claim.generation, word, delay, text)

    def _report_overrun(self, seconds: float) -> None:
        limit = self.header.timeout
        if limit is not None and seconds > limit:
            log.warning(
                "%r took %.1f s, more than its timeout of %g s; it could not be interrupted", self, seconds, limit
            )


def _worker_is_cancelled() -> bool:
    """Whether a cancellation is meant for the task that the handler runs in, not raised by the handler itself."""
    task: Any = asyncio.current_task()
    return not hasattr(task, "cancelling") or task.cancelling() > 0


def _text(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(type(error), error)).strip()[:MOST_TEXT]
