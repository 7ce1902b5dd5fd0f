"""What `doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: `ok`, `warn`: it will hurt some day, or `fail`: it hurts, or loses jobs.
        about: what was looked at.
        says: what was seen.
        advice: what to do; empty when there is nothing to do.
    """

    level: Level
    about: str
    says: str
    advice: str = ""


def worst(*levels: tuple[bool, Level]) -> Level:
    """The first level whose condition holds; else `ok`."""
    for holds, level in levels:
        if holds:
            return level
    return "ok"
