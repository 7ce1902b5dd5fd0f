"""What was sent, as values."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from sync_kit.jobs.header import split
from sync_kit.jobs.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sync_kit.jobs import Sender
    from sync_kit.jobs.schedules.plan import Draft
    from sync_kit.queue.records import Item
    from sync_kit.queue.schema import Schema

    Slot = tuple[str, str, str]
    """Queue, task and unique key."""


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """The name."""
        ...


class Addressee(Named, Protocol):
    """A task, of the core or of an adapter."""

    @property
    def jobs(self) -> Named:
        """Its queue."""
        ...

    @property
    def schema(self) -> Schema[Any]:
        """What its payloads look like."""
        ...


@dataclass(frozen=True, slots=True)
class SentJob:
    """A job that was sent while `recorded()` or `inline()` held.

    Attributes:
        id: as the receipt says it; of a schedule its name.
        queue: the name of its `Jobs`.
        task: the name of its task.
        data: the payload, as its handler is given it: written as JSON and read back.
        options: what `.using(...)` said, else the task, by the same names: `retries`, `timeout` and `delay` in
            seconds, `at` in epoch seconds (0 for none), `priority`, `tag`, `key`, `headers` and so on.
    """

    id: str
    queue: str
    task: str
    data: Any
    options: Mapping[str, Any]

    def __str__(self) -> str:
        said = {name: value for name, value in self.options.items() if value != _DEFAULTS.get(name, value)}
        return f"{self.queue}/{self.task} {self.data!r}{''.join(f', {name}={said[name]!r}' for name in said)}"

    @property
    def slot(self) -> Slot | None:
        """What no two jobs may hold at the same time; None without a unique key."""
        key = self.options["key"]
        return None if key is None else (self.queue, self.task, key)


class Sent(list[SentJob]):
    """The jobs that were sent, in order. A list: `len(sent)`, `sent[0].data`, `sent.clear()`."""

    def of(self, task: Addressee) -> list[SentJob]:
        """Those of one task."""
        return [job for job in list(self) if (job.queue, job.task) == (task.jobs.name, task.name)]


def kept(sender: Sender[Any, Any], item: Item, key: str | None) -> SentJob:
    """A job on its way, as a value. Raises `InvalidPayloadError` when its payload cannot be read back."""
    header, payload = split(item.body)
    options = {**dict(_flat(sender.options)), "key": key, "headers": header.headers}
    return SentJob(item.id, sender.jobs.name, sender.name, sender.schema.load(payload), options)


def kept_schedule(sender: Sender[Any, Any], made: Draft) -> SentJob:
    """A schedule on its way, as a value: its id is its name, and its options say when it is due."""
    rule, plan = made.plan.rule, made.plan
    when = {"interval": plan.interval, "cron": getattr(rule, "cron", None), "tz": getattr(rule, "tz", None)}
    how = {"missed": plan.missed, "overlap": plan.overlap, "start_immediately": made.start_immediately}
    options = {**dict(_flat(replace(sender.options, timing=None))), **when, **how}
    return SentJob(plan.name, sender.jobs.name, sender.name, sender.schema.load(made.payload), options)


def _flat(options: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            yield from _flat(value)
        else:
            yield field.name, value


_DEFAULTS = {name: value for name, value in _flat(Options()) if name not in ("retries", "timeout")}
"""What is not worth a word."""
