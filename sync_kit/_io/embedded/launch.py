"""Starts a guard, and with it the server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sync_kit._io.embedded.binary import find_server
from sync_kit.errors import ConfigurationError

if TYPE_CHECKING:
    from sync_kit._io.embedded.rundir import RunDirectory
    from sync_kit._io.embedded.target import Target

GUARD = Path(__file__).with_name("guard.py").absolute()
DATA_LOCK = "sync_kit.lock"
"""In the data directory: keeps a second server away, whatever its run-time directory."""

_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")


def launch(run: RunDirectory, target: Target, start: int) -> subprocess.Popen[bytes]:
    """Start a guard that inherits the locked `start`; the returned process ends when it has detached."""
    lock = target.directory / DATA_LOCK if target.directory else run.server
    guard = [_interpreter(), "-I", "-S", "-W", "ignore", str(GUARD), str(run.path), str(start), str(lock)]
    server = _server_command(find_server(), run, target.directory)
    log = os.open(run.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        return subprocess.Popen(
            guard + server,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            # A guard may outlive its starter: it is not to carry the secrets of that one's environment.
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            pass_fds=(start,),
            start_new_session=True,
        )
    finally:
        os.close(log)


def _server_command(program: str, run: RunDirectory, directory: Path | None) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(run.socket),
        "unixsocketperm": "700",
        "daemonize": "no",
        "logfile": "",
        "always-show-logo": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "dir": str(directory or run.path),
        "appendonly": "yes" if directory else "no",
        "appendfsync": "everysec",
        # Plain commands on disk: whichever server program is found next time can read them.
        "aof-use-rdb-preamble": "no",
    }
    return [program, *(word for name, value in options.items() for word in (f"--{name}", value))]


def _interpreter() -> str:
    """A Python for the guard: `sys.executable` is another program below uwsgi, and in frozen apps."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    paths = [Path(sys.executable or "?"), Path(sys.prefix, "bin", name), Path(sys.base_prefix, "bin", name)]
    for path in paths:
        if path.name.startswith(("python", "pypy")) and os.access(path, os.X_OK):
            return str(path)
    raise ConfigurationError(
        f"embedded:// needs a Python program for its guard and found none ({', '.join(map(str, paths))}): "
        "use the url of a running server"
    )
