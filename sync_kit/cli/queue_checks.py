"""What `doctor` looks at in a queue: each check is a function from a snapshot to findings."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from sync_kit.cli.finding import Finding, worst
from sync_kit.cli.status import troubles
from sync_kit.jobs import Jobs
from sync_kit.queue.info import MOST_NAMED
from sync_kit.queue.wording import span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sync_kit.cli.snapshot import Snapshot

OLD = 300.0
MANY_FAILED = 100
LATE = 60.0
NAMED = 5


def check_queue(seen: Snapshot) -> list[Finding]:
    """All checks of one queue; a line that says so when nothing is wrong."""
    checks = (_nobody, _paused, _workers, _unknown_tasks, _parked, _suspects, _failed, _old, _late, _unreadable)
    found = [finding for check in checks for finding in check(seen)]
    if found:
        return found
    tally, workers = seen.tally, len(seen.workers)
    said = f"{tally.waiting} waiting, {tally.active} active, {tally.failed} failed; {workers} workers"
    return [Finding("ok", _about(seen), said)]


def _about(seen: Snapshot) -> str:
    return f"queue {seen.name}"


def _nobody(seen: Snapshot) -> Iterator[Finding]:
    """Without a worker nothing runs, and nothing that is due later is noticed either."""
    undone, late, coming = seen.tally.waiting + seen.tally.active, _overdue(seen), _coming(seen)
    if seen.workers or not (undone or coming):
        return
    level = worst((bool(undone or late) and not seen.oddities.paused, "fail"), (True, "warn"))
    said = [f"{undone} to be done"] if undone else []
    said += [*coming, *([f"overdue: {' and '.join(late)}"] if late else [])]
    yield Finding(level, _about(seen), f"{', '.join(said)}, and no worker", f"start one: sync-kit worker {seen.target}")


def _coming(seen: Snapshot) -> list[str]:
    """What is for later, in words."""
    scheduled = sum(each.next_at is not None for each in seen.schedules)
    counts = {"delayed": seen.tally.delayed, "scheduled": scheduled}
    return [f"{count} {name}" for name, count in counts.items() if count]


def _overdue(seen: Snapshot) -> list[str]:
    """What should have begun by now, in words."""
    now = datetime.now(timezone.utc)
    late = [f"schedule {each.name}" for each in seen.schedules if each.next_at and each.next_at < now]
    return (["delayed jobs"] if seen.overdue is not None and seen.overdue > 0 else []) + late[:NAMED]


def _unreadable(seen: Snapshot) -> Iterator[Finding]:
    if seen.unreadable:
        more = f" and {len(seen.unreadable) - NAMED} more" if len(seen.unreadable) > NAMED else ""
        said = f"schedules that cannot be read here: {', '.join(seen.unreadable[:NAMED])}{more}"
        advice = "a newer sync_kit wrote them, or their time zone is not known here: upgrade, install tzdata"
        yield Finding("warn", _about(seen), said, advice)


def _paused(seen: Snapshot) -> Iterator[Finding]:
    if seen.oddities.paused:
        said = f"it is paused, with {seen.tally.waiting} waiting"
        yield Finding("warn", _about(seen), said, f"when that is over: sync-kit resume {seen.target}")


def _workers(seen: Snapshot) -> Iterator[Finding]:
    for worker in seen.workers:
        if wrong := troubles(worker):
            said = f"worker {worker.pid} on {worker.host}: {', '.join(wrong)}"
            advice = "a plain function that never ends, or one that blocks the event loop: give it a timeout of its own"
            yield Finding("warn", _about(seen), said, "see whether it lives" if worker.healthy else advice)


def _unknown_tasks(seen: Snapshot) -> Iterator[Finding]:
    """Tasks of this app that no worker has, once there are workers at all: an older version is at work."""
    known = {task for worker in seen.workers for task in worker.tasks}
    own = seen.queue.kinds if isinstance(seen.queue, Jobs) and 0 < len(known) < MOST_NAMED else ()
    if missing := [task for task in own if task not in known]:
        said = f"no worker knows {', '.join(sorted(missing))}"
        yield Finding("warn", _about(seen), said, "deploy the workers: until then such jobs are parked")


def _parked(seen: Snapshot) -> Iterator[Finding]:
    if seen.tally.parked:
        kinds = ", ".join(f"{count} of {kind}" for kind, count in sorted(seen.oddities.parked.items()))
        said = f"{seen.tally.parked} parked, because no worker knows their task: {kinds}"
        advice = "start a worker that knows it: they run at once; after park_ttl they fail"
        yield Finding("warn", _about(seen), said, advice)


def _suspects(seen: Snapshot) -> Iterator[Finding]:
    if seen.oddities.suspects:
        said = f"{seen.oddities.suspects} jobs whose worker died wait to run again, one at a time"
        yield Finding("warn", _about(seen), said, "see why workers die: memory, a crash in C code, a deploy that kills")


def _failed(seen: Snapshot) -> Iterator[Finding]:
    if seen.tally.failed >= MANY_FAILED:
        advice = (
            f"see why: sync-kit jobs list {seen.target} --status failed; then jobs retry {seen.target} --all-failed"
        )
        yield Finding("warn", _about(seen), f"{seen.tally.failed} have failed", advice)


def _old(seen: Snapshot) -> Iterator[Finding]:
    oldest = seen.tally.oldest
    if oldest is not None and oldest >= OLD and seen.workers and not seen.oddities.paused:
        said = f"the one that waits longest has waited {span(oldest)}"
        yield Finding("warn", _about(seen), said, "more workers, or a higher --concurrency")


def _late(seen: Snapshot) -> Iterator[Finding]:
    """Schedules whose time is over. Those of a paused queue wait for it, and one may wait for its last run."""
    now = datetime.now(timezone.utc)
    for schedule in seen.schedules:
        late = (now - schedule.next_at).total_seconds() if schedule.next_at else 0
        if late >= LATE and not seen.oddities.paused:
            said = f"schedule {schedule.name} should have run {span(late)} ago"
            advice = "is there a worker that knows its task, and has its last run ended?"
            yield Finding("warn", _about(seen), said, advice)
