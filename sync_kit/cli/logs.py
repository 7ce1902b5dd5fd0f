"""The log of a worker on stderr."""

from __future__ import annotations

import logging
import sys

from sync_kit.queue.logs import Formatter

LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def set_up_logging(level: str) -> None:
    """Log to stderr, unless logging is configured already."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(LINE))
    logging.basicConfig(level=level.upper(), handlers=[handler])
