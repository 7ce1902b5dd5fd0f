"""Fenced code blocks of Markdown files, and a runner: `python -m tests.support.markdown FILE`.

All Python blocks of a file run in one namespace, on one event loop; `await` is allowed at the top level.
"""

from __future__ import annotations

import ast
import asyncio
import sys
import types
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FENCE = "```"
ADAPTER = "sync_kit_django"
"""There is a project around its examples."""
MODULES = ("shop", "shop.tasks", "shop.views")
"""From where examples import what stands above them."""


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is the number of its first line."""

    language: str
    line: int
    text: str


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a file, indented ones (in lists) too."""
    opened: Block | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        bare = line.strip()
        if opened is None:
            if bare.startswith(FENCE):
                indent, opened = len(line) - len(line.lstrip()), Block(bare[3:].strip(), number + 1, "")
        elif bare == FENCE:
            yield opened
            opened = None
        else:
            opened = Block(opened.language, opened.line, f"{opened.text}{line[indent:]}\n")
    if opened is not None:
        raise ValueError(f"{path}:{opened.line}: the block is never closed")


def run(path: Path) -> None:
    """Run the Python blocks of a file; tracebacks show the lines of the file itself.

    A block without `await` runs outside of the event loop, as plain code does.
    """
    module = types.ModuleType("example")
    sys.modules.update(dict.fromkeys(("example", *MODULES), module))
    vars(module)["views"] = module
    with closing(asyncio.new_event_loop()) as loop:
        asyncio.set_event_loop(loop)
        for block in blocks(path):
            if block.language == "python":
                if ADAPTER in block.text or ADAPTER in path.parts:
                    vars(module).update(project())
                run_block(block, path, module, loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())


@cache
def project() -> dict[str, object]:
    """Set up the project that examples of the Django adapter are in, once."""
    from tests.support.django_project import start

    return start()


def run_block(block: Block, path: Path, module: types.ModuleType, loop: asyncio.AbstractEventLoop) -> None:
    """Run one block in the module."""
    source = "\n" * (block.line - 1) + block.text
    result = eval(compile(source, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), module.__dict__)
    if result is not None:
        loop.run_until_complete(result)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
