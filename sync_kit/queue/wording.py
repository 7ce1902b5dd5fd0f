"""Numbers in the words of people."""

from __future__ import annotations

_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def span(seconds: float) -> str:
    """A time span: `4.2 s`, `3 min 20 s`, `2 d 5 h`."""
    for size, unit, smaller, smaller_unit in _UNITS:
        if seconds >= size:
            whole, rest = int(seconds // size), int(seconds % size // smaller)
            return f"{whole} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{seconds:.1f}".removesuffix(".0") + " s"
