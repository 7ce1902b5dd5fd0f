"""The queues of this process: what `runworker` runs and the admin shows."""

from __future__ import annotations

import difflib
import inspect
import weakref
from typing import TYPE_CHECKING, Any

from sync_kit import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    import sync_kit

NO_QUEUE = (
    'there is no queue to run: write `jobs = Jobs("mail")` (from sync_kit_django import Jobs) into tasks.py or jobs.py '
    "of an app in INSTALLED_APPS, where it is found"
)

_queues: list[weakref.ref[sync_kit.Jobs]] = []
_replaced: weakref.WeakKeyDictionary[sync_kit.Jobs, dict[str, tuple[Callable[..., Any], Callable[..., Any]]]] = (
    weakref.WeakKeyDictionary()
)


def remember(queue: sync_kit.Jobs) -> None:
    """A queue was made."""
    _queues[:] = [known for known in _queues if known() is not None]
    _queues.append(weakref.ref(queue))


def forget(queue: sync_kit.Jobs) -> None:
    """A queue is none of this project any more, although somebody may still have it."""
    _queues[:] = [known for known in _queues if known() not in (None, queue)]


def all_queues() -> list[sync_kit.Jobs]:
    """Every queue that was made and is still there, in order; two may have one name, by mistake."""
    return [queue for known in list(_queues) if (queue := known()) is not None]


def note_replaced(queue: sync_kit.Jobs, task: str, old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """A task was made although there is one of its name, from the same module: after a reload, or by mistake."""
    if _line(old) != _line(new):
        _replaced.setdefault(queue, {})[task] = (old, new)


def doubled_tasks() -> Iterator[tuple[sync_kit.Jobs, str, str]]:
    """Tasks that a later one of the same module has replaced: the queue, the name, and where both are."""
    for queue in all_queues():
        for task, (old, new) in _replaced.get(queue, {}).items():
            yield queue, task, f"{new.__module__}, lines {_line(old)} and {_line(new)}"


def _line(handler: Callable[..., Any]) -> int:
    code = getattr(inspect.unwrap(handler), "__code__", None)
    return 0 if code is None else code.co_firstlineno


def queues_by_name() -> dict[str, sync_kit.Jobs]:
    """Every queue, by its name. Raises `ConfigurationError` if two have one."""
    found: dict[str, sync_kit.Jobs] = {}
    for queue in all_queues():
        if queue.name in found:
            raise ConfigurationError(f"two Jobs are named {queue.name!r}: make one, and import it where it is needed")
        found[queue.name] = queue
    return found


def choose(names: Collection[str]) -> list[sync_kit.Jobs]:
    """The queues of these names, or all if there are none. Raises `ConfigurationError`, with a guess."""
    if isinstance(names, str):
        raise ConfigurationError(f"queues must be a list of names, as in [{names!r}]")
    known = queues_by_name()
    if not known:
        raise ConfigurationError(NO_QUEUE)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigurationError(f"there is no queue {name!r}: {guess}There are {', '.join(sorted(known))}")
    return [known[name] for name in dict.fromkeys(names or known)]
