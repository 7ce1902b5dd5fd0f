"""The verbs for looking at jobs and acting on them: plain in sync code, with an `a` before them in async code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import builtins

    import sync_kit
    from sync_kit import Counts, Job, WorkerInfo
    from sync_kit._io.flow import Flow
    from sync_kit.jobs import JobList
    from sync_kit.jobs.job import Status
    from sync_kit.options import Seconds

T = TypeVar("T")


class Looking:
    """The part of `Jobs` that looks and acts. Inside of an event loop the plain verbs refuse and name the other one.

    Every verb raises `Unavailable` when Redis cannot be reached; whether a change was carried out is not known then.
    """

    core: sync_kit.Jobs

    def get(self, job_id: str) -> Job | None:
        """What is known of a job; None if it is unknown or no longer kept."""
        return self._do(self.core.get_flow(job_id), "aget(...)")

    async def aget(self, job_id: str) -> Job | None:
        """See `get`."""
        return await self.core.get(job_id)

    def list(
        self,
        *,
        status: Status,
        task: str | None = None,
        tag: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> JobList:
        """A page of the jobs of one status; those that ended have the newest first, the others what is next.

        Jobs that come, go or move meanwhile make no other job appear twice or not at all.

        Args:
            status: waiting, delayed, active, completed, failed, cancelled or parked.
            task: only jobs of this task.
            tag: only jobs with this tag.
            limit: jobs at most. With a filter a page may hold fewer although there are more: it ends after
                about 1000 jobs that were looked at.
            cursor: what `.cursor` of the page before says; the first page if not given.

        Returns:
            A list of jobs with a `cursor` for the next page, None at the end.

        Raises:
            ConfigurationError: an argument is wrong.
        """
        return self._do(self.core.list_flow(status, task, tag, limit, cursor), "alist(...)")

    async def alist(
        self,
        *,
        status: Status,
        task: str | None = None,
        tag: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> JobList:
        """See `list`."""
        return await self.core.list(status=status, task=task, tag=tag, limit=limit, cursor=cursor)

    def counts(self) -> Counts:
        """How many jobs are in each status."""
        return self._do(self.core.counts_flow(), "acounts()")

    async def acounts(self) -> Counts:
        """See `counts`."""
        return await self.core.counts()

    def result(self, job_id: str, timeout: Seconds | None = None) -> Any:
        """What the handler of a job made, once that has ended. Takes, returns and raises what `Receipt.result` does."""
        self.core.kit.refuse_in_loop("jobs.aresult(...)")
        return self.core.blocking.result(job_id, timeout)

    async def aresult(self, job_id: str, timeout: Seconds | None = None) -> Any:
        """See `result`."""
        return await self.core.result(job_id, timeout)

    def cancel(self, job_id: str) -> bool:
        """End a job that has not ended: one that waits at once, one that runs within a second.

        The handler of a running job is cancelled; a plain function on a thread cannot be, so it goes on, and if it
        ends well its job is completed. A job that is cancelled is neither retried nor run again; it is kept as
        `cancelled` as long as completed ones.

        Returns:
            False if it had ended already, or is not known.
        """
        return self._do(self.core.cancel_flow(job_id), "acancel(...)")

    async def acancel(self, job_id: str) -> bool:
        """See `cancel`."""
        return await self.core.cancel(job_id)

    def retry(self, job_id: str) -> bool:
        """Let a job run again that failed or was cancelled, with all of its retries before it; False if it is none."""
        return self._do(self.core.retry_flow(job_id), "aretry(...)") == 1

    async def aretry(self, job_id: str) -> bool:
        """See `retry`."""
        return await self.core.retry(job_id)

    def retry_failed(self) -> int:
        """Let all jobs run again that have failed until now; returns how many there were.

        A hundred go at a time: when it is interrupted, the others stay where they are.
        """
        return self._do(self.core.desk.retry_flow(), "aretry_failed()")

    async def aretry_failed(self) -> int:
        """See `retry_failed`."""
        return await self.core.retry_failed()

    def delete(self, job_id: str) -> bool:
        """Forget a job that has ended; False if there is none of this id among them."""
        return self._do(self.core.delete_flow(job_id), "adelete(...)") == 1

    async def adelete(self, job_id: str) -> bool:
        """See `delete`."""
        return await self.core.delete(job_id)

    def pause(self) -> bool:
        """Let no worker take anything until `resume`; what runs goes on, and sending works as ever.

        It holds on all hosts and after restarts, until somebody resumes.

        Returns:
            Whether it was not paused before.
        """
        return self._do(self.core.desk.pause_flow(True), "apause()")

    async def apause(self) -> bool:
        """See `pause`."""
        return await self.core.pause()

    def resume(self) -> bool:
        """Undo `pause`, and wake a worker; returns whether it was paused."""
        return self._do(self.core.desk.pause_flow(False), "aresume()")

    async def aresume(self) -> bool:
        """See `resume`."""
        return await self.core.resume()

    def workers(self) -> builtins.list[WorkerInfo]:
        """The workers that said in the last 45 s that they work on this queue."""
        self.core.kit.refuse_in_loop("jobs.aworkers()")
        return self.core.blocking.workers()

    async def aworkers(self) -> builtins.list[WorkerInfo]:
        """See `workers`."""
        return await self.core.workers()

    def _do(self, flow: Flow[T], verb: str) -> T:
        return self.core.kit.run_blocking(flow, f"jobs.{verb}")
