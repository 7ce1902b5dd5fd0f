"""Checks of options that every room shares: the errors say what was wrong and what would be right."""

from __future__ import annotations

import difflib
from datetime import timedelta
from typing import TYPE_CHECKING

from sync_kit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Seconds = float | int | timedelta


def refuse_unknown(where: str, unknown: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise `ConfigurationError` if there is an option that `where` does not have, with a guess at what was meant."""
    if not unknown:
        return
    known = tuple(known)
    name = next(iter(unknown))
    close = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known)}"
    raise ConfigurationError(f"{where} has no option {name!r}: {advice}")


def shown(value: object) -> str:
    """A wrong value as errors repeat it: short, whatever it is."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."


def seconds(
    name: str, value: object, *, least: float = 0.0, above: float | None = None, most: float = 10 * 365 * 86400.0
) -> float:
    """Read a time span given as seconds or timedelta. Raises `ConfigurationError` outside of the bounds."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or number != number:  # NaN differs from itself
        raise ConfigurationError(f"{name} must be seconds (a number or a timedelta), not {shown(value)}")
    if number < least or (above is not None and number <= above) or number > most:
        bound = f"more than {above:g}" if above is not None else f"at least {least:g}"
        raise ConfigurationError(f"{name} must be {bound} and at most {most:g} seconds, not {shown(value)}")
    return float(number)


def whole(name: str, value: object, *, least: int = 0, most: int = 2**31 - 1) -> int:
    """Read a whole number. Raises `ConfigurationError` for anything else, bools included."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} must be a whole number, not {shown(value)}")
    if not least <= value <= most:
        raise ConfigurationError(f"{name} must be from {least} to {most}, not {shown(value)}")
    return value


def number(name: str, value: object, least: float, most: float) -> float:
    """Read a number within bounds. Raises `ConfigurationError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigurationError(f"{name} must be a number from {least:g} to {most:g}, not {shown(value)}")
    return float(value)


def choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Read one of some words. Raises `ConfigurationError` for any other."""
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(map(repr, choices))}, not {shown(value)}")
    return str(value)


def label(name: str, value: object) -> str:
    """Read the name of a limiter, mutex, queue or task. Raises `ConfigurationError` when empty or not a str."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name} must be a non-empty str, not {shown(value)}")
    return value


def name_sent(name: str, value: object) -> str:
    """Read a name or an id that is sent as it is. Raises `ConfigurationError` also when it cannot be encoded."""
    read = label(name, value)
    try:
        read.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name} must be a text that can be encoded, not {shown(value)}") from None
    return read
