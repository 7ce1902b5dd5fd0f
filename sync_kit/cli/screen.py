"""What is shown: grids of cells in colour on a terminal, the same as plain text elsewhere, or JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from pydantic_core import to_jsonable_python
from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sync_kit.queue.logs import clean
from sync_kit.queue.wording import span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import ConsoleOptions, RenderableType, RenderResult

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

GAP = 2
STUMP = 12
"""To so many characters the last column may shrink."""


class Cell(NamedTuple):
    """A text, and how it looks on a terminal."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Grid:
    """Rows under headings; a heading that begins with `>` has its column to the right.

    On a terminal that is too narrow the last column is folded, or cut if `cuts`, then the columns of `first_to_go` go,
    in this order and with a note, and then all are folded.
    """

    headings: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    note: str = ""
    first_to_go: tuple[str, ...] = ()
    cuts: bool = False

    def text(self) -> str:
        """Aligned columns."""
        heads = [head.lstrip(">").upper() for head in self.headings]
        lines = [heads, *([cell.text for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = [head.startswith(">") for head in self.headings]
        shape = [f"{{:{'>' if to_right else '<'}{width}}}" for to_right, width in zip(right, widths, strict=True)]
        aligned = [(" " * GAP).join(shape).format(*line).rstrip() for line in lines]
        return "\n".join([*aligned, self.note] if self.note else aligned)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For a terminal, as wide as it is now."""
        columns = [column for column in self._columns() if column.is_of_use]
        gone = []
        for title in self.first_to_go:
            if _least_width(columns) <= options.max_width:
                break
            gone += [column.title for column in columns if column.title == title]
            columns = [column for column in columns if column.title != title]
        yield _table(columns, options.max_width, cuts=self.cuts)
        if gone:
            yield Text(f"no room for: {', '.join(gone)} (a wider terminal or --json shows all)", "dim")
        if self.note:
            yield Text(self.note, "dim")

    def _columns(self) -> list[_Column]:
        last = len(self.headings) - 1
        return [
            _Column(head.lstrip(">"), head.startswith(">"), [row[number] for row in self.rows], number == last)
            for number, head in enumerate(self.headings)
        ]


@dataclass(frozen=True)
class _Column:
    title: str
    to_right: bool
    cells: list[Cell]
    is_last: bool

    @property
    def is_of_use(self) -> bool:
        """On a terminal there is no room for columns with nothing in them."""
        return not self.cells or any(cell.text for cell in self.cells)

    @property
    def width(self) -> int:
        return max(map(cell_len, [self.title, *(cell.text for cell in self.cells)]))

    @property
    def least(self) -> int:
        return min(self.width, STUMP) if self.is_last else self.width


def _least_width(columns: list[_Column]) -> int:
    return sum(column.least for column in columns) + GAP * (len(columns) - 1)


def _table(columns: list[_Column], room: int, *, cuts: bool) -> Table:
    """When it fits each column has its width, and the last one what is left: Rich would take from all of them."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    spare = room - _least_width(columns)
    for column in columns:
        justify: Any = "right" if column.to_right else "left"
        stays = spare >= 0 and (cuts or not column.is_last)
        overflow: Any = "ellipsis" if stays else "fold"
        width = min(column.width, column.least + spare) if spare >= 0 else None
        table.add_column(column.title, justify=justify, no_wrap=stays, overflow=overflow, width=width)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell.text, cell.style) for cell in row))
    return table


def on_terminal() -> bool:
    """Whether somebody looks at what is printed, rather than a program."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def console() -> Console:
    """The terminal."""
    return Console(highlight=False, markup=False)


def below(*parts: RenderableType) -> RenderableType:
    """Parts below each other, with an empty line between them, for a terminal."""
    shown: list[RenderableType] = []
    for part in parts:
        shown += [Text()] if shown else []
        shown.append(part)
    return Group(*shown)


def show(*grids: Grid) -> None:
    """Print grids."""
    if on_terminal():
        console().print(below(*grids))
    else:
        typer.echo("\n\n".join(grid.text() for grid in grids))


def show_facts(facts: Mapping[str, str]) -> None:
    """Print named facts below each other; those of several lines are indented."""
    width = max(map(len, facts)) + GAP
    terminal = console() if on_terminal() else None
    for name, said in facts.items():
        first, *more = [clean(line) for line in said.splitlines()] or [""]
        label, text = f"{name.replace('_', ' '):<{width}}", "\n".join([first, *(" " * width + line for line in more)])
        if terminal is None:
            typer.echo(f"{label}{text}".rstrip())
        else:
            terminal.print(Text.assemble((label, "dim"), text), soft_wrap=True)


def show_json(value: Any, *, compact: bool = False) -> None:
    """Print a value as JSON; secrets of pydantic are masked."""
    plain = to_jsonable_python(value, fallback=repr, inf_nan_mode="strings", bytes_mode="base64")
    typer.echo(json.dumps(plain, ensure_ascii=False, indent=None if compact else 2))


def moment(when: datetime | None) -> str:
    """A time for people, with how far away it is: `2026-03-01 04:00:00 UTC (in 3 h)`."""
    return "-" if when is None else f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC ({away(when)})"


def away(when: datetime | None) -> str:
    """How far away a time is: `in 3 h`, `4.2 s ago`."""
    if when is None:
        return "-"
    seconds = (when - datetime.now(timezone.utc)).total_seconds()
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"
