"""A real PostgreSQL for tests: a child of ours, on a unix socket in a directory of its own; on no port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

PATIENCE = 30.0
PLACES = "/usr/lib/postgresql/*/bin"
USER = "postgres"
"""Who it runs as if we are root, which it refuses to be; and its own superuser."""
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "max_connections=60")


class PostgresNotFoundError(Exception):
    """There is no PostgreSQL that could be started here."""


def find_postgres() -> Path:
    """The folder of its programs: of the newest one that Debian's packages put there, else the one on PATH."""
    found = sorted(Path("/").glob(f"{PLACES[1:]}/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise PostgresNotFoundError(f"there is no initdb on PATH or in {PLACES}: install postgresql")
    if os.geteuid() == 0 and USER not in {each.pw_name for each in pwd.getpwall()}:
        raise PostgresNotFoundError(f"PostgreSQL does not run as root, and there is no user {USER!r}")
    return (found[-1] if found else Path(os.path.realpath(str(on_path)))).parent


class Postgres:
    """`with Postgres() as started:` starts it, empty, and ends it for good; see `settings`."""

    def __init__(self) -> None:
        self._programs = find_postgres()
        self.home = Path(tempfile.mkdtemp(prefix="sk-pg-", dir="/tmp"))  # the path of a socket has 107 bytes at most
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Postgres:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def settings(self) -> str:
        """For `TEST_POSTGRES`: the folder of its socket, the number in its name, database and user."""
        return f"{self.home} 5432 postgres {USER}"

    def close(self) -> None:
        """Stop for good: no process and no directory is left."""
        if self._child is not None:
            self._child.send_signal(signal.SIGINT)  # "fast": it does not wait for its clients
            try:
                self._child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def _start(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.home, USER)
        data = self.home / "data"
        options = ["--auth=trust", f"--username={USER}", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run(self._as_user("initdb", "-D", data, *options), check=True, stdout=subprocess.DEVNULL)
        settings = [word for each in FAST for word in ("-c", each)]
        with (self.home / "log").open("wb") as log:
            command = self._as_user("postgres", "-D", data, "-k", self.home, *settings)
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(self._as_user("pg_isready", "-q", "-h", self.home)).returncode:
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{(self.home / 'log').read_text(errors='replace')}")
            time.sleep(0.05)

    def _as_user(self, program: str, *words: str | Path) -> list[str]:
        who = (
            ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--pdeathsig=INT"]
            if os.geteuid() == 0
            else []
        )
        return [*who, str(self._programs / program), *map(str, words)]
