"""One queue at one moment: what `status` and `doctor` look at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sync_kit.cli.screen import span
from sync_kit.jobs import Jobs
from sync_kit.queue.info import workers_flow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sync_kit.jobs.schedules.schedule import Schedule
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
    """

    target: str
    queue: QueueBase
    tally: Tally
    oddities: Oddities
    workers: list[WorkerInfo]
    schedules: list[Schedule]

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
    schedules = queue.schedules.blocking.list() if isinstance(queue, Jobs) else []
    return Snapshot(target, queue, tally, oddities, workers, schedules)


def rule_of(schedule: Schedule) -> str:
    """How a schedule is written: `every 5 min`, `cron 0 3 * * * Europe/Berlin`."""
    if schedule.cron:
        return f"cron {schedule.cron} {schedule.tz or ''}".rstrip()
    return f"every {span(schedule.interval or 0)}"
