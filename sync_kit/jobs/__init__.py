"""Background jobs: sent from anywhere, run at least once by a worker. See README.md here."""

from sync_kit.jobs.blocking import BlockingJobs
from sync_kit.jobs.current import JobLogFilter, current_job
from sync_kit.jobs.job import Counts, Job, JobList
from sync_kit.jobs.jobs import Jobs
from sync_kit.jobs.receipt import BlockingReceipt, Receipt
from sync_kit.jobs.reporting import BlockingJob, Progress
from sync_kit.jobs.schedules import BlockingSchedules, Schedule, Schedules
from sync_kit.jobs.task import BlockingSender, Sender, Task
from sync_kit.queue.backoff import Backoff, Retry

__all__ = [
    "Backoff",
    "BlockingJob",
    "BlockingJobs",
    "BlockingReceipt",
    "BlockingSchedules",
    "BlockingSender",
    "Counts",
    "Job",
    "JobList",
    "JobLogFilter",
    "Jobs",
    "Progress",
    "Receipt",
    "Retry",
    "Schedule",
    "Schedules",
    "Sender",
    "Task",
    "current_job",
]
