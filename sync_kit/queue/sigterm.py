"""SIGTERM is heard here first, then by whoever handled it before."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

log = logging.getLogger("sync_kit")


class _Link:
    """A handler of SIGTERM that tells the listeners, then the handler that was there before it."""

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for tell in list(_listeners):
            tell()
        if callable(self.before):
            self.before(number, frame)
        elif self.before is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    @property
    def first(self) -> bool:
        """Whether nobody has put a handler of his own before this one."""
        return signal.getsignal(signal.SIGTERM) is self


_listeners: list[Callable[[], None]] = []
_link: _Link | None = None


@contextmanager
def heard(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` at SIGTERM while the block lasts. What handled it before still does, and alone does so afterwards.

    `loop.add_signal_handler` of asyncio and uvloop works beside it: it hears of signals through a file descriptor.
    """
    if not _can_hear():
        yield
        return
    _listeners.append(tell)
    _install()
    try:
        yield
    finally:
        _listeners.remove(tell)
        _restore()


def _can_hear() -> bool:
    if threading.current_thread() is not threading.main_thread():
        log.warning("quiet_on_sigterm does nothing here: Python hands signals to the main thread, and this is another")
        return False
    if signal.getsignal(signal.SIGTERM) is None:
        log.warning("quiet_on_sigterm does nothing here: SIGTERM is handled by something outside of Python")
        return False
    return True


def _install() -> None:
    global _link
    if _link is None or not _link.first:
        _link = _Link()


def _restore() -> None:
    """Put the handler back that was there before, unless somebody has put another one in the place of ours."""
    global _link
    if not _listeners and _link is not None:
        if _link.first:
            signal.signal(signal.SIGTERM, _link.before)
        _link = None
