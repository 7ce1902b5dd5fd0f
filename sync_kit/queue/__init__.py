"""Queues in Redis: the engine under the jobs, and plain messages. See README.md here."""

from sync_kit.queue.events import Event, Failed, Finished, Lost, Parked, Retried, Sent, Started
from sync_kit.queue.info import WorkerInfo
from sync_kit.queue.records import Claim, Entry, Keep, Outcome, Turn
from sync_kit.queue.worker import Worker

__all__ = [
    "Claim",
    "Entry",
    "Event",
    "Failed",
    "Finished",
    "Keep",
    "Lost",
    "Outcome",
    "Parked",
    "Retried",
    "Sent",
    "Started",
    "Turn",
    "Worker",
    "WorkerInfo",
]
