"""Background jobs: sent from anywhere, run at least once by a worker. See README.md here."""

from sync_kit.jobs.blocking import BlockingJobs
from sync_kit.jobs.job import Counts, Job, JobList, Receipt
from sync_kit.jobs.jobs import Jobs
from sync_kit.jobs.task import BlockingSender, Sender, Task
from sync_kit.queue.backoff import Backoff, Retry

__all__ = [
    "Backoff",
    "BlockingJobs",
    "BlockingSender",
    "Counts",
    "Job",
    "JobList",
    "Jobs",
    "Receipt",
    "Retry",
    "Sender",
    "Task",
]
