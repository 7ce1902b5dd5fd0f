"""The flows of one queue. The engine knows ids, bytes and times; what is in the bytes is the jobs' business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sync_kit._io.flow import Batch, Eval, Pop
from sync_kit._io.keys import KeyGroup
from sync_kit._io.scripts import Script
from sync_kit.errors import SyncKitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Literal

    from sync_kit._io.flow import Flow

    Word = Literal["done", "retry", "fail", "back"]
    Status = Literal["waiting", "delayed", "active", "completed", "failed"]

_T = TypeVar("_T")

SEND = Script.load(__name__, "send")
EXCHANGE = Script.load(__name__, "exchange")
RENEW = Script.load(__name__, "renew")
LOOK = Script.load(__name__, "look")
LIST = Script.load(__name__, "list")
COUNT = Script.load(__name__, "count")
RETRY = Script.load(__name__, "retry")
DELETE = Script.load(__name__, "delete")
PAUSE = Script.load(__name__, "pause")

BATCH = 100
"""Jobs that one call handles at most."""
TRIP = 20
"""Calls that leave in one round trip at most."""
LEASE = 30.0
"""Seconds that a job is leased to a worker without renewal."""
MAX_CRASHES = 3
"""A job whose worker died this many times is failed."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long and how many ended jobs are kept (seconds, entries)."""

    completed: float = 3600.0
    completed_count: int = 10_000
    failed: float = 7 * 86400.0
    failed_count: int = 10_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker was given. `generation` grows with every run and fences the older ones."""

    id: str
    body: bytes
    generation: int
    attempts: int
    crashes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: `done`, `retry` (after `delay` seconds), `fail`, or handed `back` unharmed."""

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
        next_due: seconds until something is due, when fewer jobs than wanted were ready; None if nothing is known.
    """

    claims: list[Claim]
    refused: list[str]
    next_due: float | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one job. Times are milliseconds of the server's clock, 0 when they do not apply."""

    id: str
    status: Status
    due_ms: int
    body: bytes
    attempts: int
    crashes: int
    started_ms: int
    finished_ms: int
    error: str


class Engine:
    """One queue in Redis: accepts jobs, leases them to workers, keeps what ended."""

    def __init__(self, namespace: str, name: str) -> None:
        self._group = KeyGroup(namespace, "q", name)
        key = self._group.key
        self._ready, self._delayed, self._leases = key("ready"), key("delayed"), key("leases")
        self._body, self._state, self._error = key("body"), key("state"), key("error")
        self._done, self._failed, self._wake, self._paused = key("done"), key("failed"), key("wake"), key("paused")

    def send_flow(self, jobs: Sequence[tuple[str, bytes]], *, delay: float = 0.0, at: float = 0.0) -> Flow[int]:
        """Accept jobs, at once or when they are due (`at`: epoch seconds); returns how many were new.

        A hundred in each call, and twenty calls in each round trip.
        """
        keys, times, new = (self._ready, self._delayed, self._body, self._wake), (_ms(delay), _ms(at)), 0
        calls = [Eval(SEND, keys, (*times, *(v for job in some for v in job)), repeat=True) for some in _batches(jobs)]
        for start in range(0, len(calls), TRIP):
            trip = calls[start : start + TRIP]
            replies = (yield Batch(trip)) if len(trip) > 1 else [(yield trip[0])]
            new += sum(_accepted(reply) for reply in replies)
        return new

    def exchange_flow(self, worker: str, call: str, outcomes: Sequence[Outcome], want: int, keep: Keep) -> Flow[Turn]:
        """Hand in at most `BATCH` outcomes and take at most `want` jobs. Repeating it with the same `call` is safe."""
        keys = [self._ready, self._delayed, self._leases, self._body, self._state, self._error]
        keys += [self._done, self._failed, self._wake, self._group.key("worker", worker), self._paused]
        args: list[str | int] = [call, min(want, BATCH), _ms(LEASE), MAX_CRASHES]
        args += [_ms(keep.completed), keep.completed_count, _ms(keep.failed), keep.failed_count]
        for outcome in outcomes:
            args += [outcome.id, outcome.generation, outcome.word, _ms(outcome.delay), outcome.text]
        _, due, refused, jobs = yield Eval(EXCHANGE, keys, args, repeat=True)
        claims = [Claim(job[0].decode(), job[1], job[2], job[3], job[4]) for job in jobs]
        return Turn(claims, [name.decode() for name in refused], None if due < 0 else due / 1000)

    def renew_flow(self, runs: Sequence[tuple[str, int]], deadline: float) -> Flow[list[tuple[str, int]]]:
        """Renew the leases of `(id, generation)` pairs; returns those that are lost."""
        lost: list[tuple[str, int]] = []
        for batch in _batches(runs):
            args = (_ms(LEASE), *(value for run in batch for value in run))
            _, *mine = yield Eval(RENEW, (self._leases, self._state), args, deadline=deadline, repeat=True)
            lost += [run for run, held in zip(batch, mine, strict=True) if not held]
        return lost

    def wait_flow(self, seconds: float) -> Flow[bool]:
        """Wait for a hint that there is work, at most `seconds`."""
        hinted = yield Pop(self._wake, seconds)
        return bool(hinted)

    def look_flow(self, ids: Sequence[str]) -> Flow[list[Entry]]:
        """What is known of `ids`; unknown ones are left out."""
        keys = (self._delayed, self._leases, self._done, self._failed, self._body, self._state, self._error)
        entries: list[Entry] = []
        for batch in _batches(ids):
            _, *found = yield Eval(LOOK, keys, batch, repeat=True)
            entries += [_entry(job, known) for job, known in zip(batch, found, strict=True) if known]
        return entries

    def list_flow(self, status: Status, limit: int) -> Flow[list[Entry]]:
        """Up to `limit` jobs of one status."""
        keys = (self._ready, self._delayed, self._leases, self._done, self._failed)
        _, *ids = yield Eval(LIST, keys, (status, limit), repeat=True)
        entries = yield from self.look_flow([name.decode() for name in ids])
        return [entry for entry in entries if entry.status == status]

    def retry_flow(self, ids: Sequence[str] = ()) -> Flow[int]:
        """Let failed jobs run again: those of `ids`, or all that have failed by now; returns how many there were."""
        keys = (self._ready, self._failed, self._state, self._wake)
        until, retried, more = 0, 0, True
        while more:
            _, until, count, more = yield Eval(RETRY, keys, (until, *ids))
            retried += count
            more = more and not ids
        return retried

    def delete_flow(self, ids: Sequence[str]) -> Flow[int]:
        """Forget jobs that have ended; returns how many there were."""
        keys = (self._done, self._failed, self._body, self._state, self._error)
        reply = yield Eval(DELETE, keys, ids)
        return int(reply[1])

    def pause_flow(self, pauses: bool) -> Flow[bool]:
        """Let no jobs be taken, or let them be taken again; returns whether that changed anything."""
        reply = yield Eval(PAUSE, (self._paused, self._ready, self._wake), (int(pauses),))
        return bool(reply[1])

    def count_flow(self) -> Flow[list[int]]:
        """How many jobs are waiting, delayed, active, completed and failed."""
        keys = (self._ready, self._delayed, self._leases, self._done, self._failed)
        reply: list[int] = yield Eval(COUNT, keys, (), repeat=True)
        return reply[1:]


def _batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _accepted(reply: Any) -> int:
    if isinstance(reply, SyncKitError):
        raise reply
    return int(reply[1])


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _entry(job: str, known: list[Any]) -> Entry:
    status, due, body, state, error = known
    _, attempts, crashes, started, finished = map(int, (state or b"0 0 0 0 0").split())
    text = error.decode("utf-8", "replace")
    return Entry(job, status.decode(), due, body, attempts, crashes, started, finished, text)
