"""Queues in Redis: the engine under the jobs, and plain messages. See README.md here."""

from sync_kit.queue.events import Event, Failed, Finished, Lost, Parked, Retried, Sent, Started
from sync_kit.queue.info import WorkerInfo
from sync_kit.queue.message import DeadLetter, DeadLetters, Message, ReceivedMessage, Size
from sync_kit.queue.queue import BlockingQueue, Queue
from sync_kit.queue.records import Claim, Entry, Keep, Outcome, Turn
from sync_kit.queue.worker import Worker

__all__ = [
    "BlockingQueue",
    "Claim",
    "DeadLetter",
    "DeadLetters",
    "Entry",
    "Event",
    "Failed",
    "Finished",
    "Keep",
    "Lost",
    "Message",
    "Outcome",
    "Parked",
    "Queue",
    "ReceivedMessage",
    "Retried",
    "Sent",
    "Size",
    "Started",
    "Turn",
    "Worker",
    "WorkerInfo",
]
