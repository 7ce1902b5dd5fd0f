"""The renewal thread: one for a process, only while there is work."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest

from sync_kit._io import renewal
from sync_kit._io.renewal import RenewalThread
from tests.io.tools import run_program, soon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Beat:
    """Notes when it was renewed; `then` may misbehave."""

    def __init__(self, every: float, then: Callable[[], object] = lambda: None) -> None:
        self.every, self.then = every, then
        self.times: list[float] = []
        self.threads: set[str] = set()
        self.renewed = threading.Event()

    def __repr__(self) -> str:
        return "<Beat>"

    def renew(self) -> None:
        self.times.append(time.monotonic())
        self.threads.add(threading.current_thread().name)
        self.renewed.set()
        self.then()


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[RenewalThread]:
    """A thread of the test's own, which ends soon after it has no work."""
    monkeypatch.setattr(renewal, "LINGER", 0.05)
    before = alive()
    made = RenewalThread()
    yield made
    for each in list(made._due):
        made.remove(each)
    with made._changed:
        made._changed.notify()  # it would sleep as long as the slowest of them
    soon(lambda: alive() <= before, 10)


def alive() -> int:
    return sum(each.name == "sync-kit-renewal" for each in threading.enumerate())


def test_each_has_its_own_pace(thread):
    fast, slow = Beat(0.01), Beat(0.05)
    start = time.monotonic()
    thread.add(fast)
    thread.add(slow)
    soon(lambda: len(slow.times) >= 4)
    assert slow.times[0] - start >= 0.05
    gaps = [after - before for before, after in zip(slow.times, slow.times[1:], strict=False)]
    assert min(gaps) >= 0.035
    assert len(fast.times) > 1.5 * len(slow.times)


def test_all_run_on_one_thread(thread):
    beats = [Beat(0.01) for _ in range(10)]
    count = alive()
    for beat in beats:
        thread.add(beat)
    soon(lambda: all(beat.times for beat in beats))
    assert alive() == count + 1
    assert {name for beat in beats for name in beat.threads} == {"sync-kit-renewal"}


def test_what_is_removed_is_not_renewed(thread):
    gone, stays = Beat(0.01), Beat(0.01)
    thread.add(gone)
    thread.add(stays)
    soon(lambda: gone.times)
    thread.remove(gone)
    thread.remove(gone)
    seen = len(stays.times)
    soon(lambda: len(stays.times) > seen + 1)
    count = len(gone.times)
    soon(lambda: len(stays.times) > seen + 6)
    assert len(gone.times) == count


def test_one_may_remove_itself_while_it_is_renewed(thread):
    once = Beat(0.01, lambda: thread.remove(once))
    thread.add(once)
    soon(lambda: once.times and alive() == 0)
    assert len(once.times) == 1


def test_an_error_is_logged_and_the_others_go_on(thread, caplog):
    caplog.set_level(logging.ERROR, "sync_kit")
    bad, good = Beat(0.01, lambda: 1 / 0), Beat(0.01)
    thread.add(bad)
    thread.add(good)
    soon(lambda: len(bad.times) >= 3 and len(good.times) >= 3)
    record = caplog.records[0]
    assert record.getMessage() == "renewing <Beat> failed; tried again in 0.0 s"
    assert "ZeroDivisionError" in str(record.exc_text or record.exc_info)


def test_it_ends_when_idle_and_starts_again(thread):
    before = alive()
    for _ in range(2):
        beat = Beat(0.01)
        thread.add(beat)
        assert alive() == before + 1
        beat.renewed.wait(5)
        thread.remove(beat)
        soon(lambda: alive() == before)


def test_something_due_earlier_wakes_it(thread):
    late, early = Beat(60), Beat(0.02)
    thread.add(late)
    soon(lambda: thread._wakes > time.monotonic() + 30)
    thread.add(early)
    soon(lambda: early.times, 1)
    assert late.times == []


def test_added_again_it_is_renewed_at_the_earlier_time(thread):
    beat = Beat(60)
    thread.add(beat)
    beat.every = 0.02
    thread.add(beat)
    soon(lambda: beat.times, 1)


def test_a_pace_may_change(thread):
    beat = Beat(0.01)
    thread.add(beat)
    soon(lambda: len(beat.times) >= 2)
    beat.every = 60
    soon(lambda: thread._due[beat] > time.monotonic() + 30)


def test_adding_and_removing_from_many_threads(thread):
    beats = [Beat(0.001) for _ in range(8)]

    def toggle(beat: Beat) -> None:
        for _ in range(200):
            thread.add(beat)
            thread.remove(beat)
        thread.add(beat)

    togglers = [threading.Thread(target=toggle, args=(beat,)) for beat in beats]
    for each in togglers:
        each.start()
    for each in togglers:
        each.join()
    seen = [len(beat.times) for beat in beats]
    soon(lambda: all(len(beat.times) > count for beat, count in zip(beats, seen, strict=True)))


FORKED = """
import time
from sync_kit._io.renewal import renewals

class Beat:
    every = 0.01
    def __init__(self): self.pids = set()
    def renew(self): self.pids.add(os.getpid())

def renewed(beat):
    deadline = time.monotonic() + 5
    while os.getpid() not in beat.pids and time.monotonic() < deadline:
        time.sleep(0.005)
    return os.getpid() in beat.pids

parents, childs = Beat(), Beat()
renewals.add(parents)
assert renewed(parents)
import warnings; warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork beside a thread
pid = os.fork()
if pid == 0:
    renewals.add(childs)
    good = renewed(childs) and os.getpid() not in parents.pids
    os._exit(0 if good else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len(parents.pids), len(childs.pids))
"""


def test_a_forked_child_starts_its_own_and_leaves_the_parents_leases_alone():
    assert run_program(FORKED) == "0 1 0"
