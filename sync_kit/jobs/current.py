"""The job that runs here, for code that was not handed it: in a context variable, and in log records."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_kit.jobs.job import Job
    from sync_kit.jobs.run import JobRun

running_job: ContextVar[JobRun] = ContextVar("sync_kit_job")


def current_job() -> Job | None:
    """The job whose handler, middleware or hook calls this; None outside of a run.

    Also in threads and tasks that these start, as they inherit the context.
    """
    run = running_job.get(None)
    return None if run is None else run.job()


class JobLogFilter(logging.Filter):
    """Adds `job_id`, `task` and `attempt` of the running job to log records; `-` outside of one.

    Add it to a handler: `handler.addFilter(JobLogFilter())`, with a format like
    `"%(asctime)s %(task)s %(job_id)s %(attempt)s %(message)s"`. It lets every record pass.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        run = running_job.get(None)
        told = ("-", "-", "-") if run is None else (run.claim.id, run.task_name, run.claim.attempts)
        for name, value in zip(("job_id", "task", "attempt"), told, strict=True):
            record.__dict__.setdefault(name, value)  # what the caller said by extra= is the caller's
        return True
