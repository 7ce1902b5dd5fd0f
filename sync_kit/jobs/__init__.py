"""Background jobs: sent from anywhere, run at least once by a worker. See README.md here."""

from sync_kit.jobs.job import Counts, Job, Receipt
from sync_kit.jobs.jobs import BlockingJobs, Jobs
from sync_kit.jobs.policy import Backoff, Retry
from sync_kit.jobs.task import BlockingSender, Sender, Task
from sync_kit.jobs.worker import Worker

__all__ = [
    "Backoff",
    "BlockingJobs",
    "BlockingSender",
    "Counts",
    "Job",
    "Jobs",
    "Receipt",
    "Retry",
    "Sender",
    "Task",
    "Worker",
]
