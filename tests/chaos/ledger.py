"""What many processes did, outside of Redis: a file to which each appends a line for every step of a handler.

A line is `seconds pid word ...`: `began RUN NUMBER`, `ended RUN`, `cancelled RUN` or `stood SINCE`. The seconds are of
the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from typing_extensions import Self

T = TypeVar("T")

PERIOD = 0.02


@dataclass
class Run:
    """One run of one job. `ended` is when its handler was left, None if that never happened; `whole`: by its end."""

    number: int
    pid: int
    began: float
    ended: float | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """What befell a process (all of them if `pid` is None), and when it was over."""

    kind: str
    pid: int | None
    began: float
    ended: float


class Ledger:
    """The file. Each line is one append, so processes do not tear each other's lines."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        self._serial = itertools.count()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        os.close(self._file)

    def began(self, number: int) -> str:
        """A handler begins; returns the name of its run."""
        run = f"{os.getpid()}.{next(self._serial)}"
        self.write("began", run, number)
        return run

    def write(self, *words: object) -> None:
        """Append one line."""
        line = " ".join(str(word) for word in (f"{time.monotonic():.4f}", os.getpid(), *words))
        os.write(self._file, f"{line}\n".encode())

    def watch(self, patience: float) -> None:
        """Note from now on when this process did not run for `patience` seconds; on a thread of its own."""
        threading.Thread(target=self._watch, args=(patience,), name="standstills", daemon=True).start()

    def runs(self) -> list[Run]:
        """All runs, in the order in which they began."""
        runs: dict[str, Run] = {}
        for at, pid, word, *facts in self._lines():
            if word == "began":
                runs[facts[0]] = Run(int(facts[1]), int(pid), float(at))
            elif word in ("ended", "cancelled"):
                runs[facts[0]].ended, runs[facts[0]].whole = float(at), word == "ended"
        return sorted(runs.values(), key=lambda run: run.began)

    def standstills(self) -> list[Fault]:
        """When processes did not run; when this one did not, no proxy did."""
        lines = (line for line in self._lines() if line[2] == "stood")
        mine = str(os.getpid())
        return [
            Fault("stood", None if pid == mine else int(pid), float(since), float(at)) for at, pid, _, since in lines
        ]

    def _lines(self) -> Iterator[list[str]]:
        with open(self.path) as file:
            yield from (line.split() for line in file)

    def _watch(self, patience: float) -> None:
        last = time.monotonic()
        while not self._closed.wait(PERIOD):
            last, before = time.monotonic(), last
            if last - before > patience:
                self.write("stood", f"{before:.4f}")


async def undisturbed(ledger: Ledger, play: Callable[[], Awaitable[T]], most: int = 3) -> T:
    """Play again when the machine stood still meanwhile: a lease that ends then does not say anything about jobs."""
    for _ in range(most):
        before = len(ledger.standstills())
        outcome = await play()
        if len(ledger.standstills()) == before:
            break
    return outcome
