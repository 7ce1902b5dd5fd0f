"""`OPTIONS` of the backend, and how one task runs: read, checked, and put together."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from sync_kit import Backoff, ConfigurationError
from sync_kit.jobs.options import TIMEOUT, read_key, read_on_duplicate, read_timeout
from sync_kit.options import label, refuse_unknown, seconds, shown, whole
from sync_kit.queue.schema import MOST_BYTES, read_most

if TYPE_CHECKING:
    from collections.abc import Callable

    Key = str | Callable[..., str]
    Readers = Mapping[str, Callable[[str, Any], Any]]

KEEP = 3600.0
SPARE = 60.0
"""Seconds that a return value outlives its job, so that no job is there without it."""


class Unset(enum.Enum):
    """The type of an option that a task leaves to its backend."""

    UNSET = "as the backend says"


UNSET = Unset.UNSET


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """How a task runs. The names are those of `sync_kit.Jobs.task`, and mean the same.

    Attributes:
        retries: runs after a first one that raised or timed out.
        timeout: seconds that a run may take; None for no limit.
        key: at most one job of the task with this key has not ended; a text, or a function of the task's arguments.
        on_duplicate: what a second one does: `return` the first, `raise`, or `replace` the first.
        result_ttl: seconds that the return value is kept; None for as long as the job.
        backoff: how long to wait before each retry; they run at once if None.
        retry_for, give_up_on: exception types that are worth a retry, and those that are not.
    """

    retries: int = 0
    timeout: float | None = TIMEOUT
    key: Key | None = None
    on_duplicate: str = "return"
    result_ttl: float | None = None
    backoff: Backoff | None = None
    retry_for: tuple[type[BaseException], ...] | None = None
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        read_on_duplicate(self.on_duplicate, self.key)


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """`OPTIONS` as values.

    Attributes:
        task: how tasks run.
        tasks: what is different for some of them, by their paths.
        keep: seconds that finished tasks are kept; failed ones stay for 7 days.
        max_payload: bytes that the arguments, or a return value, may have.
        on_commit: whether `enqueue` waits for the end of a transaction; None: as `SYNC_KIT["JOBS"]` says.
        problems: what is wrong, a sentence for each.
    """

    task: TaskOptions = TaskOptions()
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    keep: float = KEEP
    max_payload: int = MOST_BYTES
    on_commit: bool | None = None
    problems: tuple[str, ...] = ()

    def of(self, path: str, said: Mapping[str, Any]) -> TaskOptions:
        """How one task runs that says something of its own. Raises `ConfigurationError`."""
        own = {name: TASK[name](name, value) for name, value in said.items() if value is not UNSET}
        return replace(self.task, **{**self.tasks.get(path, {}), **own})


def _read_backoff(name: str, value: Any) -> Backoff | None:
    if value is None or isinstance(value, Backoff):
        return value
    if not isinstance(value, Mapping):
        raise ConfigurationError(f'{name} must be a Backoff or a dict, as in {{"base": 1}}, not {shown(value)}')
    known = [each.name for each in fields(Backoff)]
    refuse_unknown(name, {str(key): given for key, given in value.items() if key not in known}, known)
    return Backoff(**value)


def _read_errors(name: str, value: Any) -> tuple[type[BaseException], ...]:
    kinds = tuple(value) if isinstance(value, (tuple, list, set, frozenset)) else (value,)
    for kind in kinds:
        if not (inspect.isclass(kind) and issubclass(kind, BaseException)):
            raise ConfigurationError(f"{name} must be exception types, as in (OSError,), not {shown(kind)}")
    return kinds


def _read_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {shown(value)}")
    return value


def _or_none(reader: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else reader(name, value)


_GENERAL: Readers = {
    "retries": lambda name, value: whole(name, value, most=10_000),
    "timeout": lambda _, value: read_timeout(value),
    "result_ttl": _or_none(seconds),
    "backoff": _read_backoff,
    "retry_for": _or_none(_read_errors),
    "give_up_on": _read_errors,
}
TASK: Readers = {**_GENERAL, "key": lambda _, value: read_key(value), "on_duplicate": label}
"""The options of one task."""
_OWN: Readers = {
    "keep": seconds,
    "max_payload": lambda _, value: read_most(value),
    "on_commit": _read_flag,
}
_TASKS = "tasks"


class _Reading:
    """Reads what can be read, and notes what cannot."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def take(self, where: str, given: object, readers: Readers, *others: str) -> dict[str, Any]:
        """The options that `readers` know; `others` are somebody else's to read."""
        read: dict[str, Any] = {}
        if not isinstance(given, Mapping):
            self.problems.append(f"{where} must be a dict, not {shown(given)}")
            return read
        for name, value in given.items():
            try:
                refuse_unknown(where, {} if name in (*readers, *others) else {str(name): value}, (*readers, *others))
                if name in readers:
                    read[name] = readers[name](f'{where}["{name}"]', value)
            except ConfigurationError as error:
                self.problems.append(str(error))
        return read

    def tasks(self, where: str, given: object, general: TaskOptions) -> dict[str, dict[str, Any]]:
        """What is different for some tasks."""
        if not isinstance(given, Mapping):
            self.problems.append(f"{where} must be a dict of dicts by the paths of tasks, not {shown(given)}")
            return {}
        read = {str(path): self.take(f'{where}["{path}"]', said, TASK) for path, said in given.items()}
        for path in [*read]:
            try:
                replace(general, **read[path])
            except ConfigurationError as error:
                self.problems.append(f'{where}["{path}"]: {error}')
                read[path] = {}  # tasks can be decorated all the same, so that the system checks get their turn
        return read


def read_options(where: str, given: object) -> BackendOptions:
    """Read `OPTIONS`. What is wrong is in `problems`, and left out."""
    reading = _Reading()
    read = reading.take(where, given, {**_GENERAL, **_OWN}, _TASKS)
    general = TaskOptions(**{name: read.pop(name) for name in _GENERAL if name in read})
    tasks = reading.tasks(f'{where}["{_TASKS}"]', given.get(_TASKS, {}) if isinstance(given, Mapping) else {}, general)
    return BackendOptions(task=general, tasks=tasks, problems=tuple(reading.problems), **read)
