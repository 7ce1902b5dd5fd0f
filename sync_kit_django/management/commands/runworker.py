"""`manage.py runworker`: background jobs, until somebody says stop."""

from __future__ import annotations

import socket
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from sync_kit import SyncKitError, Worker
from sync_kit.kit import default_kit
from sync_kit.queue.beside import close_kits
from sync_kit.queue.checkup import complaints
from sync_kit.queue.emptying import until_empty
from sync_kit.queue.logs import clean
from sync_kit.queue.process import first, run_worker
from sync_kit_django import conf
from sync_kit_django._registry import choose
from sync_kit_django.management.banner import banner
from sync_kit_django.management.logs import logging_to
from sync_kit_django.management.reload import GRACE, RELOAD, Parent, Watch, is_child

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from django.core.management.base import CommandParser

    from sync_kit import Jobs

INSTEAD = 'sync_to_async(call_command)("runworker", ...)'


class Command(BaseCommand):
    """Runs a worker; the tests of users may call it with `drain=True`."""

    help = (
        "Runs background jobs. The first CONTROL-C (or SIGTERM) lets running jobs end, a second one hands them back, a "
        "third one ends the process. Exit codes: 0 it was stopped or is done, 1 it could not start or --check failed."
    )

    _called_from_command_line = False  # Django's

    def add_arguments(self, parser: CommandParser) -> None:
        """See `BaseCommand`."""
        parser.add_argument(
            "--queue",
            action="append",
            dest="queues",
            metavar="NAME",
            help="Run this queue; may be given again. All queues if not given.",
        )
        parser.add_argument("--concurrency", type=int, metavar="N", help="Jobs that run at the same time.")
        parser.add_argument("--drain", action="store_true", help="Stop when no job waits or runs any more.")
        parser.add_argument("--max-jobs", type=int, metavar="N", help="Stop after so many jobs.")
        parser.add_argument(
            "--drain-timeout", type=float, metavar="SECONDS", help="Time for running jobs to end when it stops."
        )
        parser.add_argument(
            "--reload",
            action="store_true",
            dest="reload",
            default=None,
            help="Start again when code changes, once running jobs have ended; so it is if DEBUG is True.",
        )
        parser.add_argument("--noreload", action="store_false", dest="reload", help="Do not.")
        parser.add_argument(
            "--check", action="store_true", help="Start nothing: is a worker of this host alive and well?"
        )

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        """System checks are for who runs jobs: not for a probe, and not for a parent whose child makes them."""
        return {"tags": set()} if options["check"] or self._is_parent(options) else super().get_check_kwargs(options)

    def handle(self, *_: Any, **options: Any) -> None:
        """See `BaseCommand`. What is wrong is a `CommandError`."""
        try:
            default_kit().refuse_in_loop(INSTEAD)
            self._carry_out(options)
        except SyncKitError as error:
            raise CommandError(clean(error)) from error

    def _carry_out(self, options: dict[str, Any]) -> None:
        if options["reload"] and (options["drain"] or options["max_jobs"] is not None):
            raise CommandError("--reload starts again and again, and --drain and --max-jobs end: choose one of them.")
        queues = choose(_listed(options["queues"]) or conf.current().worker.queues)
        if options["check"]:
            self._check_up(queues)
            return
        _refuse_mode(conf.current().jobs.mode)
        worker = _worker(queues, options)
        if self._is_parent(options):
            sys.exit(Parent(lambda said: self.stderr.write(said)).run())
        with logging_to(self.stderr, self.style, options["verbosity"], queues):
            self._run(worker, queues, options)

    def _check_up(self, queues: Sequence[Jobs]) -> None:
        if reasons := complaints(queues):
            raise CommandError("\n".join(map(clean, reasons)))
        self.stdout.write(self.style.SUCCESS(f"ok: a worker of {clean(socket.gethostname())} is alive and well"))

    def _is_parent(self, options: dict[str, Any]) -> bool:
        """Whether another process is to do the work, and this one to start it again."""
        if not self._called_from_command_line or is_child():
            return False
        ends = options["check"] or options["drain"] or options["max_jobs"] is not None
        return not ends and (settings.DEBUG if options["reload"] is None else bool(options["reload"]))

    def _run(self, worker: Worker, queues: Sequence[Jobs], options: dict[str, Any]) -> None:
        watch = Watch(worker.drain_timeout + GRACE) if self._called_from_command_line and is_child() else None
        ends: list[Callable[[], Awaitable[None]]] = [] if watch is None else [watch.until_changed, watch.until_left]
        if options["drain"]:
            for queue in queues:  # a worker would wait for a server that is away
                queue.blocking.counts()
            ends.append(partial(until_empty, worker, queues))
        if options["max_jobs"] is not None:
            ends.append(worker.spent)
        if options["verbosity"]:
            self.stdout.write(banner(queues, worker, self.style, reloads=watch is not None))
            self.stdout.flush()  # a pipe or a file would keep it to the end
        anyio.run(_live, worker, queues, partial(first, *ends) if ends else anyio.sleep_forever)
        if watch is not None and watch.changed:
            sys.exit(RELOAD)
        if options["verbosity"]:
            self.stdout.write(self.style.SUCCESS(f"Stopped; jobs run: {worker.took}."))


def _listed(queues: str | list[str] | None) -> list[str]:
    """Who calls the command from code may say one name."""
    return [queues] if isinstance(queues, str) else queues or []


def _refuse_mode(mode: str) -> None:
    """What the handlers of a worker send must not vanish."""
    if mode != "redis":
        raise CommandError(
            f'SYNC_KIT["JOBS"]["MODE"] is {mode!r}, which is for tests: what jobs send would reach no worker. Leave it '
            "out, or run jobs by `drain` of sync_kit_django.testing."
        )


def _worker(queues: Sequence[Jobs], options: dict[str, Any]) -> Worker:
    given = conf.current().worker
    concurrency, drain_timeout = options["concurrency"], options["drain_timeout"]
    return Worker(
        *queues,
        concurrency=given.concurrency if concurrency is None else concurrency,
        poll_interval=given.poll_interval,
        drain_timeout=given.drain_timeout if drain_timeout is None else drain_timeout,
        max_jobs=options["max_jobs"],
    )


async def _live(worker: Worker, queues: Sequence[Jobs], until: Callable[[], Awaitable[None]]) -> None:
    """Be the worker, and close what is open then. Signals are for the main thread alone."""
    is_main = threading.current_thread() is threading.main_thread()
    try:
        await run_worker(worker, handle_signals=is_main, until=until)
    finally:
        await close_kits(queues)
