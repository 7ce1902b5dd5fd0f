"""The answer to a send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sync_kit.errors import ConfigurationError
from sync_kit.jobs.results import wait_for_result, wait_for_result_blocking

if TYPE_CHECKING:
    from sync_kit.jobs.jobs import Jobs
    from sync_kit.options import Seconds


class Asking:
    """Whom to ask for a result is no part of a receipt's value: it is neither compared, nor copied, nor written."""

    __slots__ = ("_jobs",)

    if TYPE_CHECKING:
        _jobs: Jobs


@dataclass(frozen=True, slots=True)
class Receipt(Asking):
    """The answer to a `send`: the job is accepted and will run.

    Attributes:
        id: the job's id, a UUID version 7.
        task: the name of its task.
        duplicate: whether this is an older job that has the same unique key; then nothing was sent.
        schedule: a schedule was made or changed: `id` is its name, and jobs are sent when it is due.
    """

    id: str
    task: str
    duplicate: bool = False
    schedule: bool = False

    @property
    def blocking(self) -> BlockingReceipt:
        """The same verbs for code without an event loop."""
        return BlockingReceipt(self)

    async def result(self, timeout: Seconds | None = None) -> Any:
        """Wait until the job has ended, and return what its handler made; one is called when it has, and does not poll.

        Args:
            timeout: seconds to wait at most; for ever if not given. The job goes on either way.

        Returns:
            The result as plain JSON values; None if the task has no `result_ttl=`.

        Raises:
            JobError: it has failed, was cancelled, or its result could not be stored or is not kept any longer.
            TimeoutError: it has not ended in time.
            Unavailable: Redis cannot be reached.
        """
        return await wait_for_result(self._known(), self.id, timeout)

    def _known(self) -> Jobs:
        if self.schedule:
            raise ConfigurationError(f"schedule {self.id!r} has no result, its jobs have: ask jobs.result(id) for one")
        jobs: Jobs | None = getattr(self, "_jobs", None)
        if jobs is None:
            raise ConfigurationError(f"the receipt of job {self.id} does not come from a send: use jobs.result(id)")
        return jobs


def make_receipt(jobs: Jobs, job_id: str, task: str, *, duplicate: bool = False) -> Receipt:
    """The receipt of a job that was sent."""
    receipt = Receipt(job_id, task, duplicate)
    object.__setattr__(receipt, "_jobs", jobs)
    return receipt


class BlockingReceipt:
    """The verbs of a receipt, without await."""

    def __init__(self, receipt: Receipt) -> None:
        self._receipt = receipt

    def result(self, timeout: Seconds | None = None) -> Any:
        """See `Receipt.result`."""
        return wait_for_result_blocking(self._receipt._known(), self._receipt.id, timeout)
