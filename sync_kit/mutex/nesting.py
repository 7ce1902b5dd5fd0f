"""Which guarded blocks the running task is in: it must not wait for itself."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from sync_kit._io.loops import current_task
from sync_kit.errors import LockError
from sync_kit.mutex.site import owner

if TYPE_CHECKING:
    from sync_kit.mutex.grant import Grant

_inside: ContextVar[tuple[Grant, ...]] = ContextVar("sync_kit_guarded_blocks", default=())


def enter(grant: Grant) -> None:
    """Note that this task is in the block of `grant`."""
    grant.task = current_task()
    if grant not in (inside := _inside.get()):  # it is there when another block of this task handed it over
        _inside.set((*inside, grant))


def leave() -> None:
    """Forget the blocks that have ended, wherever they were entered."""
    _inside.set(tuple(grant for grant in _inside.get() if not grant.ended))


def refuse_nested(grant: Grant) -> None:
    """Raise `LockError` if this very task holds what it is about to wait for.

    Child tasks inherit the context, hence the look at the task; they may wait for their parent.
    """
    inside = _inside.get()
    if not inside or grant.site.permits > 1:
        return
    task = current_task()
    for held in inside:
        same = held.keys.line == grant.keys.line and held.site.kit is grant.site.kit
        if same and (held.task, held.process) == (task, grant.process) and held.expires_in > 0:
            said = "is held by this very task, which would wait for itself: use the lease it has, or leave that block"
            raise LockError(str(grant.site), grant.resource, owner(), held.expires_in, said=said)
