"""One run of one job: which handler, and what its task makes of how it ended."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from sync_kit.errors import InvalidPayloadError
from sync_kit.jobs.job import running, split
from sync_kit.queue.run import Run, Stopped, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sync_kit.jobs.job import Job
    from sync_kit.jobs.task import Task
    from sync_kit.queue import Claim, Outcome
    from sync_kit.queue.run import Host

log = logging.getLogger("sync_kit")


class JobRun(Run):
    """A claimed job while it runs here. Making one fails when its record cannot be read."""

    def __init__(self, claim: Claim, tasks: Mapping[str, Task[Any, Any]]) -> None:
        self.header, self._payload = split(claim.body)
        super().__init__(claim, self.header.timeout)
        self._task = tasks.get(claim.kind)
        self._data: Any = None

    def __repr__(self) -> str:
        return f"<job {self.claim.id} of task {self.claim.kind!r}, run {self.claim.generation}>"

    async def outcome(self, host: Host) -> Outcome | None:
        """See `Run.outcome`; tells the hooks of the task, too."""
        task = self._task
        if task is None:
            log.error("%r: this worker has no such task; it is parked for one that does", self)
            return self.ended("park", text=f"no worker knew task {self.claim.kind!r} when it was due")
        try:
            self._data = task.schema.load(self._payload)
        except Exception as error:  # a validator of the user's may raise anything
            self._data = self._plain()
            return await self.failed(error, final=isinstance(error, InvalidPayloadError))
        arguments = (self._data, self._job()) if task.wants_job else (self._data,)
        ended = await self.perform(task.handler, arguments, host, is_async=task.is_async)
        if ended is None:
            return await self._done(task)
        return self.ended("back") if isinstance(ended, Stopped) else await self.failed(ended)

    async def failed(self, error: BaseException, *, final: bool = False) -> Outcome | None:
        """See `Run.failed`."""
        task = self._task
        if task is None or self.given_up:
            return None
        pause = None if final else task.policy.pause(error, self.claim.attempts, self.header.retries)
        then = "for good" if pause is None else f"tried again in {pause:.1f} s" if pause else "tried again"
        log.warning("%r failed, %s", self, then, exc_info=error)
        if pause is None:
            outcome = self.ended("fail", text=text(error))
        else:
            outcome = self.ended("retry", delay=pause, text=text(error))
        await task.policy.tell("on_failure" if pause is None else "on_retry", self._job, error)
        return outcome

    async def _done(self, task: Task[Any, Any]) -> Outcome | None:
        if self.given_up:
            return None
        outcome = self.ended("done")
        await task.policy.tell("on_success", self._job)
        return outcome

    def _job(self) -> Job:
        return running(self.claim, self.header, self._data)

    def _plain(self) -> Any:
        """The payload as it is, for want of one that the schema accepts."""
        try:
            return json.loads(self._payload)
        except ValueError:
            return None
