"""Rate limiting, exclusive sections, background jobs and queues on Redis or Valkey."""

from sync_kit.errors import (
    ConfigurationError,
    DuplicateJobError,
    InvalidPayloadError,
    JobError,
    LockError,
    LockLostError,
    RateLimitError,
    ServerError,
    SyncKitError,
    Unavailable,
    UnknownTaskError,
)
from sync_kit.jobs import Backoff, Counts, Job, JobLogFilter, Jobs, Progress, Receipt, Retry, Task, current_job
from sync_kit.kit import SyncKit, configure
from sync_kit.mutex import BlockingLease, Holder, Lease, Mutex, Semaphore
from sync_kit.queue import Message, Queue, Worker, WorkerInfo
from sync_kit.ratelimit import Decision, RateLimiter

__all__ = [
    "Backoff",
    "BlockingLease",
    "ConfigurationError",
    "Counts",
    "Decision",
    "DuplicateJobError",
    "Holder",
    "InvalidPayloadError",
    "Job",
    "JobError",
    "JobLogFilter",
    "Jobs",
    "Lease",
    "LockError",
    "LockLostError",
    "Message",
    "Mutex",
    "Progress",
    "Queue",
    "RateLimitError",
    "RateLimiter",
    "Receipt",
    "Retry",
    "Semaphore",
    "ServerError",
    "SyncKit",
    "SyncKitError",
    "Task",
    "Unavailable",
    "UnknownTaskError",
    "Worker",
    "WorkerInfo",
    "configure",
    "current_job",
]
