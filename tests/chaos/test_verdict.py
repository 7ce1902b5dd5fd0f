"""The checker of the storm accepts what the promises allow and finds each planted violation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.ledger import Fault, Ledger, Run
from tests.chaos.verdict import second_runs, violations

LEASE = 2.0


def runs(*lines: str) -> list[Run]:
    """Runs from lines such as `7 in 1 from 10.0 to 10.2`; `till` when it was cancelled, nothing when it never ended."""
    return [_run(*line.split()) for line in lines]


def _run(number: str, _in: str, pid: str, _from: str, began: str, how: str = "", ended: str = "") -> Run:
    return Run(int(number), int(pid), float(began), float(ended) if how else None, how == "to")


def judged(state: str, ran: list[Run], *faults: Fault) -> list[str]:
    """What is found about job 7."""
    return violations([7], {7: state}, ran, faults, LEASE)


KILLED = Fault("killed", 1, 10.1, 10.1)
ALLOWED: dict[str, Any] = {
    "one run": (runs("7 in 1 from 10 to 10.2"),),
    "its process was killed": (runs("7 in 1 from 10", "7 in 2 from 12.1 to 12.2"), KILLED),
    "killed with the outcome in its hand": (runs("7 in 1 from 10 to 10.09", "7 in 2 from 12 to 12.1"), KILLED),
    "stopped, and overtaken": (
        runs("7 in 1 from 10 to 13.1", "7 in 2 from 12 to 12.1"),
        Fault("stopped", 1, 10.1, 13.0),
    ),
    "taken before a stop, begun after it": (
        runs("7 in 1 from 13.1 to 13.2", "7 in 2 from 13.15 to 13.3"),
        Fault("stopped", 1, 10, 13),
    ),
    "begun after a stop, and ended by somebody else before": (
        runs("7 in 2 from 12 to 12.1", "7 in 1 from 13.1 to 13.2"),
        Fault("stopped", 1, 10, 13),
    ),
    "the hurt one began a moment later": (
        runs("7 in 2 from 12 to 12.1", "7 in 1 from 12.01 to 12.1"),
        Fault("hole", 1, 10, 12),
    ),
    "handed back by a shutdown": (
        runs("7 in 1 from 10 till 11", "7 in 2 from 11.1 to 11.2"),
        Fault("terminated", 1, 10.9, 11.2),
    ),
    "its outcome was not heard": (runs("7 in 1 from 10 to 10.2", "7 in 2 from 12 to 12.1"), Fault("hole", 1, 9, 12)),
    "the machine stood still": (runs("7 in 1 from 10 to 14", "7 in 2 from 13 to 13.1"), Fault("stood", None, 10.5, 13)),
}
FORBIDDEN: dict[str, Any] = {
    "no fault": (runs("7 in 1 from 10 to 10.2", "7 in 2 from 12 to 12.1"),),
    "a fault of somebody else": (runs("7 in 3 from 10 to 10.2", "7 in 2 from 12 to 12.1"), KILLED),
    "a fault long after its end": (runs("7 in 1 from 8 to 8.2", "7 in 2 from 12 to 12.1"), KILLED),
    "a fault long before": (
        runs("7 in 1 from 20 to 20.2", "7 in 2 from 21 to 21.1"),
        Fault("hole", 1, 10, 12),
    ),
    "a fault after it had begun again": (runs("7 in 1 from 8 to 13", "7 in 2 from 9 to 9.1"), KILLED),
    "a connection that was cut": (runs("7 in 1 from 10 to 10.2", "7 in 2 from 12 to 12.1"), Fault("cut", 1, 10, 10)),
    "begun after a loss of the network, and ended by somebody else before": (
        runs("7 in 2 from 12 to 12.1", "7 in 1 from 13.1 to 13.2"),
        Fault("deaf", 1, 10, 13),
    ),
    "a slow network": (runs("7 in 1 from 10 to 10.2", "7 in 2 from 12 to 12.1"), Fault("slow", 1, 9, 12)),
    "a shutdown after it had run to its end": (
        runs("7 in 1 from 10 to 10.2", "7 in 2 from 12 to 12.1"),
        Fault("terminated", 1, 10.1, 10.4),
    ),
    "a third run, with one fault": (
        runs("7 in 1 from 10", "7 in 2 from 12.1 to 12.2", "7 in 3 from 14.3 to 14.4"),
        KILLED,
    ),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_allowed_passes(case):
    assert judged("completed", *ALLOWED[case]) == []


@pytest.mark.parametrize("case", FORBIDDEN)
def test_a_second_run_that_no_fault_explains_is_found(case):
    (found,) = judged("completed", *FORBIDDEN[case])
    assert "began again" in found


@pytest.mark.parametrize("state", ["lost", "waiting", "active", "delayed", "failed"])
def test_a_job_that_is_not_completed_is_found(state):
    assert judged(state, runs("7 in 1 from 10 to 10.2")) == [f"7: in the end it was {state}"]


def test_a_job_of_which_nothing_is_known_is_found():
    assert violations([7, 8], {7: "completed"}, runs("7 in 1 from 10 to 10.2"), [], LEASE) == [
        "8: in the end it was lost"
    ]


def test_a_job_that_nobody_sent_is_found():
    assert violations([], {7: "completed"}, [], [], LEASE) == ["7: nobody sent it"]
    assert violations([], {}, runs("7 in 1 from 10 to 10.2"), [], LEASE) == ["7: nobody sent it"]


@pytest.mark.parametrize("ran", [[], runs("7 in 1 from 10"), runs("7 in 1 from 10 till 10.2")])
def test_a_job_that_completed_without_running_to_its_end_is_found(ran):
    assert judged("completed", ran) == ["7: completed, but never ran to its end"]


def test_second_runs_are_counted():
    assert second_runs(runs("7 in 1 from 1", "7 in 2 from 2", "7 in 2 from 3", "8 in 1 from 4")) == 2


def test_what_is_written_can_be_read(tmp_path):
    with Ledger(tmp_path / "ledger") as ledger:
        whole, _, cut = ledger.began(1), ledger.began(2), ledger.began(3)
        ledger.write("cancelled", cut)
        ledger.write("ended", whole)
        ledger.write("stood", 1.5)
        read = [(run.number, run.ended is not None, run.whole) for run in ledger.runs()]
        assert read == [(1, True, True), (2, False, False), (3, True, False)]
        assert [(fault.kind, fault.pid, fault.began) for fault in ledger.standstills()] == [("stood", None, 1.5)]
