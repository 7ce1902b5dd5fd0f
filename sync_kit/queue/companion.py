"""What may live beside a queue in its workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sync_kit.queue.run import Run


class Companion(ABC):
    """A task of a worker beside one of its queues, made by `Source.companion`."""

    @abstractmethod
    async def run(self) -> None:
        """The task itself. It ends by being cancelled; what it raises ends the worker, loudly."""

    @abstractmethod
    def hear(self, word: bytes) -> None:
        """Somebody told this worker something that the queue itself does not know."""

    @abstractmethod
    def ended(self, run: Run) -> None:
        """The outcome of a run is stored, or was refused."""

    @abstractmethod
    def said(self) -> dict[str, Any]:
        """What the worker's record is to say of it."""
