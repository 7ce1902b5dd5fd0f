"""Transactions and locks: who comes next has to see what was committed, so a lease outlasts a transaction."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction

from sync_kit_django._views import base_of, is_async, is_of_async_class, request_in

if TYPE_CHECKING:
    from collections.abc import Iterator

LEASE = "_sync_kit_lease"
"""Where the lease stands in a request."""
NOT_ATOMIC = "_non_atomic_requests"
"""Where Django looks for the databases whose transaction it does not put around a view."""


class _Every(set[str]):
    """All databases, whatever their aliases are: they are not known when views are decorated."""

    def __contains__(self, alias: object) -> bool:
        return True

    def was_told(self, alias: str) -> bool:
        """Whether `non_atomic_requests`, above the lock, has named a database."""
        return super().__contains__(alias)


def inside_of_lock(view: Any, decorated: Any) -> Any:
    """The view with the transactions that Django would put around `decorated`, which it then does not.

    Django puts none around async views, and refuses them.
    """
    if is_async(view):
        return view
    without: set[str] = getattr(view, NOT_ATOMIC, set())
    every = _Every()
    setattr(decorated, NOT_ATOMIC, every)

    @functools.wraps(view)
    def inside(*args: Any, **kwargs: Any) -> Any:
        asked = (alias for alias, settings in connections.settings.items() if settings["ATOMIC_REQUESTS"])
        aliases = [alias for alias in asked if alias not in without and not every.was_told(alias)]
        if aliases and is_of_async_class(view, args):
            raise RuntimeError("You cannot use ATOMIC_REQUESTS with async views.")  # as Django says it
        with ExitStack() as transactions:
            for alias in aliases:
                transactions.enter_context(transaction.atomic(using=alias))
            response = view(*args, **kwargs)
            if _is_over(getattr(base_of(request_in(args, kwargs)), LEASE)):
                _roll_back()
        return response

    return inside


def is_open() -> bool:
    """Whether a transaction is open in this thread; that which a `TestCase` puts around its tests is none."""
    return any(_with_transactions())


def _with_transactions() -> Iterator[Any]:
    for connection in connections.all(initialized_only=True):
        blocks: list[Any] = connection.atomic_blocks
        if any(not block._from_testcase for block in blocks):
            yield connection


def _is_over(lease: Any) -> bool:
    return bool(lease.lost or lease.expires_in == 0.0)


def _roll_back() -> None:
    """Let nothing be committed of what was written without a lease."""
    for connection in _with_transactions():
        connection.set_rollback(True)
