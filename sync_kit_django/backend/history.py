"""What is known of the runs of one job: a run that fails leaves lines in the job's log, which are read here again.

The engine keeps the last error of a job alone. The log is bounded (16 KiB): when it is full, the oldest lines go.
"""

from __future__ import annotations

import asyncio
import re
import traceback
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import compress
from operator import not_
from typing import TYPE_CHECKING

from sync_kit import JobError
from sync_kit_django.backend.library import NAME, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from sync_kit import Job

STOPPED = "stopped"
"""What is said of a run that was cancelled from outside: by its timeout, a shutdown, or somebody's `cancel`."""
UNKNOWN = "unknown"
"""Stands for the worker of a run that left no line: it died, or the log is full."""
SAYING = ("waiting", "delayed", "failed", "cancelled")
"""The states in which the error that the engine keeps is that of the newest run."""
MOST_TRACEBACK = 3000

_HEAD = re.compile(r"run (\d{1,9}) on (\S+), begun (\S+): (\S+)")
_FRAME = "| "
_CLASS = re.compile(r"([^\W\d][\w.]*)(?::|$)")
_OURS = ("sync_kit_django.backend.running", f"{NAME}.base")


@dataclass
class Past:
    """A run that failed or was stopped; `error` is the path of its exception, or `STOPPED`."""

    number: int
    worker: str
    began: datetime
    error: str
    frames: list[str]

    def as_error(self) -> TaskError:
        """What it ended with. A run that was stopped and then counted has overrun its timeout."""
        if self.error == STOPPED:
            return TaskError(exception_class_path="builtins.TimeoutError", traceback="the run overran its timeout")
        return TaskError(exception_class_path=self.error, traceback="\n".join(self.frames))


def number_of(job: Job) -> int:
    """How many runs a job had, this one included: those whose worker died count, those that were handed back do not."""
    return job.attempts + job.crashes


def write(job: Job, began: datetime, error: BaseException) -> None:
    """Leave the lines of a run that failed."""
    head = f"run {number_of(job)} on {job.worker or UNKNOWN}, begun {began.isoformat()}: "
    if isinstance(error, asyncio.CancelledError):
        job.log(head + STOPPED)
        return
    frames = text_of(error)[-MOST_TRACEBACK:].splitlines()
    job.log("\n".join([head + path_of(type(error)), *(_FRAME + line for line in frames)]))


def read(lines: Iterable[str]) -> dict[int, Past]:
    """The runs that left lines, by their numbers; of a run that was handed back and done again, the last."""
    found: dict[int, Past] = {}
    last: Past | None = None
    for line in lines:
        head = _HEAD.fullmatch(line)
        began = None if head is None else _time(head[3])
        if head is not None and began is not None:
            last = Past(int(head[1]), head[2], began, head[4], [])
            found[last.number] = last
        elif line.startswith(_FRAME) and last is not None:
            last.frames.append(line[len(_FRAME) :])
        else:
            last = None  # the job's own words
    return found


def workers_of(job: Job, past: dict[int, Past], last: str | None) -> list[str]:
    """The worker of each run; `last` is that of the newest, if it is known."""
    count = number_of(job)
    ids = [past[number].worker if number in past else UNKNOWN for number in range(1, count + 1)]
    return [*ids[:-1], last] if last is not None and ids else ids


def errors_of(job: Job, past: dict[int, Past]) -> list[TaskError]:
    """The error of each run that failed, as far as they are known, and why the job has failed if it is none of them."""
    count = number_of(job)
    errors = [run.as_error() for run in past.values() if run.number < count or _raised(run, count)]
    said = job.error or ("the job was cancelled" if job.status == "cancelled" else "")
    if said and job.status in SAYING and not (count in past and _raised(past[count], count)):
        errors.append(_from_text(said, job.traceback))
    return errors


def error_of(error: BaseException) -> TaskError:
    """An exception as an entry of `errors`."""
    return TaskError(exception_class_path=path_of(type(error)), traceback=text_of(error))


def text_of(error: BaseException) -> str:
    """The traceback of an error as text, from the task's function on."""
    return "".join(traceback.format_exception(type(error), error, _from_function(error.__traceback__))).rstrip("\n")


def path_of(kind: type) -> str:
    """The dotted path of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def now() -> datetime:
    """The time by the clock of this host, for what is shown to people."""
    return datetime.now(timezone.utc)


def _time(text: str) -> datetime | None:
    """A moment that was written here; None for what a task may have written."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _raised(run: Past, count: int) -> bool:
    return run.number == count and run.error != STOPPED


def _from_function(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of those who call the function."""
    steps = []
    while trace is not None:
        steps.append(trace)
        trace = trace.tb_next
    ours = [step.tb_frame.f_globals.get("__name__") in _OURS for step in steps]
    begins = ours.index(True) if True in ours else 0
    return next(compress(steps[begins:], map(not_, ours[begins:])), steps[0] if steps else None)


def _from_text(said: str, frames: str | None) -> TaskError:
    """An error of which the engine kept the text, such as `shop.errors.Busy: ...` or `worker died 3 times`."""
    named = _CLASS.match(said)
    if named is None:
        return TaskError(exception_class_path=path_of(JobError), traceback=said)
    path = named[1] if "." in named[1] else f"builtins.{named[1]}"
    return TaskError(exception_class_path=path, traceback=frames or said)
