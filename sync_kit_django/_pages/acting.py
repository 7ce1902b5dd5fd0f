"""What pages change in Redis. Each act says which permission it needs and whom it reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.utils.translation import gettext_lazy as lazy

from sync_kit.queue.engine import batches
from sync_kit_django._pages.together import ask_one, together
from sync_kit_django._pages.words import plain
from sync_kit_django.models import BackgroundJob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.http import HttpRequest

    from sync_kit import Jobs
    from sync_kit._io.flow import Flow


@dataclass(frozen=True)
class Act:
    """Something that may be done.

    Attributes:
        title: of its button.
        flow: does it, given a queue and an id or name in it; what it returns is false where it changed nothing.
        noted: what the log of the admin says of it.
        missed: what is said where it changed nothing.
        permission: what it needs.
    """

    title: Any
    flow: Callable[[Jobs, str], Flow[Any]]
    noted: Any
    missed: Any
    permission: str = "change"

    @property
    def deletes(self) -> bool:
        """Whether it has to be confirmed."""
        return self.permission == "delete"


ON_JOBS = {
    "retry": Act(
        lazy("Retry"),
        lambda jobs, job: jobs.retry_flow(job),
        lazy("Retried."),
        lazy("Only jobs that failed or were cancelled can be retried."),
    ),
    "cancel": Act(
        lazy("Cancel"),
        lambda jobs, job: jobs.cancel_flow(job),
        lazy("Cancelled."),
        lazy("Only jobs that have not ended can be cancelled."),
    ),
    "delete": Act(
        lazy("Delete"),
        lambda jobs, job: jobs.delete_flow(job),
        lazy("Deleted."),
        lazy("Only jobs that have ended can be deleted: cancel the others first."),
        permission="delete",
    ),
}
OF_STATE = {
    **dict.fromkeys(("waiting", "delayed", "active", "parked"), ("cancel",)),
    **dict.fromkeys(("failed", "cancelled"), ("retry", "delete")),
    "completed": ("delete",),
}
"""What can be done with jobs of each state."""

ON_QUEUES = {
    "pause": Act(
        lazy("Pause"),
        lambda jobs, _: jobs.desk.pause_flow(True),
        lazy("Paused."),
        lazy("The queue was paused already."),
    ),
    "resume": Act(
        lazy("Resume"),
        lambda jobs, _: jobs.desk.pause_flow(False),
        lazy("Resumed."),
        lazy("The queue was not paused."),
    ),
    "retry_failed": Act(
        lazy("Retry all failed"),
        lambda jobs, _: jobs.desk.retry_flow(),
        lazy("Retried all failed jobs."),
        lazy("No job has failed."),
    ),
}
ON_SCHEDULES = {
    "run": Act(
        lazy("Run now"),
        lambda jobs, name: jobs.schedules.run_flow(name),
        lazy("Run by hand."),
        lazy("There is no such schedule any more."),
    ),
    "pause": Act(
        lazy("Pause"),
        lambda jobs, name: jobs.schedules.pause_flow(name),
        lazy("Paused."),
        lazy("There is no such schedule any more, or it was paused already."),
    ),
    "resume": Act(
        lazy("Resume"),
        lambda jobs, name: jobs.schedules.resume_flow(name),
        lazy("Resumed."),
        lazy("There is no such schedule any more, or it was not paused."),
    ),
    "delete": Act(
        lazy("Delete"),
        lambda jobs, name: jobs.schedules.delete_flow(name),
        lazy("Deleted."),
        lazy("There is no such schedule any more."),
        permission="delete",
    ),
}


def act_on_jobs(jobs: Jobs, act: Act, ids: Sequence[str]) -> list[str]:
    """Act on jobs, a hundred in each round trip; returns the ids of those that it reached."""
    reached: list[str] = []
    for some in batches([*dict.fromkeys(ids)]):
        told = ask_one(jobs, together([act.flow(jobs, job) for job in some]))
        reached += [job for job, changed in zip(some, told, strict=True) if changed]
    return reached


def note(request: HttpRequest, act: Act, queue: str, ids: Sequence[str] = ("",), *, title: str = "") -> None:
    """Write into the log of the admin who did what to which jobs of a queue; to the queue itself, if there are none."""
    told: Any = [BackgroundJob(id=plain(f"{queue}/{job}")) for job in ids]
    for each in told:
        each.title = plain(title)
    user: Any = request.user
    if told:
        flag = DELETION if act.deletes else CHANGE
        LogEntry.objects.log_actions(user.pk, told, flag, str(act.noted))
