"""A process whose tasks and threads contend for the resources of one mutex, and write to a register what they do.

python contender.py URL NAMESPACE REGISTER NAME task|thread|-

The last argument: how it also makes sections that outlive a ttl, if it does.

Ends well when its standard input ends.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from sync_kit import LockError, LockLostError, Mutex, SyncKit, Unavailable
from tests.mutex.history import Register, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

TTL = 0.8
RESOURCES = ("a", "b", "c")
LONG = "long"
"""The resource of the sections that need their leases to be renewed."""
PATIENCE = 6.0
"""Seconds that most contenders wait in line."""
EACH = 2
"""Tasks and as many threads that make short sections."""
STEP = 0.015


class RefusedError(Exception):
    """The register has seen a higher fence."""


@dataclass
class Plan:
    """What a section is about to do."""

    name: str
    resource: str
    wait: float
    steps: int
    asked: float


class Contender:
    """One task or thread. Everything that it does by chance follows from its name."""

    def __init__(self, mutex: Mutex, process: str, task: str, path: str) -> None:
        self.mutex = mutex
        self.process = process
        self.name = f"{process}.{task}"
        self._long = task == LONG
        self._path = path
        self._dice = random.Random(self.name)

    def plans(self, ended: threading.Event) -> Iterator[Plan]:
        """One section after the other."""
        for count in itertools.count():
            if ended.is_set():
                return
            if self._long:
                resource, wait, steps = LONG, PATIENCE, round(1.5 * TTL / STEP)
            else:
                resource = self._dice.choice(RESOURCES)
                wait, steps = self._dice.choice((0.05, PATIENCE, PATIENCE)), self._dice.choice((0, 1, 2, 4))
            yield Plan(f"{self.name}.{count}", resource, wait, steps, time.monotonic())

    def run(self, ended: threading.Event) -> None:
        """As a thread."""
        with Register(self._path) as register:
            for plan in self.plans(ended):
                try:
                    self._section(plan, register)
                except (LockError, LockLostError):
                    continue
                except RefusedError as error:
                    register.note(error.args[0])
                except Unavailable:
                    time.sleep(0.05)

    async def arun(self, ended: threading.Event) -> None:
        """As a task."""
        with Register(self._path) as register:
            for plan in self.plans(ended):
                try:
                    await self._asection(plan, register)
                except (LockError, LockLostError):
                    continue
                except RefusedError as error:
                    register.note(error.args[0])
                except Unavailable:
                    await anyio.sleep(0.05)

    def _section(self, plan: Plan, register: Register) -> None:
        with self.mutex.blocking.lock(plan.resource, wait=plan.wait) as lease:
            self._write("enter", plan, lease, register)
            for _ in range(plan.steps):
                time.sleep(STEP)
                if lease.lost:
                    self._lost(plan, lease, register)
                    return
                self._write("work", plan, lease, register)
            self._write("exit", plan, lease, register)

    async def _asection(self, plan: Plan, register: Register) -> None:
        async with self.mutex.lock(plan.resource, wait=plan.wait) as lease:
            self._write("enter", plan, lease, register)
            for _ in range(plan.steps):
                try:
                    await anyio.sleep(STEP)
                except anyio.get_cancelled_exc_class():
                    self._lost(plan, lease, register)
                    raise
                self._write("work", plan, lease, register)
            self._write("exit", plan, lease, register)

    def _lost(self, plan: Plan, lease: Any, register: Register) -> None:
        """Note the loss, and write nevertheless, as somebody would who has not looked."""
        register.note(self._row("lost", plan, lease))
        self._write("late", plan, lease, register)

    def _write(self, kind: str, plan: Plan, lease: Any, register: Register) -> None:
        if not register.write(self._row(kind, plan, lease)):
            raise RefusedError(self._row("unnoticed", plan, lease))

    def _row(self, kind: str, plan: Plan, lease: Any) -> Row:
        at = time.monotonic()  # before the lease is asked: together they are no later than its end
        return Row(0, kind, self.process, plan.name, plan.resource, lease.fence, plan.asked, at, lease.expires_in, None)


async def main(url: str, namespace: str, path: str, process: str, long: str) -> None:
    ended = threading.Event()
    kit = SyncKit(url, namespace=namespace)
    mutex = Mutex("reports", ttl=TTL, kit=kit)
    threading.Thread(target=_end_with_stdin, args=(ended,), daemon=True).start()
    tasks = [f"task{number}" for number in range(EACH)] + [LONG] * (long == "task")
    threads = [f"thread{number}" for number in range(EACH)] + [LONG] * (long == "thread")
    async with kit, anyio.create_task_group() as group:
        for name in tasks:
            group.start_soon(Contender(mutex, process, name, path).arun, ended)
        for name in threads:
            group.start_soon(anyio.to_thread.run_sync, Contender(mutex, process, name, path).run, ended)


def _end_with_stdin(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s", datefmt="%H:%M:%S")
    asyncio.run(main(*sys.argv[1:]))
