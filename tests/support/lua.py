"""Does every Lua file compile? `python -m tests.support.lua` asks the real servers, Redis and Valkey."""

from __future__ import annotations

import sys
from pathlib import Path

import redis

from sync_kit._io.scripts import source
from tests.support.servers import Server, ServerNotFoundError

ROOT = Path(__file__).resolve().parents[2]


def scripts() -> list[Path]:
    """Every Lua file of the packages but those that others use."""
    return [path for path in _files() if "-- KEYS:" in path.read_text(encoding="utf-8")]


def libraries() -> list[Path]:
    """The Lua files that others use."""
    return [path for path in _files() if path not in scripts()]


def _files() -> list[Path]:
    return sorted(path for package in ROOT.glob("sync_kit*") for path in package.rglob("*.lua"))


def complaints(server: Server) -> list[str]:
    """What the server says about the files that it cannot compile; nothing is run."""
    client, found = server.client(), []
    for path in scripts():
        try:
            client.script_load(source(path.parent, path.stem))
        except redis.ResponseError as error:
            found.append(f"{path.relative_to(ROOT)}: {error}")
    return found


def main() -> int:
    """Check on both kinds of server, as far as they are here; one is needed."""
    asked, found = [], []
    for kind in ("redis", "valkey"):
        try:
            with Server(kind) as server:
                found += [f"{kind}: {line}" for line in complaints(server)]
                asked.append(kind)
        except ServerNotFoundError as error:
            print(f"{kind} is not asked: {error}")
    print(*found, f"{len(scripts())} Lua files compiled by {' and '.join(asked)}", sep="\n")
    return 1 if found or not asked else 0


if __name__ == "__main__":
    sys.exit(main())
