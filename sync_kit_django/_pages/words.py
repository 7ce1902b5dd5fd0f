"""What is seen, as it is said on a page. What comes from outside is text here; the templates escape it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from django.utils import timezone as zones
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.utils.translation import ngettext

from sync_kit.jobs.masked import masked
from sync_kit.queue.info import LAGS, SILENT
from sync_kit.queue.wording import span

if TYPE_CHECKING:
    from sync_kit import Job
    from sync_kit.queue import WorkerInfo

NONE = "–"  # noqa: RUF001 (what the admin shows for nothing is a dash, too)
MOST = 100_000
"""Characters of a payload or a result that are shown."""

STATES: dict[str, Any] = {
    "waiting": lazy("waiting"),
    "delayed": lazy("delayed"),
    "active": lazy("active"),
    "completed": lazy("completed"),
    "failed": lazy("failed"),
    "cancelled": lazy("cancelled"),
    "parked": lazy("parked"),
}
NOTHING: dict[str, Any] = {
    "waiting": lazy("No job waits: what is sent is taken at once, or nothing was sent."),
    "delayed": lazy("No job waits for a later time, or for its next attempt."),
    "active": lazy("No job runs now. If jobs wait, start a worker: python manage.py runworker"),
    "completed": lazy("No job has been completed lately. They are kept for an hour, unless Jobs has another keep=."),
    "failed": lazy("No job has failed. Those that do are kept here for seven days."),
    "cancelled": lazy("No job was cancelled lately."),
    "parked": lazy("No job waits for a worker that knows its task."),
}
WHEN: dict[str, tuple[Any, str]] = {
    "waiting": (lazy("Sent"), "created_at"),
    "delayed": (lazy("Due"), "scheduled_at"),
    "active": (lazy("Started"), "started_at"),
    "completed": (lazy("Ended"), "completed_at"),
    "failed": (lazy("Ended"), "completed_at"),
    "cancelled": (lazy("Ended"), "completed_at"),
    "parked": (lazy("Sent"), "created_at"),
}


def moment(when: datetime | None) -> str:
    """A time in the current time zone, and how far away it is, as HTML."""
    if when is None:
        return NONE
    local = zones.localtime(when)
    shown, zone = f"{local:%Y-%m-%d %H:%M:%S}", local.tzname()
    return format_html(
        '<time datetime="{}" title="{} {}"><span>{}</span> <span class="quiet">{}</span></time>',
        *(local.isoformat(), shown, zone, shown, away(when)),
    )


def epoch(ms: int) -> datetime:
    """Epoch milliseconds as a time."""
    return datetime.fromtimestamp(ms / 1000, timezone.utc)


def away(when: datetime) -> str:
    """How far away a time is."""
    seconds = (when - datetime.now(timezone.utc)).total_seconds()
    return _("in %(span)s") % {"span": span(seconds)} if seconds > 0 else _("%(span)s ago") % {"span": span(-seconds)}


def plain(text: object) -> str:
    """A text of somebody else's that can be sent to a browser, whatever is in it."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def first_line(text: str | None) -> str:
    """The first line of an error."""
    return plain(text.strip().splitlines()[0]) if text and text.strip() else ""


def as_json(value: Any) -> str:
    """A payload or a result as JSON, without its secrets."""
    try:
        text = plain(json.dumps(masked(value), ensure_ascii=False, indent=2))
    except Exception as error:  # it is of any type, and how it fails may tell what is in it
        return _("It cannot be shown: %(error)s") % {"error": type(error).__name__}
    if len(text) <= MOST:
        return text
    return _("%(start)s… (the first %(shown)d of %(all)d characters)") % {
        "start": text[:MOST],
        "shown": MOST,
        "all": len(text),
    }


def attempts(job: Job) -> str:
    """How many of its runs a job has had."""
    return _("%(runs)d of %(most)d") % {"runs": job.attempts, "most": max(job.attempts, job.max_retries + 1)}


def progress(job: Job) -> dict[str, str] | None:
    """How far a job says that it is; None if it has not said so."""
    if (told := job.reported) is None:
        return None
    return {"value": f"{told.fraction:.4f}", "percent": f"{told.fraction:.0%}", "text": plain(told.text)}


def troubles(worker: WorkerInfo) -> list[str]:
    """What is wrong with a worker."""
    lags = _("its event loop had not run for %(span)s") % {"span": span(worker.lag)}
    silent = _("silent for %(span)s") % {"span": span(worker.silent)}
    found = {
        _("a thread is stuck"): not worker.healthy,
        lags: worker.lag >= LAGS,
        silent: worker.silent >= SILENT,
    }
    return [words for words, there in found.items() if there]


def facts(job: Job, schedules: str) -> list[tuple[str, Any]]:
    """What is known of a job beside what has a part of the page of its own; what does not apply is left out.

    `schedules`: where the page of the schedules is.
    """
    told: dict[str, Any] = {
        _("Task"): plain(job.task),
        _("Attempts"): attempts(job),
        _("Died workers"): job.crashes,
        _("Time limit"): job.timeout and span(job.timeout),
        _("Priority"): job.priority,
        _("Tag"): job.tag and plain(job.tag),
        _("Unique key"): job.key and plain(job.key),
        _("Sent"): moment(job.created_at),
        _("Due"): job.scheduled_at and moment(job.scheduled_at),
        _("Last start"): job.started_at and moment(job.started_at),
        _("Ended"): job.completed_at and moment(job.completed_at),
        _("Schedule"): job.schedule and format_html('<a href="{}">{}</a>', schedules, plain(job.schedule)),
        _("Interval"): job.interval and span(job.interval),
    }
    return [(name, value) for name, value in told.items() if value]


def counted(done: str, count: int) -> str:
    """How many jobs an act reached."""
    texts = {
        "retry": ngettext("%d job runs again.", "%d jobs run again.", count),
        "cancel": ngettext("%d job is cancelled.", "%d jobs are cancelled.", count),
        "delete": ngettext("%d job is deleted.", "%d jobs are deleted.", count),
    }
    return texts[done] % count
