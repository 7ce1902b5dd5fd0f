"""`SYNC_KIT["JOBS"]["MODE"]`: where jobs go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_kit import ConfigurationError
from sync_kit_django import conf

if TYPE_CHECKING:
    from sync_kit.testing.mode import Mode

_entered: tuple[str, Mode | None] = ("redis", None)


def make_mode(word: str) -> Mode:
    """What takes jobs instead of Redis: `record` or `inline`."""
    from sync_kit.testing import inline, recorded

    return inline() if word == "inline" else recorded()


def follow() -> None:
    """Do as the settings say. Those that are wrong are left to whoever needs them, and to the system checks."""
    global _entered
    try:
        word = conf.current().jobs.mode
    except ConfigurationError:
        return
    was, mode = _entered
    if word == was:
        return
    if mode is not None:
        mode.__exit__()
    _entered = (word, None if word == "redis" else make_mode(word))
    if _entered[1] is not None:
        _entered[1].__enter__()
