"""The caches of a job are its own while it runs, closed as after a request, and then another job's.

Django gives each context new ones: so each job would, and their connections would be left to the garbage collector.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core.cache import caches

if TYPE_CHECKING:
    from collections.abc import Iterator

    Own = dict[str, Any]

log = logging.getLogger("sync_kit")

_idle: list[tuple[object, Own]] = []
"""Those that no job uses, with the settings that they were made by: at most as many as jobs ran at the same time."""


@contextmanager
def own_caches() -> Iterator[None]:
    """Whatever `django.core.cache.caches` gives within the block is used by nobody else."""
    for alias, cache in _take().items():
        caches[alias] = cache
    try:
        yield
    finally:
        _put_back()


def _put_back() -> None:
    try:
        caches.close_all()
    except Exception:
        log.exception("the caches of a job cannot be closed: they are given up")
        return
    made: Any = vars(caches)["_connections"]
    if own := {alias: caches[alias] for alias in caches if hasattr(made, alias)}:
        _idle.append((caches.settings, own))


def _take() -> Own:
    while _idle:
        made_by, own = _idle.pop()
        if made_by is caches.settings:
            return own
    return {}
