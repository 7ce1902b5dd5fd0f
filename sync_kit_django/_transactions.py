"""The transaction of `ATOMIC_REQUESTS` inside of a lock: who comes next has to see what was committed."""

from __future__ import annotations

import functools
from typing import Any

from django.db import connections, transaction

from sync_kit_django._views import is_async, is_of_async_class

NOT_ATOMIC = "_non_atomic_requests"
"""Where Django looks for the databases whose transaction it does not put around a view."""


class _Every(set[str]):
    """All databases, whatever their aliases are: they are not known when views are decorated."""

    def __contains__(self, alias: object) -> bool:
        return True


def inside_of_lock(view: Any, decorated: Any) -> Any:
    """The view with the transactions that Django would put around `decorated`, which it then does not.

    Django puts none around async views, and refuses them.
    """
    if is_async(view):
        return view
    without: set[str] = getattr(view, NOT_ATOMIC, set())
    setattr(decorated, NOT_ATOMIC, _Every())

    @functools.wraps(view)
    def inside(*args: Any, **kwargs: Any) -> Any:
        atomic = view
        for alias, settings in connections.settings.items():
            if settings["ATOMIC_REQUESTS"] and alias not in without:
                if is_of_async_class(view, args):
                    raise RuntimeError("You cannot use ATOMIC_REQUESTS with async views.")  # as Django says it
                atomic = transaction.atomic(using=alias)(atomic)
        return atomic(*args, **kwargs)

    return inside
