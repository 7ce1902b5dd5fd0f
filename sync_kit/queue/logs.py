"""What others wrote, as it may be shown: it forges no line of a log, and a terminal does not obey it."""

from __future__ import annotations

import logging

INDENT = "    "


class Formatter(logging.Formatter):
    """Spells control characters out, and indents all lines of a record but its first."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as text."""
        lines = super().format(record).split("\n")
        return f"\n{INDENT}".join(_cleaned(line) for line in lines)


def clean(text: object) -> str:
    """A text of somebody else's as it may be printed: one line, and nothing that a terminal would obey."""
    return "".join(each if each.isprintable() else _escaped(each) for each in str(text))


def _cleaned(line: str) -> str:
    """A tab stays: what is behind it is still on its line."""
    return "\t".join(map(clean, line.split("\t")))


def _escaped(character: str) -> str:
    return " " if character in "\n\t" else character.encode("unicode_escape").decode()
