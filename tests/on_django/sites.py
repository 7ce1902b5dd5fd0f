"""A Django site in a folder of its own, and its `manage.py` as people use it: in a pipe or in a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.cli.conftest import App, Running, Terminal

if TYPE_CHECKING:
    from pathlib import Path

MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
SETTINGS = """
import os
from tests.on_django.project.settings import *
DEBUG = bool(os.environ.get("TEST_DEBUG"))
INSTALLED_APPS = [*INSTALLED_APPS, "mailing"]
TASKS = {}
"""
TASKS = """
import asyncio, os, time
from pydantic import BaseModel
from tests.chaos.worker import change
from sync_kit_django import Jobs

change("LEASE", float(os.environ.get("TEST_LEASE", 30)))

class Note(BaseModel):
    text: str
    seconds: float = 0

jobs, other = Jobs("notes"), Jobs("other")

@jobs.task(schema=Note, timeout=60)
async def write(note: Note) -> None:
    print("begins", note.text, flush=True)
    await asyncio.sleep(note.seconds)
    print("wrote", note.text, flush=True)

@jobs.task(schema=Note)
def block(note: Note) -> None:
    print("begins", note.text, flush=True)
    time.sleep(note.seconds)
    print("blocked", note.text, flush=True)
"""


class Site(App):
    """The app `mailing` has the queue `notes` with tasks `write` and `block`, and the queue `other` without tasks."""

    def __init__(self, folder: Path, url: str, namespace: str) -> None:
        super().__init__(folder, url, namespace)
        self.environment |= {"TEST_URL": url, "TEST_NAMESPACE": namespace, "TEST_FOLDER": str(folder)}
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)
        (folder / "tasks.py").unlink()
        for name, text in {"manage.py": MANAGE, "site_settings.py": SETTINGS, "mailing/__init__.py": ""}.items():
            self.write(name, text)
        self.write("mailing/tasks.py", TASKS)

    @property
    def command(self) -> list[str]:
        """What runs a command of the site."""
        return [sys.executable, "manage.py"]

    def start_worker(self, *words: str, **environment: str) -> Running:
        """`runworker`, once it is up."""
        self.environment |= environment
        worker = self.start("runworker", *words)
        worker.says("started")
        return worker


class SiteTerminal(Terminal):
    """A terminal in the folder of a site."""

    def run(self, *words: str) -> None:
        """Type a command of the site on an empty screen, and what tells its exit code behind it."""
        self._do("send-keys", "-R")
        self.type(f"clear; {sys.executable} manage.py {' '.join(words)}; echo code=$?")
