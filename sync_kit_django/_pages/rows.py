"""What templates are given of queues, jobs, schedules and workers: texts, links and the buttons that one may press."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sync_kit.jobs.schedules.schedule import rule_of
from sync_kit.queue.wording import span
from sync_kit_django._pages import words
from sync_kit_django._pages.acting import ON_QUEUES, ON_SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sync_kit import Job
    from sync_kit_django._pages.acting import Act
    from sync_kit_django._pages.frame import Frame
    from sync_kit_django._pages.looking import QueueSeen, ScheduleSeen, WorkerSeen


def acts(frame: Frame, names: tuple[str, ...], acts: Mapping[str, Act]) -> list[tuple[str, Act]]:
    """The buttons for those things that the user may do."""
    may = frame.may
    return [(name, acts[name]) for name in names if may[acts[name].permission]]


def queue_row(frame: Frame, seen: QueueSeen) -> dict[str, Any]:
    """A queue."""
    name, tally = seen.jobs.name, seen.tally
    return {
        "name": words.plain(name),
        "value": name,
        "link": frame.link("queue", name),
        "counts": [
            (state, title, getattr(tally, state), frame.link("queue", name, state=state))
            for state, title in words.STATES.items()
        ],
        "oldest": None if tally.oldest is None else span(tally.oldest),
        "workers": len(seen.workers),
        "idle": not seen.workers and (tally.waiting or tally.delayed),
        "paused": seen.oddities.paused,
        "acts": acts(frame, ("resume" if seen.oddities.paused else "pause",), ON_QUEUES),
    }


def job_row(frame: Frame, queue: str, job: Job) -> dict[str, Any]:
    """A job in a list."""
    return {
        "id": job.id,
        "link": frame.link("job", queue, job.id),
        "task": words.plain(job.task),
        "tag": words.plain(job.tag or ""),
        "attempts": words.attempts(job),
        "when": words.moment(getattr(job, words.WHEN[job.status][1])),
        "error": words.first_line(job.error),
        "progress": words.progress(job),
    }


def parts(frame: Frame, job: Job) -> dict[str, Any]:
    """The larger parts of the page of a job."""
    return {
        "facts": words.facts(job, frame.link("schedules")),
        "data": words.as_json(job.data),
        "result": None if job.result is None else words.as_json(job.result),
        "headers": [(words.plain(name), words.plain(value)) for name, value in job.headers.items()],
        "error": words.plain(job.error or ""),
        "traceback": words.plain(job.traceback or ""),
        "logs": words.plain("\n".join(job.logs)),
        "progress": words.progress(job),
    }


def schedule_row(frame: Frame, seen: ScheduleSeen) -> dict[str, Any]:
    """A schedule."""
    schedule = seen.schedule
    row: dict[str, Any] = {
        "name": words.plain(seen.name),
        "value": seen.name,
        "queue": words.plain(seen.queue),
        "queue_value": seen.queue,
        "link": frame.link("queue", seen.queue),
    }
    if schedule is None:
        return {**row, "unreadable": True, "acts": acts(frame, ("delete",), ON_SCHEDULES)}
    return {
        **row,
        "task": words.plain(schedule.task),
        "rule": words.plain(rule_of(schedule)),
        "paused": schedule.paused,
        "slots": [words.moment(words.epoch(slot)) for slot in seen.slots],
        "runs": schedule.runs,
        "last": words.moment(schedule.last_at),
        "last_link": schedule.last_job and frame.link("job", seen.queue, schedule.last_job),
        "declared": schedule.declared,
        "data": words.as_json(schedule.data),
        "acts": acts(frame, ("run", "resume" if schedule.paused else "pause", "delete"), ON_SCHEDULES),
    }


def worker_row(frame: Frame, seen: WorkerSeen) -> dict[str, Any]:
    """A worker."""
    info = seen.info
    running = [(job, frame.link("job", queue, job)) for queue, jobs in seen.running.items() for job in jobs]
    return {
        "host": words.plain(info.host),
        "pid": info.pid,
        "version": words.plain(info.version),
        "queues": [(words.plain(queue), frame.link("queue", queue)) for queue in seen.running],
        "running": [(words.plain(job), link) for job, link in running],
        "slots": info.concurrency,
        "tasks": words.plain(", ".join(info.tasks)),
        "started": words.moment(words.epoch(int(info.started_at * 1000))),
        "heard": span(info.silent),
        "troubles": words.troubles(info),
    }
