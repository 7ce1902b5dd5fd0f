"""The log of `runworker`, unless the project's `LOGGING` says where that of `sync_kit` goes."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sync_kit.queue.events import Failed, Finished, Lost, Retried, Started
from sync_kit.queue.logs import Formatter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from django.core.management.base import OutputWrapper
    from django.core.management.color import Style

    from sync_kit import Jobs
    from sync_kit.queue.events import Event

log = logging.getLogger("sync_kit")

LINE = "%(asctime)s %(levelname)-7s %(message)s"
LEVELS = (logging.ERROR, logging.INFO, logging.INFO, logging.DEBUG)
"""By verbosity."""
TELLS_JOBS = 2
"""The verbosity at which each job is told of."""
TOLD: dict[type[Event], Callable[..., str]] = {
    Started: lambda event: f"begins (run {event.attempt})",
    Finished: lambda event: f"ended well after {event.seconds:.2f} s",
    Retried: lambda event: f"failed after {event.seconds:.2f} s, again in {event.after:.1f} s",
    Failed: lambda event: f"failed for good after {event.seconds:.2f} s",
    Lost: lambda _: "lost its worker",
}


class CommandHandler(logging.Handler):
    """Writes to the stderr of a command, in the colours that it has."""

    def __init__(self, stderr: OutputWrapper, style: Style) -> None:
        super().__init__()
        self.setFormatter(Formatter(LINE, "%H:%M:%S"))
        self._stderr = stderr
        self._style = style

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            self._stderr.write(self.format(record), self._colour(record.levelno))
        except Exception:
            self.handleError(record)

    def _colour(self, level: int) -> Callable[[str], str]:
        if level >= logging.ERROR:
            return self._style.ERROR
        return self._style.WARNING if level >= logging.WARNING else str


@contextmanager
def logging_to(stderr: OutputWrapper, style: Style, verbosity: int, queues: Sequence[Jobs]) -> Iterator[None]:
    """Log to `stderr` while the block lasts, unless somebody else has said where to; tell of each job if wanted."""
    handler, before = CommandHandler(stderr, style), log.level
    is_ours = not log.hasHandlers()
    if is_ours:
        log.addHandler(handler)
        log.setLevel(before or LEVELS[verbosity])
    observed = queues if verbosity >= TELLS_JOBS else ()
    for queue in observed:
        queue.observe(_tell)
    try:
        yield
    finally:
        for queue in observed:
            queue.observers.remove(_tell)
        if is_ours:
            log.removeHandler(handler)
            log.setLevel(before)


def _tell(event: Event) -> None:
    said = TOLD.get(type(event))
    if said is not None:
        log.info("%s/%s %s %s", event.queue, event.task, event.id, said(event))
