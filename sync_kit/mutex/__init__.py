"""Exclusive sections: at most one live lease for each resource, renewed while it is needed. See README.md here."""

from sync_kit.mutex.holder import Holder
from sync_kit.mutex.lease import BlockingLease, Lease
from sync_kit.mutex.mutex import BlockingMutex, Mutex
from sync_kit.mutex.semaphore import BlockingSemaphore, Semaphore
from sync_kit.mutex.template import KeyTemplate

__all__ = [
    "BlockingLease",
    "BlockingMutex",
    "BlockingSemaphore",
    "Holder",
    "KeyTemplate",
    "Lease",
    "Mutex",
    "Semaphore",
]
