"""Whether what happened to the jobs was allowed. Pure: from runs and faults to the list of what must not have been.

A job may begin a second time only when the run before was hurt: it was in flight in a process that a fault hit. What a
fault excuses is as little as the promises of jobs allow:

* a process that was `killed` or `stopped`, or whose network was `deaf` or a `hole`: what was in flight then, and what
  it took within a lease afterwards;
* one that was `terminated`: what it cancelled, but nothing that ran to its end;
* one that `stood` still because the machine did: as if it had been stopped;
* a network that was `cut` or `slow`: nothing.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.chaos.ledger import Fault, Run

EXCUSING = ("killed", "stopped", "terminated", "deaf", "hole", "stood")
STANDING = ("stopped", "stood")
"""A process may have been given a job just before, and begin it afterwards although it has lost it meanwhile."""
TOGETHER = 0.05
"""Of two runs that begin within so many seconds either may be the hurt one."""
DELIVERY = 0.5
"""Seconds in which the outcome of a run that ended reaches Redis, when nothing is in the way."""


def violations(
    sent: Iterable[int], states: Mapping[int, str], runs: Iterable[Run], faults: Sequence[Fault], lease: float
) -> list[str]:
    """What must not have happened; `states` are the final ones, by the number of the job."""
    ran: dict[int, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.began):
        ran[run.number].append(run)
    expected = set(sent)
    found = [f"{number}: nobody sent it" for number in sorted({*states, *ran} - expected)]
    for number in sorted(expected):
        state = states.get(number, "lost")
        found += [f"{number}: {what}" for what in _of_one(state, ran[number], faults, lease)]
    return found


def second_runs(runs: Iterable[Run]) -> int:
    """How many runs there were beyond the first of each job."""
    numbers = [run.number for run in runs]
    return len(numbers) - len(set(numbers))


def _of_one(state: str, runs: list[Run], faults: Sequence[Fault], lease: float) -> list[str]:
    """What must not have happened to one job."""
    found = [
        f"began again at {later.began:.3f} in {later.pid} after {_said(run)}"
        for run, later in itertools.pairwise(runs)
        if not _explained(run, later, faults, lease)
    ]
    if state == "completed" and not any(run.whole for run in runs):
        found.append("completed, but never ran to its end")
    elif state != "completed":
        found.append(f"in the end it was {state}")
    return found


def _explained(run: Run, later: Run, faults: Sequence[Fault], lease: float) -> bool:
    """Whether a fault hit the earlier of two runs, or one that was held up and began after the one that replaced it."""
    if _hurt(run, later.began, faults, lease):
        return True
    if later.began - run.began < TOGETHER:
        return _hurt(later, later.began, faults, lease)
    held_up = [fault for fault in faults if fault.kind in STANDING and fault.pid in (later.pid, None)]
    return any(fault.began <= later.began <= fault.ended + DELIVERY for fault in held_up)


def _hurt(run: Run, again: float, faults: Sequence[Fault], lease: float) -> bool:
    """Whether a fault excuses that the job of `run` began `again`."""
    return any(_excuses(fault, run, again, lease) for fault in faults)


def _excuses(fault: Fault, run: Run, again: float, lease: float) -> bool:
    if fault.kind not in EXCUSING or fault.pid not in (run.pid, None):
        return False
    if fault.kind == "terminated" and run.whole:
        return False
    flight_ends = again if run.ended is None else min(again, run.ended + DELIVERY)
    return fault.began <= flight_ends and run.began <= fault.ended + lease


def _said(run: Run) -> str:
    how = "never ended" if run.ended is None else f"{'ended' if run.whole else 'was cancelled'} at {run.ended:.3f}"
    return f"the run in {run.pid} that began at {run.began:.3f} and {how}, and no fault explains it"
