"""For tests of a Django project: jobs are kept, or run at once; limits, locks and queues are a test's own."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Literal

from django.conf import settings
from django.test.utils import TestContextDecorator, override_settings

from sync_kit import ConfigurationError, SyncKit, testing
from sync_kit.kit import default_kit
from sync_kit.options import choice
from sync_kit.testing import Drained, Sent, SentJob
from sync_kit.testing.mode import innermost
from sync_kit_django._mode import make_mode
from sync_kit_django.commit import waiting
from sync_kit_django.jobs import Jobs

if TYPE_CHECKING:
    from sync_kit.queue.source import Source
    from sync_kit.testing.mode import Mode
    from sync_kit.testing.sent import Addressee

__all__ = [
    "Drained",
    "Sent",
    "SentJob",
    "adrain",
    "assert_not_sent",
    "assert_sent",
    "drain",
    "override_jobs",
    "own_namespace",
    "sent_jobs",
]

MODES = ("record", "inline")


class override_jobs(TestContextDecorator):  # noqa: N801  as `override_settings`, beside which it is used
    """Keep what is sent, or run it at once: for a `TestCase`, a test function, or `with override_jobs(...) as sent:`.

    It holds for the whole process, threads included; in nested ones the innermost one decides. Of a class each test
    has a list of its own. Inside of `atomic`, and so everywhere in a `TestCase`, jobs are sent when the transaction
    commits: `with self.captureOnCommitCallbacks(execute=True):` lets a test see that.

    Args:
        mode: `record` keeps jobs, and runs none; `inline` runs them when they are sent. Handlers, plain or async, see
            the database as the sender does, its transaction included.
        attr_name: of a class: the attribute of the test that is the list of what was sent.
        kwarg_name: of a function: the keyword argument that is.

    Raises:
        ConfigurationError: there is no such mode.
    """

    def __init__(
        self, mode: Literal["record", "inline"], *, attr_name: str | None = None, kwarg_name: str | None = None
    ) -> None:
        super().__init__(attr_name=attr_name, kwarg_name=kwarg_name)
        self._word = choice("the mode of override_jobs", mode, MODES)
        self._entered: list[Mode] = []

    def enable(self) -> Sent:
        """Begin; returns the list of what is sent."""
        mode = make_mode(self._word)
        self._entered.append(mode)
        return mode.__enter__()

    def disable(self) -> None:
        """End."""
        self._entered.pop().__exit__()

    def __enter__(self) -> Sent:  # type: ignore[override]  # the stubs know of one subclass alone
        return self.enable()


class own_namespace(TestContextDecorator):  # noqa: N801  as `override_settings`
    """Let limits, locks and queues begin anew: for a `TestCase`, a test function, or `with own_namespace() as kit:`.

    A test database is made for tests, a Redis is not: without this, what one test counts is counted in the next one
    and in the next run, and jobs lie beside those of a developer. Here objects without `kit=` live in a namespace of
    the test's own, of a class in one for each test, whose keys are removed afterwards.

    Args:
        attr_name: of a class: the attribute of the test that is the kit.
        kwarg_name: of a function: the keyword argument that is.
    """

    def __init__(self, *, attr_name: str | None = None, kwarg_name: str | None = None) -> None:
        super().__init__(attr_name=attr_name, kwarg_name=kwarg_name)
        self._entered: list[override_settings] = []

    def enable(self) -> SyncKit:
        """Begin; returns the kit."""
        wanted = {**getattr(settings, "SYNC_KIT", {}), "NAMESPACE": f"test-{uuid.uuid4().hex}"}
        override = override_settings(SYNC_KIT=wanted)
        override.enable()
        self._entered.append(override)
        return default_kit()

    def disable(self) -> None:
        """End. Raises `Unavailable` if Redis is away, so that keys may be left."""
        override, kit = self._entered.pop(), default_kit()
        override.disable()
        try:
            kit.sweep()
        finally:
            kit.close_all()

    def __enter__(self) -> SyncKit:  # type: ignore[override]  # the stubs know of one subclass alone
        return self.enable()


def sent_jobs() -> Sent:
    """What was sent in the innermost `override_jobs`, or since `SYNC_KIT["JOBS"]["MODE"]` says so.

    Raises:
        ConfigurationError: jobs go to Redis.
    """
    return _kept("sent_jobs")


def assert_sent(task: Addressee, /, *payload: Any, times: int | None = None, **fields: Any) -> list[SentJob]:
    """Fail unless jobs of `task` with this payload were sent; says also whether jobs wait for a commit.

    Takes, returns and raises what `sync_kit.testing.assert_sent` does.
    """
    __tracebackhide__ = True
    _kept("assert_sent")
    try:
        return testing.assert_sent(task, *payload, times=times, **fields)
    except AssertionError as error:
        if not (count := waiting()):
            raise
        raise AssertionError(
            f"{error}\n{count} more wait for the end of a transaction. A TestCase never commits: "
            "with self.captureOnCommitCallbacks(execute=True): ..."
        ) from None


def assert_not_sent(task: Addressee, /, *payload: Any, **fields: Any) -> None:
    """Fail if a job of `task` with this payload was sent. Takes and raises what `assert_sent` does."""
    __tracebackhide__ = True
    assert_sent(task, *payload, times=0, **fields)


def drain(jobs: Jobs | Source, *more: Jobs | Source, **options: Any) -> Drained:
    """Work real queues off, without waiting for what is delayed. Takes and raises what `sync_kit.testing.drain` does.

    Handlers run on threads of their own, so they see what is committed: use a `TransactionTestCase`.
    """
    return testing.drain_blocking(*map(_core, (jobs, *more)), **options)


async def adrain(jobs: Jobs | Source, *more: Jobs | Source, **options: Any) -> Drained:
    """See `drain`."""
    return await testing.drain(*map(_core, (jobs, *more)), **options)


def _core(jobs: Jobs | Source) -> Source:
    return jobs.core if isinstance(jobs, Jobs) else jobs


def _kept(verb: str) -> Sent:
    try:
        return innermost(verb)
    except ConfigurationError:
        raise ConfigurationError(
            f'{verb} looks at what was kept, and nothing is: call it inside `with override_jobs("record"):`, decorate '
            "the test with it, or let the test take the fixture recorded_jobs or inline_jobs"
        ) from None
