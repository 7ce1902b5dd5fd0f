"""Rate limiting, exclusive sections, background jobs and queues on Redis or Valkey."""

from sync_kit.errors import (
    ConfigurationError,
    InvalidPayloadError,
    LockError,
    LockLostError,
    RateLimitError,
    ServerError,
    SyncKitError,
    Unavailable,
    UnknownTaskError,
)
from sync_kit.jobs import Backoff, Counts, Job, Jobs, Receipt, Retry, Task
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
    "Holder",
    "InvalidPayloadError",
    "Job",
    "Jobs",
    "Lease",
    "LockError",
    "LockLostError",
    "Message",
    "Mutex",
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
]
