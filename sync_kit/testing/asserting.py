"""Was it sent? A failure lists everything that was."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sync_kit.errors import ConfigurationError
from sync_kit.options import whole
from sync_kit.testing.errors import listed
from sync_kit.testing.mode import innermost

if TYPE_CHECKING:
    from collections.abc import Collection

    from sync_kit.testing.sent import Addressee, Sent, SentJob

_MISSING = object()
MOST_LISTED = 100


def assert_sent(task: Addressee, /, *payload: Any, times: int | None = None, **fields: Any) -> list[SentJob]:
    """Fail unless jobs of `task` with this payload were sent in the innermost `recorded()` or `inline()`.

    Args:
        task: the task.
        payload: what is to be equal to the whole payload; any payload if not given.
        times: how many such jobs there must be; at least one if not given.
        fields: fields of the payload and what they must be equal to; other fields do not matter.

    Returns:
        The jobs that fit, oldest first: their `options` say when and how often they were to run.

    Raises:
        AssertionError: they were not sent, or not so often; it lists what was, and marks what comes closest.
        ConfigurationError: nothing is recorded, or the payload has no such field.
    """
    __tracebackhide__ = True
    sent = innermost("assert_sent")
    wanted = Wanted(task, payload, fields)
    found = [job for job in sent.of(task) if not wanted.differences(job)]
    if not found if times is None else len(found) != whole("times", times):
        raise AssertionError(_complaint(wanted, sent, len(found), times))
    return found


def assert_not_sent(task: Addressee, /, *payload: Any, **fields: Any) -> None:
    """Fail if a job of `task` with this payload was sent. Takes and raises what `assert_sent` does."""
    __tracebackhide__ = True
    assert_sent(task, *payload, times=0, **fields)


class Wanted:
    """What a payload is to be like. Raises `ConfigurationError` when it can never be."""

    def __init__(self, task: Addressee, payload: tuple[Any, ...], fields: Mapping[str, Any]) -> None:
        if len(payload) + bool(fields) > 1:
            raise ConfigurationError("give one whole payload or some of its fields, not both")
        _refuse_strangers(task, fields)
        self.task = task
        self._payload = payload
        self._fields = fields

    def __str__(self) -> str:
        said = [repr(each) for each in self._payload] or [f"{name}={value!r}" for name, value in self._fields.items()]
        return f"{self.task.jobs.name}/{self.task.name}" + (f" with {', '.join(said)}" if said else "")

    def differences(self, job: SentJob) -> list[str]:
        """In what a job of this task is different."""
        if self._payload:
            return [] if job.data == self._payload[0] else ["another payload"]
        got = {name: _field(job.data, name) for name in self._fields}
        return [
            f"no {name}" if got[name] is _MISSING else f"{name} is {got[name]!r}"
            for name, value in self._fields.items()
            if not got[name] == value  # noqa: SIM201  what stands for anything may say so by == alone
        ]


def _refuse_strangers(task: Addressee, fields: Mapping[str, Any]) -> None:
    """A slip of the pen would let `assert_not_sent` pass for ever."""
    known = _fields_of(task.schema.kind)
    for name in fields:
        if known is not None and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known) or 'none'}"
            raise ConfigurationError(f"the payload of task {task.name!r} has no field {name!r}: {advice}")


def _fields_of(kind: Any) -> Collection[str] | None:
    """The names of the fields of a schema, None if it may have any."""
    for names in ("model_fields", "__dataclass_fields__"):
        if isinstance(kind, type) and isinstance(getattr(kind, names, None), dict):
            return [*getattr(kind, names)]
    return [*kind.__annotations__] if isinstance(kind, type) and issubclass(kind, dict) and kind is not dict else None


def _field(data: Any, name: str) -> Any:
    return data.get(name, _MISSING) if isinstance(data, Mapping) else getattr(data, name, _MISSING)


def _complaint(wanted: Wanted, sent: Sent, found: int, times: int | None) -> str:
    often = "at least once" if times is None else "not at all" if times == 0 else f"{times} time{'s' * (times != 1)}"
    head = f"{wanted} was to be sent {often}, and was sent {found} time{'s' * (found != 1)}."
    if not sent:
        return f"{head} Nothing was sent."
    differences = {id(job): wanted.differences(job) for job in sent.of(wanted.task)}
    closest = min(differences, key=lambda each: len(differences[each]), default=None)
    lines = [_line(job, differences.get(id(job)), id(job) == closest) for job in list(sent)]
    if len(lines) > MOST_LISTED:
        lines.sort(key=lambda line: line.startswith("  "))
    return f"{head} Sent were:{listed(lines, MOST_LISTED)}"


def _line(job: SentJob, differences: list[str] | None, is_closest: bool) -> str:
    """One job; `==` marks those that fit, `->` the one that comes closest if none does."""
    if differences == []:
        return f"== {job}"
    return f"-> {job}   ({', '.join(differences)})" if differences and is_closest else f"   {job}"
