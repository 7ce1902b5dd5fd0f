"""One queue at one moment: what `status` and `doctor` look at."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sync_kit.jobs import Jobs
from sync_kit.jobs.schedules.schedule import seen
from sync_kit.queue.info import workers_flow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sync_kit.jobs.schedules.schedule import Schedule
    from sync_kit.jobs.schedules.timetable import Stored
    from sync_kit.queue import WorkerInfo
    from sync_kit.queue.base import QueueBase
    from sync_kit.queue.records import Oddities, Tally


@dataclass(frozen=True)
class Snapshot:
    """What was seen of a queue.

    Attributes:
        target: how the command line names it.
        queue: the queue itself.
        tally: how many jobs are in each status.
        oddities: what is unusual.
        workers: who works on it.
        schedules: of `Jobs`, as `jobs.schedules` lists them.
        unreadable: names of schedules that cannot be read here.
        overdue: seconds for which the first delayed job has been due; negative until it is, None if there is none.
    """

    target: str
    queue: QueueBase
    tally: Tally
    oddities: Oddities
    workers: list[WorkerInfo]
    schedules: list[Schedule]
    unreadable: list[str]
    overdue: float | None

    @property
    def name(self) -> str:
        """Of the queue."""
        return self.queue.name

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "target": self.target,
            "queue": self.name,
            "kind": "jobs" if isinstance(self.queue, Jobs) else "queue",
            "paused": self.oddities.paused,
            **asdict(self.tally),
            "suspects": self.oddities.suspects,
            "parked_tasks": self.oddities.parked,
            "workers": [asdict(worker) for worker in self.workers],
            "schedules": [
                {"name": each.name, "paused": each.paused, "next_at": each.next_at} for each in self.schedules
            ],
        }


def look(queues: Mapping[str, QueueBase]) -> list[Snapshot]:
    """Look at queues. Raises `Unavailable`."""
    return [_look(target, queue) for target, queue in queues.items()]


def _look(target: str, queue: QueueBase) -> Snapshot:
    tally = queue.run_blocking(queue.desk.count_flow(), "counts()")
    oddities = queue.run_blocking(queue.desk.examine_flow(), "counts()")
    workers = queue.run_blocking(workers_flow(queue.desk), "workers()")
    schedules, unreadable = look_at_schedules(queue) if isinstance(queue, Jobs) else ([], [])
    return Snapshot(target, queue, tally, oddities, workers, schedules, unreadable, _overdue(queue))


def _overdue(queue: QueueBase) -> float | None:
    found, _ = queue.run_blocking(queue.desk.page_flow("delayed", 1, None), "list(...)")
    return time.time() - found[0][0].due_ms / 1000 if found else None


def look_at_schedules(jobs: Jobs) -> tuple[list[Schedule], list[str]]:
    """The schedules by name, and the names of those that cannot be read here."""
    timetable = jobs.schedules.timetable
    listed = jobs.run_blocking(timetable.list_flow(), "list(...)")
    _, known = jobs.run_blocking(timetable.read_flow(sorted(listed)), "list(...)")
    read = {name: _schedule(stored, jobs) for name, stored in known.items()}
    readable = [schedule for schedule in read.values() if schedule is not None]
    return readable, [name for name, schedule in read.items() if schedule is None]


def _schedule(stored: Stored, jobs: Jobs) -> Schedule | None:
    try:
        return seen(stored, jobs.tasks)
    except (ValueError, TypeError):  # what its jobs would be headed with is no header
        return None
