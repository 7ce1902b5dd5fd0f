"""How a rule is written: `100/minute`, `5 per 10 seconds`, `1000/hour/burst=50`.

rule   = limit ( "/" | "per" ) [ count ] unit { "/" option "=" value }
count  = a number, perhaps with decimals
unit   = second | minute | hour | day | week, their plurals, or s, sec, min, h, hr, d, w
option = burst | precision | algorithm | name
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, NoReturn

from sync_kit.errors import ConfigurationError
from sync_kit.options import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_SHORT = {"s": "second", "sec": "second", "min": "minute", "h": "hour", "hr": "hour", "d": "day", "w": "week"}
_SPACE = re.compile(r"[ \t]*")
_NUMBER = re.compile(r"[0-9]{1,12}(?![0-9])", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?(?![0-9.])", re.ASCII)
_WORD = re.compile(r"[A-Za-z]+", re.ASCII)
_PER = re.compile(r"/|per\b", re.ASCII | re.IGNORECASE)
_VALUE = re.compile(r"[^/\s][^/]*")
_NUMERIC = ("burst", "precision")
_OPTIONS = (*_NUMERIC, "algorithm", "name")
_LONGEST = 200


def parse(text: object) -> dict[str, Any]:
    """The arguments of `Rule` that `text` stands for. Raises `ConfigurationError` that points at the character."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ConfigurationError(f'{shown(text)} is not a rate limit: write a text such as "100/minute"')
    return _Reader(text).rule()


class _Reader:
    """Reads a text from left to right; every complaint says where."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def rule(self) -> dict[str, Any]:
        limit = int(self.expect(_NUMBER, 'a whole number, as in "100/minute"'))
        self.expect(_PER, '"/" or "per", as in "100/minute"')
        found: dict[str, Any] = {"limit": limit, "window": self.window()}
        while not self.ended():
            self.expect(_PER, 'the end, or "/" and an option such as "burst=50"')
            name, value = self.option()
            if name in found:
                self.fail(f"{name} is given twice")
            found[name] = value
        return found

    def window(self) -> float:
        count = self.accept(_COUNT)
        start = self.start()
        word = self.expect(_WORD, f"one of {', '.join(UNITS)}").lower()
        one = word.removesuffix("s") if len(word) > 1 else word
        unit = _SHORT.get(one, one)
        if unit not in UNITS:
            self.at = start
            self.fail(f"unknown unit {word!r}{_guess(unit, UNITS)}")
        return float(count or 1) * UNITS[unit]

    def option(self) -> tuple[str, int | str]:
        start = self.start()
        name = self.expect(_WORD, f"one of {', '.join(_OPTIONS)}").lower()
        if name not in _OPTIONS:
            self.at = start
            self.fail(f"unknown option {name!r}{_guess(name, _OPTIONS)}")
        self.expect(re.compile("="), f'"=" and a value, as in "{name}=..."')
        if name in _NUMERIC:
            return name, int(self.expect(_NUMBER, f"a whole number for {name}"))
        return name, self.expect(_VALUE, f"a value for {name}").strip()

    def start(self) -> int:
        """Where the next token begins."""
        space = _SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at
        return self.at

    def ended(self) -> bool:
        return self.start() == len(self.text)

    def accept(self, token: re.Pattern[str]) -> str | None:
        match = token.match(self.text, self.start())
        if match is None:
            return None
        self.at = match.end()
        return match[0]

    def expect(self, token: re.Pattern[str], what: str) -> str:
        found = self.accept(token)
        return self.fail(f"expected {what}") if found is None else found

    def fail(self, why: str) -> NoReturn:
        place = "at the end" if self.at >= len(self.text) else f"at character {self.at + 1}"
        line = "".join(char if char.isprintable() else "?" for char in self.text)
        raise ConfigurationError(
            f"{self.text!r} is not a rate limit: {why} ({place})\n    {line}\n    {' ' * self.at}^"
        )


def _guess(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]!r}?" if close else f": use one of {', '.join(known)}"
