"""The caches of a job are its own while it runs, closed as after a request, and then another job's.

Django gives each context new ones: so each job would, and their connections would be left to the garbage collector.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
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
    own = _take()
    for alias in {*own, *_made()}:  # made already: by whoever started the worker
        caches[alias] = own[alias] if alias in own else caches.create_connection(alias)
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
    if own := {alias: caches[alias] for alias in _made()}:
        _idle.append((caches.settings, own))


def _take() -> Own:
    with suppress(IndexError):  # other threads take from it too, so it may be empty at any time
        while True:
            made_by, own = _idle.pop()
            if made_by is caches.settings:
                return own
    return {}


def _made() -> list[str]:
    """The aliases whose caches have been made in this context."""
    made: Any = vars(caches)["_connections"]
    return [alias for alias in caches if hasattr(made, alias)]
