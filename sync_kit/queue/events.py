"""What happens to jobs and messages, as values for observers.

An observer is called with each event in the process that caused it, on its event loop or in the thread that sent.
It must be quick, and what it raises is logged and changes nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Observer = Callable[["Event"], None]

log = logging.getLogger("sync_kit")


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a job or message.

    Attributes:
        queue: the name of its queue.
        id: its id.
        task: the name of its task; empty for plain messages.
    """

    queue: str
    id: str
    task: str


@dataclass(frozen=True, slots=True)
class Sent(Event):
    """It was accepted."""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A run began; `attempt` counts from 1."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """A run ended well after `seconds`, and that was stored."""

    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Retried(Event):
    """A run failed, and there will be another in `after` seconds."""

    attempt: int
    seconds: float
    after: float
    error: str


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """It has failed for good."""

    attempt: int
    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """A run lost its lease: its worker is dead or was cut off. Told by the worker that finds it."""


@dataclass(frozen=True, slots=True)
class Parked(Event):
    """The worker does not know its task, so it waits for one that does."""


class Observers:
    """Who is told of the events of one queue."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, observer: Observer) -> None:
        """Tell `observer` of every event from now on."""
        self._observers.append(observer)

    def remove(self, observer: Observer) -> None:
        """Tell `observer` no more."""
        self._observers.remove(observer)

    def tell(self, event: Event) -> None:
        """Tell all of them. What they raise is logged."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                log.exception("an observer of queue %r failed; nothing else is changed by it", event.queue)
