"""`@jobs.every(...)` and `@jobs.cron(...)`: schedules that are in the code."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, overload

from pydantic import BeforeValidator

from sync_kit.errors import ConfigurationError, InvalidPayloadError
from sync_kit.jobs.schedules.facade import Schedules
from sync_kit.jobs.schedules.plan import TIMING, read_timing
from sync_kit.jobs.task import UNSET, Task
from sync_kit.options import refuse_unknown
from sync_kit.queue.run import is_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from typing_extensions import ParamSpec, TypeVar, Unpack

    from sync_kit.jobs.job import Job
    from sync_kit.jobs.jobs import Jobs
    from sync_kit.jobs.registering import TaskOptions
    from sync_kit.jobs.schedules.plan import Draft, Missed
    from sync_kit.options import Seconds

    P = ParamSpec("P")
    T = TypeVar("T")

Nothing = Annotated[None, BeforeValidator(lambda given: None if given == {} else given)]
"""The schema of a task that is sent without a payload."""


class Scheduled(Protocol):
    """Makes a task of a handler without payload, or schedules a task that is there."""

    @overload
    def __call__(self, handler: Task[P, T], /) -> Task[P, T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, handler: Callable[[], Any], /) -> Task[[], None]: ...
    @overload
    def __call__(self, handler: Callable[[Job], Any], /) -> Task[[], None]: ...


class Scheduling:
    """The part of `Jobs` that has to do with schedules."""

    task_options: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self.declared: dict[str, tuple[Task[Any, Any], Draft]] = {}

    @property
    def schedules(self) -> Schedules:
        """The schedules of this queue, to look at and to act on."""
        return Schedules(_jobs(self))

    def every(
        self,
        interval: Seconds,
        *,
        start_immediately: bool = False,
        missed: Missed = "newest",
        overlap: bool = False,
        payload: Any = UNSET,
        **options: Unpack[TaskOptions],
    ) -> Scheduled:
        """Send a job every `interval` seconds, one for each slot on all pods together.

        Above a handler that takes nothing, or the `Job`, it makes a task of it; above a task it schedules that.
        Workers make the schedule known when they start; it goes away when no worker has it in its code any more.

        Args:
            interval: seconds from one slot to the next, at least 0.05.
            start_immediately: the first slot is at once, not after an interval.
            missed: of slots that were missed the `newest` one fires, `all` do, or they are passed over (`skip`).
            overlap: send a job although the one before has not ended; if not given, the slot waits for that.
            payload: of the jobs, for a task that takes one.
            options: those of `Jobs.task`, but for the schema. `name` is the name of the task and of the schedule,
                above a task of the schedule alone.

        Raises:
            ConfigurationError: an argument is wrong, or the name is taken.
        """
        given = {"interval": interval, "start_immediately": start_immediately, "missed": missed, "overlap": overlap}
        return self._declare("every", given, payload, dict(options))

    def cron(
        self,
        expression: str,
        *,
        tz: str | tzinfo | None = None,
        start_immediately: bool = False,
        missed: Missed = "newest",
        overlap: bool = False,
        payload: Any = UNSET,
        **options: Unpack[TaskOptions],
    ) -> Scheduled:
        """Send a job at the times of a cron expression. See `every` for what it makes, and for the other arguments.

        Args:
            expression: five fields, six with seconds in front, or @hourly, @daily, @midnight, @weekly, @monthly,
                @yearly, @annually.
            tz: the time zone that it means, an IANA name; UTC if not given.

        Raises:
            ConfigurationError: an argument is wrong, no date ever fits, or the name is taken.
        """
        given = {"cron": expression, "tz": tz, "start_immediately": start_immediately}
        return self._declare("cron", given | {"missed": missed, "overlap": overlap}, payload, dict(options))

    def _declare(self, verb: str, given: dict[str, Any], payload: Any, options: dict[str, Any]) -> Scheduled:
        known = tuple(name for name in (*self.task_options, "payload", *TIMING[2:]) if name != "schema")
        refuse_unknown(verb, {name: value for name, value in options.items() if name not in known}, known)
        timing = read_timing(f"@jobs.{verb}", given | {"name": options.get("name")})
        assert timing is not None

        def register(handler: Any) -> Any:
            task = handler if isinstance(handler, Task) else _chore(_jobs(self), handler, payload, options)
            if task is handler:
                _refuse_options(_jobs(self), task, options)
            self._keep(task, task.draft(timing, _payload(task, payload), declared=True))
            return task

        return register

    def _keep(self, task: Task[Any, Any], made: Draft) -> None:
        known = self.declared.get(made.plan.name)
        if known is not None and (known[0] is task or known[0].name != task.name):
            raise ConfigurationError(
                f"schedule {made.plan.name!r} of {_jobs(self).name!r} is declared for task {known[0].name!r} already: "
                "give one of them a name="
            )
        self.declared[made.plan.name] = (task, made)


def _jobs(scheduling: Any) -> Jobs:
    """Every `Scheduling` is a `Jobs`."""
    jobs: Jobs = scheduling
    return jobs


def _chore(jobs: Jobs, handler: Any, payload: Any, options: Any) -> Task[Any, Any]:
    """A task of a handler without payload."""
    if payload is not UNSET:
        raise ConfigurationError(f"payload= is for a task, which {handler!r} is not: put @jobs.task(schema=...) below")
    task: Task[Any, Any] = jobs.task(schema=Nothing, **options)(bare(handler))
    task.__wrapped__ = handler
    return task


def bare(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Calls a handler that takes nothing, or the job, as those with a payload are called. Also without arguments."""
    count = _parameters(handler)
    if count > 1:
        raise ConfigurationError(
            f"a scheduled handler takes nothing, or the job, and {handler!r} takes {count} parameters: "
            "for one with a payload put @jobs.task(schema=...) below, and give payload="
        )

    def given(payload: Any, job: Any) -> tuple[Any, ...]:
        return () if count == 0 else (payload if job is None else job,)

    def run(payload: Any = None, job: Any = None) -> Any:
        return handler(*given(payload, job))

    async def run_async(payload: Any = None, job: Any = None) -> Any:
        return await handler(*given(payload, job))

    made = functools.update_wrapper(run_async if is_async(handler) else run, handler)
    del made.__wrapped__  # its signature is its own
    return made


POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _parameters(handler: Callable[..., Any]) -> int:
    """How many parameters it must be given. Raises `ConfigurationError` for what is no function."""
    try:
        known = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        raise ConfigurationError(f"a schedule is for a function or a task, not {handler!r}") from None
    unmet = [each for each in known if each.kind is each.KEYWORD_ONLY and each.default is each.empty]
    return len([each for each in known if each.kind in POSITIONAL]) + 2 * len(unmet)


def _refuse_options(jobs: Jobs, task: Task[Any, Any], options: Any) -> None:
    if task.jobs is not jobs:
        raise ConfigurationError(f"{task!r} is one of {task.jobs!r}, not of {jobs!r}: schedule it there")
    if extra := options.keys() - {"name"}:
        raise ConfigurationError(f"{task!r} has its options already: give it {', '.join(sorted(extra))}= itself")


def _payload(task: Task[Any, Any], payload: Any) -> Any:
    if payload is not UNSET:
        return task.schema.check(payload)
    try:
        return task.schema.make((), {})
    except InvalidPayloadError as error:
        raise ConfigurationError(f"the schedule of {task!r} needs a payload=: {error}") from None
