"""What pages ask Redis: few round trips and a bounded number of jobs, however many there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sync_kit.jobs.job import seen
from sync_kit.jobs.schedules.schedule import seen as seen_schedule
from sync_kit.queue.engine import BATCH
from sync_kit.queue.info import workers_flow
from sync_kit_django._pages.together import ask, ask_one, together

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sync_kit import Job, Jobs
    from sync_kit._io.flow import Flow
    from sync_kit.jobs.schedules.schedule import Schedule
    from sync_kit.queue import WorkerInfo
    from sync_kit.queue.records import Oddities, Tally

PAGE = 50
"""Jobs on a page."""
TURNS = 10
"""A search looks at so many hundreds of jobs before it asks whether to go on."""
SLOTS = 3
"""Runs of a schedule that are told ahead."""


@dataclass(frozen=True)
class QueueSeen:
    """A queue at one moment."""

    jobs: Jobs
    tally: Tally
    oddities: Oddities
    workers: list[WorkerInfo]


@dataclass(frozen=True)
class PageSeen:
    """Jobs of one state. `cursor`: where the next page begins, None at the end."""

    found: list[Job]
    cursor: str | None


@dataclass
class WorkerSeen:
    """A worker, and what it runs of each of its queues."""

    info: WorkerInfo
    running: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScheduleSeen:
    """A schedule of a queue. `schedule`: None if it cannot be read here; `slots`: its next ones, epoch milliseconds."""

    queue: str
    name: str
    schedule: Schedule | None
    slots: list[int]


def look_at_queues(queues: Iterable[Jobs]) -> list[QueueSeen]:
    """All of them, in one round trip."""
    return ask([(jobs, _queue_flow(jobs)) for jobs in queues])


def look_at_jobs(jobs: Jobs, state: Any, search: str, cursor: str | None) -> tuple[QueueSeen, PageSeen]:
    """A queue, and a page of its jobs. Raises `ConfigurationError` for a cursor that is none."""
    flows: list[Flow[Any]] = [_queue_flow(jobs), _page_flow(jobs, state, search.casefold(), cursor)]
    queue, page = ask_one(jobs, together(flows))
    return queue, page


def look_at_job(jobs: Jobs, job_id: str) -> tuple[Job | None, WorkerInfo | None]:
    """A job, and the worker that says that it runs it. Raises `ConfigurationError` for an id that is none."""
    flows: list[Flow[Any]] = [jobs.get_flow(job_id), workers_flow(jobs.desk)]
    job, workers = ask_one(jobs, together(flows))
    return job, next((worker for worker in workers if job_id in worker.running), None)


def look_at_workers(queues: Iterable[Jobs]) -> list[WorkerSeen]:
    """All workers, each once, in one round trip."""
    queues = list(queues)
    known: dict[str, WorkerSeen] = {}
    for jobs, workers in zip(queues, ask([(jobs, workers_flow(jobs.desk)) for jobs in queues]), strict=True):
        for info in workers:
            known.setdefault(info.id, WorkerSeen(info)).running[jobs.name] = info.running
    return sorted(known.values(), key=lambda each: (each.info.host, each.info.pid, each.info.id))


def list_schedules(queues: Iterable[Jobs]) -> list[tuple[str, str]]:
    """Queue and name of every schedule, in order."""
    queues = list(queues)
    listed = ask([(jobs, jobs.schedules.timetable.list_flow()) for jobs in queues])
    return [(jobs.name, name) for jobs, names in zip(queues, listed, strict=True) for name in sorted(names)]


def read_schedules(queues: Mapping[str, Jobs], wanted: Sequence[tuple[str, str]]) -> list[ScheduleSeen]:
    """Some schedules, in one round trip for a hundred of each queue; those that are gone by now are left out."""
    names: dict[str, list[str]] = {}
    for queue, name in wanted:
        names.setdefault(queue, []).append(name)
    told = ask([(queues[queue], _schedules_flow(queues[queue], some)) for queue, some in names.items()])
    return [each for some in told for each in some]


def _queue_flow(jobs: Jobs) -> Flow[QueueSeen]:
    flows: list[Flow[Any]] = [jobs.desk.count_flow(), jobs.desk.examine_flow(), workers_flow(jobs.desk)]
    tally, oddities, workers = yield from together(flows)
    return QueueSeen(jobs, tally, oddities, workers)


def _page_flow(jobs: Jobs, state: Any, search: str, cursor: str | None) -> Flow[PageSeen]:
    found: list[Job] = []
    for _ in range(TURNS):
        entries, following = yield from jobs.desk.page_flow(state, BATCH if search else PAGE - len(found), cursor)
        for entry, behind in entries:
            job = seen(entry, jobs.tasks)
            if not search or _matches(job, search):
                found.append(job)
            if len(found) == PAGE:
                return PageSeen(found, None if following is None and entry is entries[-1][0] else behind)
        cursor = following
        if following is None:
            break
    return PageSeen(found, cursor)


def _matches(job: Job, search: str) -> bool:
    return job.id == search or search in job.task.casefold() or search in (job.tag or "").casefold()


def _schedules_flow(jobs: Jobs, names: Sequence[str]) -> Flow[list[ScheduleSeen]]:
    _, known = yield from jobs.schedules.timetable.read_flow(names)
    return [ScheduleSeen(jobs.name, name, *_schedule(stored, jobs)) for name, stored in known.items()]


def _schedule(stored: Any, jobs: Jobs) -> tuple[Schedule | None, list[int]]:
    """A schedule and its next slots; what is stored of it may have been written by anybody."""
    try:
        schedule, slots = seen_schedule(stored, jobs.tasks), [stored.next_ms] if stored.next_ms else []
        while slots and len(slots) < SLOTS and stored.plan is not None:
            slots.append(stored.plan.rule.following(slots[-1], stored.turn.anchor))
    except (ValueError, TypeError, ArithmeticError):
        return None, []
    return schedule, slots
