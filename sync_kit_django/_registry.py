"""The queues of this process: what `runworker` runs and the admin shows."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from sync_kit import ConfigurationError

if TYPE_CHECKING:
    import sync_kit

_queues: list[weakref.ref[sync_kit.Jobs]] = []


def remember(queue: sync_kit.Jobs) -> None:
    """A queue was made."""
    _queues[:] = [known for known in _queues if known() is not None]
    _queues.append(weakref.ref(queue))


def all_queues() -> list[sync_kit.Jobs]:
    """Every queue that was made and is still there, in order; two may have one name, by mistake."""
    return [queue for known in list(_queues) if (queue := known()) is not None]


def queues_by_name() -> dict[str, sync_kit.Jobs]:
    """Every queue, by its name. Raises `ConfigurationError` if two have one."""
    found: dict[str, sync_kit.Jobs] = {}
    for queue in all_queues():
        if queue.name in found:
            raise ConfigurationError(f"two Jobs are named {queue.name!r}: make one, and import it where it is needed")
        found[queue.name] = queue
    return found
