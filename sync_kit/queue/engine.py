"""The flows of one queue. The engine knows ids, kinds, bytes and times; what is in the bytes is its users' business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sync_kit._io.flow import Batch, Eval, Pop
from sync_kit._io.keys import KeyGroup
from sync_kit._io.scripts import Keys, Packed, Script
from sync_kit.errors import SyncKitError
from sync_kit.queue.records import Claim, Lost, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sync_kit._io.flow import Flow
    from sync_kit.queue.records import Item, Keep, Outcome

_T = TypeVar("_T")

SEND = Script.load(__name__, "send")
SEND_UNIQUE = Script.load(__name__, "send_unique")
EXCHANGE = Script.load(__name__, "exchange")
RENEW = Script.load(__name__, "renew")
ATTEND = Script.load(__name__, "attend")
NOTE = Script.load(__name__, "note")

BATCH = 100
"""Jobs that one call handles at most."""
TRIP = 20
"""Calls that leave in one round trip at most."""
TRIP_BYTES = 4_000_000
"""Payload after which a round trip is full."""
LEASE = 30.0
"""Seconds that a job is leased to a worker without renewal."""
MAX_CRASHES = 3
"""A job whose worker died this many times is failed."""
GONE = 45.0
"""Seconds after its last sign of life in which a worker is still listed."""
LOG_BYTES = 16_384
"""What is kept of the log of a job."""
HINT = b"1"
"""What is in the list on which idle workers wait."""
LOOK = b"look"
"""What a worker is told that does not wait for hints and found less than it wants."""


class Layout:
    """The keys of one queue: all behind one hash tag, so that they live on one node of a cluster."""

    def __init__(self, namespace: str, kind: str, name: str) -> None:
        self.group = KeyGroup(namespace, kind, name)
        key = self.group.key
        self.ready, self.suspects, self.delayed = key("ready"), key("suspects"), key("delayed")
        self.leases, self.parked, self.kinds = key("leases"), key("parked"), key("kinds")
        self.held, self.unique = key("held"), key("unique")
        self.body, self.state, self.error = key("body"), key("state"), key("error")
        self.results, self.expiries, self.waiters = key("results"), key("expiries"), key("waiters")
        self.progress, self.log = key("progress"), key("log")
        self.done, self.failed, self.cancelled = key("done"), key("failed"), key("cancelled")
        self.wake, self.paused = key("wake"), key("paused")
        self.workers, self.records = key("workers"), key("records")

    def control(self, worker: str) -> str:
        """The list on which a worker is told what it must know at once."""
        return self.group.key("control", worker)

    def exchange(self, worker: str, lane: int) -> Keys:
        """The keys of an exchange; what the last one took is remembered for each lane of a worker."""
        places = (self.ready, self.suspects, self.delayed, self.leases, self.parked, self.held)
        ends = (self.body, self.state, self.error, self.done, self.failed, self.cancelled)
        more = (self.wake, self.paused, self.kinds, self.unique, self.results, self.expiries, self.waiters)
        own = (self.progress, self.log, self.group.key("worker", worker, lane), self.control(worker))
        return Keys((*places, *ends, *more, *own))

    def inbox(self, name: str) -> str:
        """The list on which the waiters of a process are called."""
        return self.group.key("inbox", name)


class Lane:
    """One of the ways of a worker to its queue, on which one exchange is under way at a time, and its terms.

    Args:
        layout: the queue.
        worker: its name.
        number: which of its ways this is.
        keep: what is kept of jobs that ended.
        max_deliveries: what lost its worker is failed after this many runs; if not given, after `MAX_CRASHES`
            workers, whatever other runs there were.
        lease: seconds that jobs are leased; `LEASE` if not given.
    """

    def __init__(
        self,
        layout: Layout,
        worker: str,
        number: int,
        keep: Keep,
        *,
        max_deliveries: int | None = None,
        lease: float | None = None,
    ) -> None:
        self.keys = layout.exchange(worker, number)
        kept = (ms(keep.completed), keep.completed_count, ms(keep.failed), keep.failed_count)
        most = (MAX_CRASHES, 0) if max_deliveries is None else (max_deliveries, 1)
        self.terms = Packed((worker, ms(LEASE if lease is None else lease), *most, ms(keep.parked), *kept))


class Engine:
    """One queue in Redis, for those who send and for those who work: accepts jobs and leases them to workers."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._send = Keys((layout.ready, layout.delayed, layout.body, layout.state, layout.wake))
        self._renew = Keys((layout.leases, layout.state))
        places = (layout.ready, layout.suspects, layout.delayed, layout.leases, layout.parked, layout.held)
        ends = (layout.body, layout.state, layout.error, layout.cancelled, layout.kinds)
        more = (layout.unique, layout.waiters, layout.progress, layout.log, layout.wake)
        self._send_unique = Keys((*places, *ends, *more))

    def send_flow(self, items: Sequence[Item], *, delay: float = 0.0, at: float = 0.0, priority: int = 0) -> Flow[int]:
        """Accept jobs, at once or when they are due (`at`: epoch seconds); returns how many were new.

        A hundred in each call, and twenty calls in each round trip; fewer when they are large.
        """
        new = 0
        for trip in _trips(items):
            calls = [Eval(SEND, self._send, (ms(delay), ms(at), priority, *_flat(some)), repeat=True) for some in trip]
            replies = (yield Batch(calls)) if len(calls) > 1 else [(yield calls[0])]
            new += sum(_accepted(reply) for reply in replies)
        return new

    def send_unique_flow(
        self,
        items: Sequence[Item],
        keys: Sequence[str],
        *,
        delay: float = 0.0,
        at: float = 0.0,
        priority: int = 0,
        replace: bool = False,
        keep: int = 10_000,
    ) -> Flow[list[str]]:
        """Accept jobs, each if no other one has its key; or, to `replace`, instead of that one.

        `keep` is how many of those that are cancelled may be kept.

        Returns:
            For each the id of the job that has its key now: its own, or an older one's.
        """
        owners: list[str] = []
        terms = (ms(delay), ms(at), priority, int(replace), keep)
        for trip in _trips(items):
            calls: list[Eval] = []
            for some in trip:
                batch = zip(some, keys[len(owners) + BATCH * len(calls) :], strict=False)
                args = [value for item, key in batch for value in (item.id, key, item.record)]
                calls.append(Eval(SEND_UNIQUE, self._send_unique, (*terms, *args), repeat=True))
            replies = (yield Batch(calls)) if len(calls) > 1 else [(yield calls[0])]
            for some, reply in zip(trip, replies, strict=True):
                owners += _owners(some, reply)
        return owners

    def note(self, run: tuple[str, int], progress: str, lines: str) -> Eval:
        """The call that stores what a run (id and generation) says of itself, unless a newer one has taken over."""
        keys = (self.layout.state, self.layout.progress, self.layout.log)
        return Eval(NOTE, keys, (*run, progress, lines, LOG_BYTES))

    def exchange_flow(
        self,
        lane: Lane,
        call: int,
        outcomes: Sequence[Outcome],
        want: int,
        *,
        lone: bool = True,
        deaf: bool = False,
        sweep: bool = True,
        skip: int = -1,
        adopts: str = "",
    ) -> Flow[Turn]:
        """Hand in at most `BATCH` outcomes and take at most `want` jobs. Repeating it with the same `call` is safe.

        Args:
            lane: who asks, and on which terms.
            call: its number in this lane; they grow.
            outcomes: how runs ended.
            want: jobs to take.
            lone: whether one of the jobs may be one whose worker died.
            deaf: whether the worker must be told if there is less than it wants, because it does not wait for hints.
            sweep: whether to look after what is kept, beyond what the outcomes add to it.
            skip: look at parked jobs behind so many of them; -1 not to.
            adopts: kinds, a line each, of which parked jobs are taken.
        """
        args: list[str | int] = [call, min(want, BATCH), int(lone), int(deaf), int(sweep), skip, adopts]
        for outcome in outcomes:
            args += [outcome.id, outcome.generation, outcome.word, ms(outcome.delay), outcome.text]
        _, due, refused, lost, jobs, skip = yield Eval(EXCHANGE, lane.keys, lane.terms.before(args), repeat=True)
        claims = [Claim.read(job) for job in jobs]
        return Turn(claims, [*names(refused)], [*map(Lost.read, lost)], None if due < 0 else due / 1000, skip)

    def renew_flow(
        self, runs: Sequence[tuple[str, int]], deadline: float, lease: float | None = None
    ) -> Flow[dict[tuple[str, int], str]]:
        """Renew the leases of `(id, generation)` pairs; tells those that are `lost`, and those to be `cancelled`."""
        told: dict[tuple[str, int], str] = {}
        for batch in batches(runs):
            args = (ms(LEASE if lease is None else lease), *(value for run in batch for value in run))
            _, *answers = yield Eval(RENEW, self._renew, args, deadline=deadline, repeat=True)
            told |= {
                run: "cancelled" if said else "lost" for run, said in zip(batch, answers, strict=True) if said != 1
            }
        return told

    def listen_flow(self, keys: Sequence[str], seconds: float) -> Flow[bytes | None]:
        """Wait for a word on one of the lists `keys`, at most `seconds`."""
        said: bytes | None = yield Pop(keys, seconds)
        return said

    def attend_flow(self, worker: str, record: bytes) -> Flow[list[str]]:
        """Say that a worker is there, or with an empty record that it leaves; answers kinds of parked jobs."""
        layout = self.layout
        keys = (layout.workers, layout.records, layout.kinds, layout.ready, layout.wake, layout.paused)
        _, *kinds = yield Eval(ATTEND, keys, (worker, record, ms(GONE)), repeat=True)
        return [*names(kinds)]


def batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """As many at once as one call may handle."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _trips(items: Sequence[Item]) -> Iterator[list[Sequence[Item]]]:
    trip: list[Sequence[Item]] = []
    size = 0
    for batch in batches(items):
        trip.append(batch)
        size += sum(len(item.body) for item in batch)
        if len(trip) == TRIP or size > TRIP_BYTES:
            yield trip
            trip, size = [], 0
    if trip:
        yield trip


def _flat(items: Sequence[Item]) -> Iterator[str | bytes]:
    return (value for item in items for value in (item.id, item.record))


def names(replies: Iterable[bytes]) -> Iterator[str]:
    """Texts from bytes."""
    return (reply.decode() for reply in replies)


def ms(seconds: float) -> int:
    """Milliseconds."""
    return round(seconds * 1000)


def _owners(items: Sequence[Item], reply: Any) -> Iterator[str]:
    if isinstance(reply, SyncKitError):
        raise reply
    return (item.id if isinstance(by, int) else by.decode() for item, by in zip(items, reply[1:], strict=True))


def _accepted(reply: Any) -> int:
    if isinstance(reply, SyncKitError):
        raise reply
    return int(reply[1])
