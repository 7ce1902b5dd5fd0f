"""What goes to and fro between Python and the scripts of a queue, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing import Literal

    Word = Literal["done", "retry", "fail", "back", "park"]
    Status = Literal["waiting", "delayed", "active", "completed", "failed", "cancelled", "parked"]

TRACEBACK = "\0"
"""What is between the message of an error and its traceback."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long and how many ended jobs are kept (seconds, entries). A count of 0 keeps nothing at all.

    Attributes:
        completed: seconds for completed jobs, and for cancelled ones.
        failed: seconds for failed jobs, the dead letters.
        parked: seconds that a job of a task that no worker knows waits for one that does.
    """

    completed: float = 3600.0
    completed_count: int = 10_000
    failed: float = 7 * 86400.0
    failed_count: int = 10_000
    parked: float = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Item:
    """A job on its way into a queue. The engine reads its `kind`, one line of text; the `body` is opaque."""

    id: str
    kind: str
    body: bytes

    @property
    def record(self) -> bytes:
        """What is stored."""
        return b"%b\n%b" % (self.kind.encode(), self.body)


class Claim(NamedTuple):
    """A job that this worker was given. `generation` grows with every run and fences the older ones."""

    id: str
    kind: str
    body: bytes
    generation: int
    attempts: int
    crashes: int

    @classmethod
    def read(cls, reply: list[Any]) -> Claim:
        """From what a script answers."""
        kind, _, body = reply[1].partition(b"\n")
        return cls(reply[0].decode(), kind.decode(), body, reply[2], reply[3], reply[4])


class Lost(NamedTuple):
    """A run that ended without its worker, or a parked job that nobody came for.

    `outcome` is what became of the job: `back`, `fail`, `cancel`, or `expire` for a parked one that has failed.
    """

    id: str
    kind: str
    outcome: str
    attempts: int
    text: str

    @classmethod
    def read(cls, reply: list[Any]) -> Lost:
        """From what a script answers."""
        job, kind, outcome, attempts, text = reply
        return cls(job.decode(), kind.decode(), outcome.decode(), attempts, text.decode())


class Outcome(NamedTuple):
    """How a run ended: `done`, `retry` (after `delay` seconds), `fail`, handed `back` unharmed, or to be `park`ed."""

    id: str
    generation: int
    word: Word
    delay: float = 0.0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """The answer to an exchange.

    Attributes:
        claims: the jobs that were taken.
        refused: ids whose outcome was refused: their lease had been lost.
        lost: what had lost its worker, or was parked for too long.
        next_due: seconds until something is due, when fewer jobs than wanted were ready; None if nothing is known.
        skip: how many parked jobs are known not to be adopted; -1 when all were looked at.
    """

    claims: list[Claim]
    refused: list[str]
    lost: list[Lost]
    next_due: float | None
    skip: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one job. Times are milliseconds of the server's clock, 0 when they do not apply."""

    id: str
    kind: str
    status: Status
    due_ms: int
    body: bytes
    attempts: int
    crashes: int
    started_ms: int
    finished_ms: int
    priority: int
    worker: str | None
    error: str
    traceback: str
    result: bytes
    progress: str
    log: str

    @classmethod
    def read(cls, job: str, reply: list[Any]) -> Entry:
        """From what a script answers."""
        status, due, record, state, error, result, *notes = reply
        kind, _, body = record.partition(b"\n")
        numbers = (state or b"0 0 0 0 0 0 0 -").split()
        _, attempts, crashes, started, finished, priority = map(int, numbers[:6])
        worker = None if numbers[7] == b"-" else numbers[7].decode()
        times = (due, body, attempts, crashes, started, finished, priority, worker)
        said, progress, log = (text.decode("utf-8", "replace") for text in (error, *notes))
        error, _, traceback = said.partition(TRACEBACK)
        return cls(job, kind.decode(), status.decode(), *times, error, traceback, result, progress, log)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many jobs are in each status; `oldest` is how long the one that waits longest has waited (seconds)."""

    waiting: int
    delayed: int
    active: int
    completed: int
    failed: int
    cancelled: int
    parked: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class Oddities:
    """What is unusual about a queue.

    Attributes:
        paused: whether nothing is to be taken.
        suspects: jobs that wait because their worker died.
        parked: how many jobs of each kind no worker knew, up to 100 kinds.
    """

    paused: bool
    suspects: int
    parked: dict[str, int]
