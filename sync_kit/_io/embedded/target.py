"""Which server an `embedded:` url means."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sync_kit.errors import ConfigurationError

PROTOCOL = 1
"""Part of every identity: raise it when the lock protocol changes, so that two versions never meet."""

_HOW = "write embedded:// (in memory) or embedded:///absolute/directory (kept on disk)"


@dataclass(frozen=True)
class Target:
    """A server's identity (16 hex digits) and, for a persistent one, the directory of its data."""

    identity: str
    directory: Path | None


def parse(url: str, namespace: str) -> Target:
    """Read an `embedded:` url. Raises `ConfigurationError` when it is wrong."""
    directory = _directory(url)
    if directory is None:
        return Target(_digest("memory", str(_working_directory()), namespace), None)
    return Target(_digest("disk", str(directory)), directory)


def _directory(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme != "embedded":
        raise ConfigurationError(f"not the url of an embedded server: {_HOW}")
    if parts.netloc:
        raise ConfigurationError(f"an embedded server has no host, user or password: {_HOW}")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"an embedded server takes no options: {_HOW}, with ? as %3F and # as %23")
    return _data_directory(unquote(parts.path)) if parts.path else None


def _data_directory(path: str) -> Path:
    if "\0" in path or not path.startswith("/"):
        raise ConfigurationError(f"{path!r} is not an absolute directory: {_HOW}")
    directory = _resolved(Path(path))
    if directory == directory.parent:
        raise ConfigurationError(f"an embedded server does not keep its data in {directory}: {_HOW}")
    return directory


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise ConfigurationError(f"{path} is not a usable directory: {error}") from error


def _working_directory() -> Path:
    try:
        return Path.cwd().resolve()
    except OSError as error:
        raise ConfigurationError(
            "embedded:// belongs to the working directory, and that is gone: change to one that exists, "
            "or use embedded:///absolute/directory"
        ) from error


def _digest(*parts: str) -> str:
    return sha256(repr((PROTOCOL, *parts)).encode()).hexdigest()[:16]
