"""The blocking twin of `Jobs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sync_kit.jobs.results import wait_for_result_blocking
from sync_kit.queue.base import BlockingBase

if TYPE_CHECKING:
    from sync_kit.jobs.job import Counts, Job, JobList, Status
    from sync_kit.jobs.jobs import Jobs
    from sync_kit.options import Seconds


class BlockingJobs(BlockingBase):
    """The blocking twin of `Jobs`: the same verbs for looking and acting, without await. Workers are async only."""

    _source: Jobs

    def get(self, job_id: str) -> Job | None:
        """See `Jobs.get`."""
        return self._source.run_blocking(self._source.get_flow(job_id), "get(...)")

    def result(self, job_id: str, timeout: Seconds | None = None) -> Any:
        """See `Jobs.result`."""
        return wait_for_result_blocking(self._source, job_id, timeout)

    def list(
        self,
        *,
        status: Status,
        task: str | None = None,
        tag: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> JobList:
        """See `Jobs.list`."""
        flow = self._source.list_flow(status, task, tag, limit, cursor)
        return self._source.run_blocking(flow, "list(...)")

    def counts(self) -> Counts:
        """See `Jobs.counts`."""
        return self._source.run_blocking(self._source.counts_flow(), "counts()")

    def cancel(self, job_id: str) -> bool:
        """See `Jobs.cancel`."""
        return self._source.run_blocking(self._source.cancel_flow(job_id), "cancel(...)")

    def retry(self, job_id: str) -> bool:
        """See `Jobs.retry`."""
        return self._source.run_blocking(self._source.retry_flow(job_id), "retry(...)") == 1

    def retry_failed(self) -> int:
        """See `Jobs.retry_failed`."""
        return self._source.run_blocking(self._source.desk.retry_flow(), "retry_failed()")

    def delete(self, job_id: str) -> bool:
        """See `Jobs.delete`."""
        return self._source.run_blocking(self._source.delete_flow(job_id), "delete(...)") == 1
