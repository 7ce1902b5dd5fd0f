"""What many processes did in their critical sections, in one order, and whether it was allowed.

A `Register` is what a lease protects in real life: a store that outlives its writers and refuses a lower fence
than it has seen. Everything below it is pure: from rows to the list of what must not have happened.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from typing_extensions import Self

WRITES = ("enter", "work", "exit", "late")
"""Kinds of rows that carry a fence which is checked. `late` is written by a holder that knows of its loss."""
NOTES = ("lost", "unnoticed")
"""Kinds that are only noted: a holder saw its loss; a holder whose write was refused was never told of a loss."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS history (
  number INTEGER PRIMARY KEY, kind TEXT, process TEXT, section TEXT, resource TEXT, fence INTEGER,
  asked REAL, at REAL, left REAL, accepted INTEGER
);
CREATE INDEX IF NOT EXISTS highest ON history (resource, accepted, fence);
CREATE INDEX IF NOT EXISTS steps ON history (section);
"""
_WRITE = """
INSERT INTO history (kind, process, section, resource, fence, asked, at, left, accepted)
SELECT :kind, :process, :section, :resource, :fence, :asked, :at, :left, :fence >= COALESCE(MAX(fence), 0)
FROM history WHERE resource = :resource AND accepted
RETURNING accepted
"""
_NOTE = """
INSERT INTO history (kind, process, section, resource, fence, asked, at, left, accepted)
VALUES (:kind, :process, :section, :resource, :fence, :asked, :at, :left, NULL)
"""
_INSIDE = """
SELECT * FROM history AS row WHERE kind IN ('enter', 'work') AND accepted AND at + left > ? AND number =
  (SELECT MAX(number) FROM history WHERE section = row.section) ORDER BY number DESC
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the register.

    Attributes:
        number: the order of all rows.
        section: the name of the critical section; no two have the same.
        asked: when the section asked for its lease, by the clock that all processes share.
        at: when the writer was about to write this.
        left: seconds that its lease was sure to last at that time.
        accepted: whether the register took the fence; None for a note.
    """

    number: int
    kind: str
    process: str
    section: str
    resource: str
    fence: int
    asked: float
    at: float
    left: float
    accepted: bool | None


class Register:
    """An append-only table in a file. Each thread and each process opens its own.

    A process that is killed leaves it whole; one that is stopped can hold it only between two rows (see `hold`).
    """

    def __init__(self, path: Path | str) -> None:
        self._file = sqlite3.connect(path, timeout=20, isolation_level=None)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=OFF")
        self._file.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: Row) -> bool:
        """Append a row with its fence; returns whether it was accepted. The number is the register's."""
        (answer,) = self._file.execute(_WRITE, _values(row)).fetchall()
        return bool(answer[0])

    def note(self, row: Row) -> None:
        """Append a row that nobody checks."""
        self._file.execute(_NOTE, _values(row))

    def rows(self, after: int = 0) -> list[Row]:
        """Everything so far, in order."""
        found = self._file.execute("SELECT * FROM history WHERE number > ? ORDER BY number", (after,))
        return [_row(values) for values in found]

    def last(self) -> int:
        """The number of the last row."""
        return int(self._file.execute("SELECT COALESCE(MAX(number), 0) FROM history").fetchone()[0])

    def entered(self, after: int) -> set[str]:
        """The processes that have entered a section since row `after`."""
        wanted = "SELECT DISTINCT process FROM history WHERE kind = 'enter' AND accepted AND number > ?"
        return {str(process) for (process,) in self._file.execute(wanted, (after,))}

    def hold(self, act: Callable[[Row], bool]) -> Row | None:
        """Call `act` with the last row of each who is inside and cannot leave meanwhile, as the register is closed.

        Goes on until `act` returns true, and returns that row. A process that `act` stops or kills was not in the
        middle of a row.
        """
        self._file.execute("BEGIN IMMEDIATE")
        try:
            inside = self._file.execute(_INSIDE, (time.monotonic(),)).fetchall()
            return next((row for row in map(_row, inside) if act(row)), None)
        finally:
            self._file.execute("COMMIT")


def _values(row: Row) -> dict[str, object]:
    return {name: getattr(row, name) for name in Row.__slots__}


def _row(values: tuple[Any, ...]) -> Row:
    told = dict(zip(Row.__slots__, values, strict=True))
    return Row(**told | {"accepted": None if told["accepted"] is None else bool(told["accepted"])})


@dataclass(frozen=True, slots=True)
class Section:
    """A critical section, from its rows.

    Attributes:
        entered: when it had its lease.
        over: when it left, or saw the loss, or its lease was over by its own count, whichever came first. Of a
            process that was killed or stopped: by the last count that it wrote.
    """

    name: str
    process: str
    resource: str
    fence: int
    asked: float
    entered: float
    over: float

    def __str__(self) -> str:
        return f"{self.name} (fence {self.fence}, {self.entered:.4f} to {self.over:.4f})"


def sections(rows: Iterable[Row]) -> list[Section]:
    """All sections, in the order in which they were entered."""
    steps: dict[str, list[Row]] = {}
    for row in rows:
        steps.setdefault(row.section, []).append(row)
    return sorted((_section(each) for each in steps.values()), key=lambda section: section.entered)


def _section(steps: list[Row]) -> Section:
    first = steps[0]
    sure = max((row.at + row.left for row in steps if row.left > 0), default=first.at)
    left = min((row.at for row in steps if row.kind in ("exit", "lost")), default=sure)
    over = min(sure, left)
    return Section(first.section, first.process, first.resource, first.fence, first.asked, first.at, over)


def violations(rows: list[Row]) -> list[str]:
    """What must not have happened, each in words. Empty: the history is one that a mutex with fences may have."""
    found = sections(rows)
    alive = [section for section in found if section.over > section.entered]
    checks = (
        _malformed(rows),
        _overlaps(alive),
        _fences_within_resources(alive),
        _fences_over_resources(alive),
        _shared_fences(found),
        _stale_writes(rows),
        _unnoticed(rows),
    )
    return list(itertools.chain(*checks))


def _malformed(rows: list[Row]) -> Iterator[str]:
    """A section begins with its only `enter`, has one fence and one resource, and writes nothing after its end."""
    first: dict[str, Row] = {}
    ended: set[str] = set()
    for row in rows:
        known = first.setdefault(row.section, row)
        if (row is known) != (row.kind == "enter"):
            yield f"{row.section} does not begin with its only enter"
        if (row.fence, row.resource) != (known.fence, known.resource):
            yield f"{row.section} changed its fence or resource"
        if row.section in ended:
            yield f"{row.section} wrote {row.kind} after its end"
        if row.kind == "exit":
            ended.add(row.section)


def _by_resource(found: list[Section]) -> Iterator[list[Section]]:
    resources: dict[str, list[Section]] = {}
    for section in found:
        resources.setdefault(section.resource, []).append(section)
    yield from resources.values()


def _overlaps(alive: list[Section]) -> Iterator[str]:
    for group in _by_resource(alive):
        last = group[0]
        for section in group[1:]:
            if section.entered < last.over:
                yield f"{section} came into {section.resource} while {last} was inside"
            if section.over > last.over:
                last = section


def _fences_within_resources(alive: list[Section]) -> Iterator[str]:
    for group in _by_resource(alive):
        for before, after in itertools.pairwise(group):
            if after.fence <= before.fence:
                yield f"{after} came into {after.resource} after {before}: the fence does not grow"


def _fences_over_resources(alive: list[Section]) -> Iterator[str]:
    """Who asked when another one already had its lease, of whatever resource, has a higher fence."""
    waiting = sorted(alive, key=lambda section: section.asked)
    highest, begun = None, iter(alive)
    following = next(begun, None)
    for section in waiting:
        while following is not None and following.entered < section.asked:
            highest = max(highest or following, following, key=lambda each: each.fence)
            following = next(begun, None)
        if highest is not None and section.fence <= highest.fence:
            yield f"{section} asked when {highest} was inside already: the fence of the mutex went back"


def _shared_fences(found: list[Section]) -> Iterator[str]:
    holders: dict[int, Section] = {}
    for section in found:
        other = holders.setdefault(section.fence, section)
        if other is not section:
            yield f"{section} and {other} share a fence"


def _stale_writes(rows: list[Row]) -> Iterator[str]:
    """A write is refused if, and only if, a higher fence was accepted before."""
    highest: dict[str, int] = {}
    for row in rows:
        known = highest.get(row.resource, 0)
        if row.accepted and row.fence < known:
            yield f"{row.section} wrote {row.kind} with the stale fence {row.fence}: {known} had been there"
        if row.accepted is False and row.fence >= known:
            yield f"{row.section} was refused for no reason: the highest fence was {known}"
        if row.accepted:
            highest[row.resource] = max(known, row.fence)


def _unnoticed(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        if row.kind == "unnoticed":
            yield f"{row.section} had a write refused, and its block ended without a LockLostError"
