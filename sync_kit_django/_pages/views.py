"""The pages: queues, the jobs of one, a job, schedules, workers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.http import Http404, HttpResponseRedirect
from django.utils.html import format_html
from django.utils.translation import gettext as _

from sync_kit.errors import ConfigurationError
from sync_kit_django._pages import looking, rows, words
from sync_kit_django._pages.acting import OF_STATE, ON_JOBS, ON_QUEUES, ON_SCHEDULES, act_on_jobs, note
from sync_kit_django._pages.frame import page, queue_named
from sync_kit_django._pages.together import ask_one
from sync_kit_django._registry import queues_by_name

if TYPE_CHECKING:
    from django.http import HttpResponse

    from sync_kit import Jobs
    from sync_kit_django._pages.frame import Frame
    from sync_kit_django._pages.looking import PageSeen, QueueSeen

FIRST_SHOWN = ("failed", "active", "waiting", "delayed", "parked", "completed", "cancelled")
"""The state whose jobs are shown if none is asked for: the first with any."""
SCHEDULES = 100
"""Schedules on a page."""
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@page
def queues(frame: Frame) -> HttpResponse:
    """All queues: how many jobs of each state, how long the oldest has waited, who works."""
    if frame.request.method == "POST":
        return _act_on_queue(frame, queue_named(frame.request.POST.get("queue", "")))
    seen = looking.look_at_queues(queues_by_name().values())
    found = [rows.queue_row(frame, each) for each in seen]
    return frame.answer("queues", _("Background jobs"), [], rows=found, states=words.STATES.values())


@page
def queue(frame: Frame, queue: str) -> HttpResponse:
    """The jobs of a queue in one state, or those of them that a search finds."""
    jobs, asked = queue_named(queue), frame.request.GET
    if frame.request.method == "POST":
        name = frame.request.POST.get("action")
        return _act_on_queue(frame, jobs) if name in ON_QUEUES else _act_on_jobs(frame, jobs)
    search, state = asked.get("q", "").strip(), asked.get("state", "")
    if ID.fullmatch(search) and looking.look_at_job(jobs, search)[0] is not None:
        return HttpResponseRedirect(frame.link("job", queue, search))
    if state not in words.STATES:
        (seen,) = looking.look_at_queues([jobs])
        state = next((each for each in FIRST_SHOWN if getattr(seen.tally, each)), "waiting")
    try:
        seen, found = looking.look_at_jobs(jobs, state, search, asked.get("cursor"))
    except ConfigurationError:  # the cursor of another list
        return HttpResponseRedirect(frame.link("queue", queue, state=state, q=search))
    return _show_jobs(frame, seen, found, state, search)


@page
def job(frame: Frame, queue: str, job: str) -> HttpResponse:
    """All that is known of a job."""
    jobs = queue_named(queue)
    if frame.request.method == "POST":
        return _act_on_jobs(frame, jobs, job)
    try:
        found, worker = looking.look_at_job(jobs, job)
    except ConfigurationError as error:
        raise Http404(_("This is no id of a job.")) from error
    trail = [(words.plain(queue), frame.link("queue", queue, state=found and found.status))]
    if found is None:
        return frame.answer("gone", _("No such job"), trail, status=404, job=words.plain(job))
    return frame.answer(
        "job",
        words.plain(found.task),
        trail,
        job=found,
        state=words.STATES[found.status],
        worker=worker,
        acts=rows.acts(frame, OF_STATE[found.status], ON_JOBS),
        **rows.parts(frame, found),
    )


@page
def schedules(frame: Frame) -> HttpResponse:
    """What runs again and again."""
    known = queues_by_name()
    if frame.request.method == "POST":
        return _act_on_schedule(frame, queue_named(frame.request.POST.get("queue", "")))
    shown = Paginator(looking.list_schedules(known.values()), SCHEDULES).get_page(frame.request.GET.get("page"))
    found = [rows.schedule_row(frame, each) for each in looking.read_schedules(known, list(shown))]
    return frame.answer("schedules", _("Schedules"), [], rows=found, shown=shown)


@page
def workers(frame: Frame) -> HttpResponse:
    """The processes that run jobs, and what they run."""
    found = [rows.worker_row(frame, each) for each in looking.look_at_workers(queues_by_name().values())]
    return frame.answer("workers", _("Workers"), [], rows=found)


@page
def change(frame: Frame, key: str) -> HttpResponse:
    """Where entries of the admin's log point to: `queue/job`, or `queue/` for the queue itself."""
    queue, _slash, job = key.rpartition("/")
    queue_named(queue)
    return HttpResponseRedirect(frame.link("job", queue, job) if job else frame.link("queue", queue))


def _act_on_queue(frame: Frame, jobs: Jobs) -> HttpResponse:
    name, act = frame.chosen(ON_QUEUES)
    changed = ask_one(jobs, act.flow(jobs, ""))
    if changed:
        note(frame.request, act, jobs.name)
        said = words.counted("retry", changed) if name == "retry_failed" else f"{words.plain(jobs.name)}: {act.noted}"
        messages.success(frame.request, said)
    else:
        messages.warning(frame.request, act.missed)
    return frame.again()


def _act_on_jobs(frame: Frame, jobs: Jobs, one: str = "") -> HttpResponse:
    """Act on the selected jobs; on `one`, on its own page."""
    name, act = frame.chosen(ON_JOBS)
    ids = [one] if one else frame.request.POST.getlist("job")
    if not ids:
        messages.warning(frame.request, _("Select jobs first: nothing was changed."))
        return frame.again()
    if act.deletes:
        fields = [("action", name), *(("job", each) for each in ids)]
        trail = [(words.plain(jobs.name), frame.link("queue", jobs.name))]
        asked = frame.confirm(_("Delete these jobs?"), trail, [words.plain(each) for each in ids], fields)
        if asked is not None:
            return asked
    try:
        reached = act_on_jobs(jobs, act, ids)
    except ConfigurationError as error:
        raise BadRequest(str(error)) from error
    note(frame.request, act, jobs.name, reached)
    if reached:
        messages.success(frame.request, words.counted(name, len(reached)))
    if len(reached) < len(set(ids)):
        messages.warning(frame.request, act.missed)
    return HttpResponseRedirect(frame.link("queue", jobs.name)) if one and act.deletes else frame.again()


def _act_on_schedule(frame: Frame, jobs: Jobs) -> HttpResponse:
    name, act = frame.chosen(ON_SCHEDULES)
    schedule = frame.request.POST.get("schedule", "")
    if act.deletes:
        fields = [("action", name), ("queue", jobs.name), ("schedule", schedule)]
        trail = [(_("Schedules"), frame.link("schedules"))]
        hint = _("One that a decorator declares comes back when a worker starts: pause it instead.")
        asked = frame.confirm(_("Delete this schedule?"), trail, [words.plain(schedule)], fields, hint)
        if asked is not None:
            return asked
    try:
        answer = ask_one(jobs, act.flow(jobs, schedule))
    except ConfigurationError as error:
        raise BadRequest(str(error)) from error
    if not answer:
        messages.warning(frame.request, act.missed)
        return frame.again()
    note(frame.request, act, jobs.name, title=f"{jobs.name}: {schedule}")
    said = f"{words.plain(schedule)}: {act.noted}"
    if name == "run":
        link = frame.link("job", jobs.name, answer.id)
        said = format_html('{} <a href="{}">{}</a>', said, link, _("Look at the job"))
    messages.success(frame.request, said)
    return frame.again()


def _show_jobs(frame: Frame, seen: QueueSeen, found: PageSeen, state: str, search: str) -> HttpResponse:
    name, jobs = seen.jobs.name, found.found
    return frame.answer(
        "queue",
        words.plain(name),
        [],
        row=rows.queue_row(frame, seen),
        parked=[(words.plain(seen.jobs.title(kind)), count) for kind, count in seen.oddities.parked.items()],
        rows=[rows.job_row(frame, name, each) for each in jobs],
        state=state,
        search=search,
        when=words.WHEN[state][0],
        last=_("Progress") if state == "active" else _("Last error") if any(job.error for job in jobs) else "",
        nothing=_("Nothing is found among those that were looked at.") if search else words.NOTHING[state],
        all="all" in frame.request.GET,
        acts=rows.acts(frame, OF_STATE[state], ON_JOBS),
        queue_acts=rows.acts(frame, ("retry_failed",) if state == "failed" and jobs else (), ON_QUEUES),
        **_ways(frame, name, state, search, found.cursor),
    )


def _ways(frame: Frame, name: str, state: str, search: str, following: str | None) -> dict[str, Any]:
    """Where the first page and the next one are, and this one with every job selected."""
    here = frame.request.GET.get("cursor")
    return {
        "first": frame.link("queue", name, state=state, q=search) if here else None,
        "more": frame.link("queue", name, state=state, q=search, cursor=following) if following else None,
        "every": frame.link("queue", name, state=state, q=search, cursor=here, all=1),
    }
