"""One run of one job: which handler, in which context, and what its task makes of how it ended."""

from __future__ import annotations

import logging
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from sync_kit.errors import InvalidPayloadError
from sync_kit.jobs.current import running_job
from sync_kit.jobs.header import split
from sync_kit.jobs.job import running
from sync_kit.jobs.reporting import not_running
from sync_kit.jobs.results import write_result
from sync_kit.queue.run import Run, Stopped, text
from sync_kit.queue.schema import plain

if TYPE_CHECKING:
    from contextvars import Context

    from sync_kit.jobs.job import Job
    from sync_kit.jobs.jobs import Jobs
    from sync_kit.jobs.reporting import Progress
    from sync_kit.queue import Claim, Outcome
    from sync_kit.queue.notes import Notes
    from sync_kit.queue.run import Around, Host

log = logging.getLogger("sync_kit")


class JobRun(Run):
    """A claimed job while it runs here. Making one fails when its record cannot be read."""

    def __init__(self, claim: Claim, jobs: Jobs) -> None:
        self.header, self._payload = split(claim.body)
        super().__init__(claim, self.header.timeout)
        self._jobs = jobs
        self._task, self._version = jobs.find(claim.kind)
        self.task_name = jobs.title(claim.kind) if self._task is None else self._task.name
        self._data: Any = None
        self._host: Host | None = None
        self._worker: str | None = None
        self._has_said = False

    def __repr__(self) -> str:
        return f"<job {self.claim.id} of task {self.task_name!r}, run {self.claim.generation}>"

    def context(self) -> Context:
        """See `Run.context`: it knows the job, and what its sender's context said."""
        context = copy_context()
        context.run(running_job.set, self)
        if self.header.headers:
            for variable in self._jobs.carried:
                if (value := self.header.headers.get(variable.name)) is not None:
                    context.run(variable.set, value)
        return context

    async def outcome(self, host: Host) -> Outcome | None:
        """See `Run.outcome`; tells the hooks of the task, too."""
        task, self._host, self._worker = self._task, host, host.worker
        if task is None:
            log.error("%r: this worker has no such task; it is parked for one that does", self)
            return self.ended("park", text=f"no worker knew task {self.claim.kind!r} when it was due")
        try:
            self._data = task.load(self._payload, self._version)
        except Exception as error:  # a validator or an upgrade of the user's may raise anything
            self._data = plain(self._payload, secret=self.header.secret or task.schema.has_secrets)
            return await self.failed(error, final=isinstance(error, InvalidPayloadError))
        arguments = (self._data, self.job()) if task.wants_job else (self._data,)
        ended = await self.perform(task.handler, arguments, host, is_async=task.is_async, around=self._around())
        self._host = None
        if self._has_said:
            await host.notes.flush((self.claim.id, self.claim.generation))
        if ended is None:
            return await self._done()
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
        await task.policy.tell("on_failure" if pause is None else "on_retry", self.job, error)
        return outcome

    async def _done(self) -> Outcome | None:
        if self.given_up or self._task is None:
            return None
        ttl, result = self.header.result_ttl, ""
        if ttl:
            result = write_result(self.result, self._jobs.max_payload)
        outcome = self.ended("done", delay=ttl, text=result)
        await self._task.policy.tell("on_success", self.job)
        return outcome

    def _around(self) -> Around:
        middlewares = self._jobs.middlewares
        return [partial(each, self.job()) for each in reversed(middlewares)] if middlewares else ()

    def job(self) -> Job:
        """The job that runs, as handlers are given it."""
        return running(self.claim, self.task_name, self.header, self._data, self, self.result, self._worker)

    def progress(self, progress: Progress) -> None:
        """Takes what the job says of itself."""
        self._notes().progress((self.claim.id, self.claim.generation), progress.write())

    def line(self, line: str) -> None:
        """Takes a line of its log."""
        self._notes().line((self.claim.id, self.claim.generation), line)

    def _notes(self) -> Notes:
        if self._host is None:
            raise not_running(self.claim.id)
        self._has_said = True
        return self._host.notes
