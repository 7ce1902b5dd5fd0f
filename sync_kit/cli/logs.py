"""The log of a worker on stderr: what others wrote into it cannot forge lines, and a terminal does not obey it."""

from __future__ import annotations

import logging
import sys

from sync_kit.cli.screen import clean

LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
INDENT = "    "


class Formatter(logging.Formatter):
    """Spells control characters out, and indents all lines of a record but its first."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as text."""
        lines = super().format(record).split("\n")
        return f"\n{INDENT}".join(_cleaned(line) for line in lines)


def set_up_logging(level: str) -> None:
    """Log to stderr, unless logging is configured already."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(LINE))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _cleaned(line: str) -> str:
    """A tab stays: what is behind it is still on its line."""
    return "\t".join(map(clean, line.split("\t")))
