"""The commands together, and how they end."""

from __future__ import annotations

import sys
import traceback
from typing import NoReturn

import typer

from sync_kit.cli import acts, jobs, pause, schedules
from sync_kit.cli.doctor import doctor
from sync_kit.cli.status import status
from sync_kit.cli.worker import worker
from sync_kit.errors import SyncKitError
from sync_kit.queue.logs import clean

PLAIN = {"no_args_is_help": True, "add_completion": False, "pretty_exceptions_enable": False}
HELP = {"help_option_names": ["-h", "--help"]}


def _group(help_text: str, **commands: object) -> typer.Typer:
    group = typer.Typer(help=help_text, context_settings=HELP, **PLAIN)  # type: ignore[arg-type]
    for name, command in commands.items():
        group.command(name)(command)  # type: ignore[type-var]
    return group


app = _group(
    "Workers, jobs, schedules and the state of sync_kit. A target is module:attribute, as in app.tasks:jobs.",
    worker=worker,
    status=status,
    doctor=doctor,
    pause=pause.pause,
    resume=pause.resume,
)
app.add_typer(
    _group(
        "Look at jobs and act on them.",
        list=jobs.list_jobs,
        show=jobs.show_job,
        retry=acts.retry,
        cancel=acts.cancel,
        delete=acts.delete,
    ),
    name="jobs",
)
app.add_typer(
    _group(
        "Look at schedules and act on them.",
        list=schedules.list_schedules,
        pause=schedules.pause,
        resume=schedules.resume,
        run=schedules.run,
        delete=schedules.delete,
    ),
    name="schedules",
)


def run() -> None:
    """Carry out the command of `sys.argv`; what goes wrong is one line and exit code 2."""
    try:
        typer.main.get_command(app)(prog_name="sync-kit")
    except SyncKitError as error:
        _end(str(error))
    except Exception as error:  # a mistake of ours, or something odd in Redis: no traceback all the same
        frame = traceback.extract_tb(error.__traceback__)[-1]
        _end(f"unexpected {type(error).__name__}: {error} (line {frame.lineno} of {frame.filename})")


def _end(said: str) -> NoReturn:
    typer.echo(f"sync-kit: {clean(said)}", err=True)
    sys.exit(2)
