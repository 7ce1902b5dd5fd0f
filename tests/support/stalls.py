"""A second try for a test that failed while the machine stood still: a pytest plugin.

Many tests say that something happens in time, and a virtual machine that stands still for half a second makes
some of them fail without a fault. Who failed without such a stall is not tried again, and a second failure counts.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from _pytest.terminal import TerminalReporter

PERIOD = 0.01
LEAST = 0.15
NOTE = "ran again"


class Watch:
    """Measures on a thread for how long this process stood still: such a thread is awake every few milliseconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._longest = 0.0
        threading.Thread(target=self._look, name="stalls", daemon=True).start()

    def begin(self) -> None:
        """Forget what was before."""
        self._longest, self._last = 0.0, time.monotonic()

    def longest(self) -> float:
        """Seconds of the longest stall since `begin`, also if it has ended just now and the thread is not awake yet."""
        return max(self._longest, time.monotonic() - self._last - PERIOD)

    def _look(self) -> None:
        while True:
            time.sleep(PERIOD)
            self._longest = self.longest()
            self._last = time.monotonic()


watch = Watch()
broken: list[tuple[pytest.FixtureDef[Any], Any]] = []
"""The fixtures whose setup failed in the test that runs, and the requests for them: pytest keeps their errors."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test, and once more if it failed and the machine stood still meanwhile; only the last try is reported."""
    hook, node, place = item.ihook, item.nodeid, item.location
    hook.pytest_runtest_logstart(nodeid=node, location=place)
    watch.begin()
    broken.clear()
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    stall = watch.longest()
    if worth_a_second_try(reports, stall):
        forget(item)
        item.user_properties.append((NOTE, f"after the machine stood still for {stall:.2f} s: {reason(reports)}"))
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=node, location=place)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Note the fixtures that fail."""
    try:
        return (yield)
    except BaseException:
        broken.append((fixturedef, request))
        raise


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """One line for each test that ran again."""
    if lines := sorted(notes(report for reports in terminalreporter.stats.values() for report in reports)):
        terminalreporter.section("second tries")
        for line in lines:
            terminalreporter.write_line(line)


def notes(reports: Iterable[object]) -> Iterator[str]:
    """What the summary says of those that ran again; the last report of each test tells, also the one of a worker."""
    for report in reports:
        if isinstance(report, pytest.TestReport) and report.when == "teardown":
            yield from (f"{report.nodeid} {name} {why}" for name, why in report.user_properties if name == NOTE)


def worth_a_second_try(reports: Sequence[pytest.TestReport], stall: float) -> bool:
    """Whether a test failed, and may have failed because of the stall.

    One that ran into its timeout did not; and its timer, which is over, would not guard a second try.
    """
    errors = [report.longreprtext for report in reports if report.failed]
    return stall >= LEAST and bool(errors) and "from pytest-timeout" not in "".join(errors)


def reason(reports: Sequence[pytest.TestReport]) -> str:
    """The first line of the first error."""
    failed = next(report for report in reports if report.failed)
    crash = getattr(failed.longrepr, "reprcrash", None)
    return str(crash.message if crash else failed.longrepr).partition("\n")[0]


def forget(item: pytest.Item) -> None:
    """Make an item as if it had never run: no output, no fixtures, and none of a wider scope that failed."""
    item._report_sections.clear()
    for definition, request in broken:
        if definition.cached_result is not None:
            definition.finish(request)
    if isinstance(item, pytest.Function):
        item._initrequest()
