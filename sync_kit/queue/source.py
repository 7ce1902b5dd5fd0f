"""A queue as its workers see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from sync_kit.queue.base import QueueBase

if TYPE_CHECKING:
    from collections.abc import Collection

    from sync_kit.queue.companion import Companion
    from sync_kit.queue.records import Claim
    from sync_kit.queue.run import Run


class Source(QueueBase, ABC):
    """A queue of which a worker of this process can run what it takes: `Jobs`, or a `Queue` with a handler."""

    max_deliveries: int | None = None
    """Runs after which what lost its worker is failed; if None, the engine counts lost workers only."""

    @property
    @abstractmethod
    def kinds(self) -> Collection[str]:
        """What a worker of this process can run."""

    @abstractmethod
    def open(self, claim: Claim) -> Run:
        """Make the run of what was claimed. Whatever it raises fails the job: its record cannot be read."""

    def companion(self, worker: str) -> Companion | None:  # noqa: ARG002 (a plain queue has none)
        """What is to live beside this queue in a worker, for as long as that runs."""
        return None
