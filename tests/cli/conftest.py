"""The command line as people use it: an app in a folder, and `sync-kit` as a process, in a pipe or in a terminal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
APP = """
import asyncio, os, time
from pydantic import BaseModel
from sync_kit import Jobs, Queue, SyncKit

class Note(BaseModel):
    text: str
    seconds: float = 0

kit = SyncKit(os.environ["REDIS_URL"], namespace=os.environ["NAMESPACE"])
jobs = Jobs("notes", kit=kit)
other = Jobs("other", kit=kit)
events = Queue("events", schema=int, kit=kit)

@jobs.task(schema=Note, timeout=60)
async def write(note: Note) -> None:
    if note.text == "bad":
        raise ValueError("a bad \\x1b[31mnote\\nwith two lines")
    print("begins", note.text, flush=True)
    await asyncio.sleep(note.seconds)
    print("wrote", note.text, flush=True)

@jobs.task(schema=Note)
def block(note: Note) -> None:
    print("begins", note.text, flush=True)
    time.sleep(note.seconds)

async def handle(event: int) -> None:
    print("event", event, flush=True)

handled = events.processing(handle)

rare = Jobs("rare", kit=kit)

@rare.every(3600)
async def hourly() -> None:
    print("hourly", flush=True)

@rare.cron("0 3 * * *", tz="Europe/Berlin")
async def nightly() -> None:
    print("nightly", flush=True)
"""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.03)
    raise AssertionError(f"in vain: {what}")


class App:
    """An app in a folder of its own, and the command line in that folder."""

    def __init__(self, folder: Path, url: str, namespace: str) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR")},
            "REDIS_URL": url,
            "NAMESPACE": namespace,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "COLUMNS": "120",
        }
        self.write("tasks.py", APP)

    def write(self, name: str, text: str) -> None:
        """Write a file of the app."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    @property
    def command(self) -> list[str]:
        """What runs the command line."""
        return [sys.executable, "-m", "sync_kit"]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command through pipes."""
        env = {**self.environment, **environment}
        return subprocess.run(
            [*self.command, *words],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
        )

    def start(self, *words: str) -> Running:
        """Start a command that runs on, its output in files."""
        return self.start_other([*self.command, *words])

    def start_other(self, command: list[str]) -> Running:
        """The same for another program."""
        return Running(self, command)


class Running:
    """A command that runs; ended with the `with` block."""

    def __init__(self, app: App, command: list[str]) -> None:
        self._log = app.folder / f"log-{uuid.uuid4().hex[:6]}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=app.folder,
                env=app.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()  # a reloader passes it on to its child
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def said(self) -> str:
        """All output until now."""
        return self._log.read_text()

    def says(self, words: str, times: int = 1) -> str:
        """Wait until it has said something."""
        wait_for(lambda: self.said.count(words) >= times or self.process.poll() is not None, f"{words!r}")
        assert self.said.count(words) >= times, self.said
        return self.said

    def ends(self) -> int:
        """Wait until it has ended; its exit code."""
        return self.process.wait(PATIENCE)


class Terminal:
    """A real terminal: tmux, on a server of our own."""

    def __init__(self, app: App, columns: int = 120, rows: int = 40) -> None:
        self._tmux = ["tmux", "-L", f"sync-kit-{uuid.uuid4().hex[:12]}", "-f", "/dev/null"]
        self._environment = {**app.environment, "TERM": "xterm-256color"}
        self._environment.pop("COLUMNS")
        size = ["-x", str(columns), "-y", str(rows)]
        shell = "env PS1='$ ' bash --norc --noprofile"
        self._do("new-session", "-d", *size, "-c", str(app.folder), shell)

    def close(self) -> None:
        """End the terminal and all that runs in it."""
        self._do("kill-server")
        Path(os.environ.get("TMUX_TMPDIR", "/tmp"), f"tmux-{os.getuid()}", self._tmux[2]).unlink(missing_ok=True)

    def type(self, text: str) -> None:
        """Type a line."""
        self._do("send-keys", "-l", text)
        self._do("send-keys", "Enter")

    def press(self, key: str) -> None:
        """Press a key, such as `C-c`."""
        self._do("send-keys", key)

    def run(self, *words: str) -> None:
        """Type a `sync-kit` command on an empty screen, and what tells its exit code behind it."""
        self._do("send-keys", "-R")  # at once, as `clear` is not: what is there now would be taken for new
        self.type(f"clear; {sys.executable} -m sync_kit {' '.join(words)}; echo code=$?")

    @property
    def screen(self) -> str:
        """What is to be seen, as plain text."""
        return self._do("capture-pane", "-p")

    @property
    def colours(self) -> str:
        """The same with its escape codes."""
        return self._do("capture-pane", "-p", "-e")

    def mode(self, name: str) -> str:
        """What tmux says of the terminal, such as `alternate_on`."""
        return self._do("display-message", "-p", f"#{{{name}}}").strip()

    def end_what_runs(self) -> None:
        """SIGTERM for the command that was typed."""
        shell = self._do("display-message", "-p", "#{pane_pid}").strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGTERM)

    def sees(self, words: str) -> str:
        """Wait until something is to be seen."""

        def found() -> str | None:
            screen = self.screen
            return screen if words in screen else None

        try:
            return str(wait_for(found, words))
        except AssertionError:
            raise AssertionError(f"{words!r} is not to be seen in:\n{self.screen}") from None

    def _do(self, *words: str) -> str:
        ran = subprocess.run([*self._tmux, *words], env=self._environment, capture_output=True, text=True, timeout=20)
        return ran.stdout


@pytest.fixture
def app(server: Any, namespace: str, tmp_path: Path) -> App:
    """An app whose targets are `tasks:jobs`, `tasks:other`, `tasks:events`, `tasks:handled` and `tasks:rare`."""
    return App(tmp_path, server.url, namespace)


@pytest.fixture
def terminal(app: App) -> Iterator[Terminal]:
    """A terminal in the folder of the app."""
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux")
    made = Terminal(app)
    try:
        made.sees("$")
        yield made
    finally:
        made.close()


@pytest.fixture
def tasks(kit: Any) -> Any:
    """The app's queues in this process: `.jobs`, `.events`, `.write`, `.block`."""
    return Tasks(kit)


class Tasks:
    """The same queues and tasks as in the app, made here."""

    def __init__(self, kit: Any) -> None:
        from pydantic import BaseModel

        from sync_kit import Jobs, Queue

        class Note(BaseModel):
            text: str
            seconds: float = 0

        def never(note: Note) -> None:
            raise AssertionError("nothing runs here")

        self.jobs = Jobs("notes", kit=kit)
        self.events = Queue("events", schema=int, kit=kit)
        self.write = self.jobs.task(schema=Note, name="write", timeout=60)(never)
        self.block = self.jobs.task(schema=Note, name="block")(never)
        self.gone = Jobs("notes", kit=kit).task(schema=Note, name="gone")(never)

    def send(self, text: str, seconds: float = 0, **using: Any) -> str:
        """Send a note; its id."""
        return str(self.write.using(**using).blocking.send(text=text, seconds=seconds).id)

    def status(self, job: str) -> str | None:
        """The status of a job."""
        found = self.jobs.blocking.get(job)
        return found.status if found else None

    def reach(self, job: str, status: str) -> None:
        """Wait until a job has a status."""
        wait_for(lambda: self.status(job) == status, f"job {status}")
