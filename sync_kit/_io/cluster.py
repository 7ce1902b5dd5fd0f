"""Redis Cluster: which node serves which slot, and the flows that find their way to it."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from sync_kit._io.address import Address, first_answer
from sync_kit._io.flow import Batch, Eval, Pop, Sleep
from sync_kit._io.translate import LOST, MOVED, POINTED, SPLIT, outcome, unserved
from sync_kit.errors import SyncKitError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

Node = tuple[str, int]
"""Host and port."""

REDIRECTIONS = 16
"""How often a call follows where nodes point, or tries again because its keys are on two of them."""
SPLIT_PAUSE = 0.05
ASK_PAUSE = 0.5
"""Seconds between two questions for the slots, at least: an outage must not become a storm."""


class Cluster:
    """The settings of a cluster and the owners of its slots; shared by the drivers of all loops and threads.

    The owners are asked for on first use, and again in the background whenever there is reason to doubt them.

    Args:
        kind, options: of a connection to any node, see `Address`.
        seeds: where to ask first.
        remap: from the address that a node announces to the one where it is reached (redis-py's `address_remap`).
    """

    def __init__(
        self, kind: str, options: dict[str, Any], seeds: Sequence[Node], remap: Callable[[Node], Node] | None = None
    ) -> None:
        self.label = ",".join(f"{host}:{port}" for host, port in seeds)
        self.nodes: frozenset[Node] = frozenset()
        self.failure: Exception | None = None
        self._kind, self._options, self._seeds = kind, options, list(seeds)
        self._remap = remap or (lambda node: node)
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._asked = float("-inf")
        self._asking = threading.Lock()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Cluster {self.label}>"

    def at(self, node: Node) -> Address:
        """The address of one node."""
        host, port = node
        return Address(self._kind, {**self._options, "host": host, "port": port}, f"{host}:{port}/0")

    def owner(self, slot: int) -> Node | None:
        """The node that serves `slot`, as far as known."""
        return self._owners[slot]

    def moved(self, slot: int, node: Node) -> None:
        """A node says that `node` serves `slot` now. More may have moved."""
        self._owners[slot] = node
        self.doubt()

    def pointed(self, error: Any, asked: Node) -> Node:
        """Where `asked` points; an empty host is its own."""
        return self._remap((error.host or asked[0], error.port))

    def doubt(self) -> None:
        """Ask for the owners soon, on a thread, unless that was done a moment ago."""
        if self._due() and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self.learn, name="sync-kit-cluster", daemon=True)
            self._thread.start()

    def learn(self) -> None:
        """Ask the nodes who owns which slot. Blocks for as long as connecting may take; errors go to `failure`."""
        with self._asking:
            if not self._due():
                return
            known = [*random.sample(sorted(self.nodes), len(self.nodes)), *self._seeds]
            places = [self.at(node) for node in dict.fromkeys(known)]
            limit = places[0].connect_timeout
            try:
                _, self._owners = first_answer(places, limit, ("CLUSTER", "SLOTS"), self._read)
                self.nodes, self.failure = frozenset(node for node in self._owners if node), None
            except LOST as error:
                self.failure = error
            self._asked = time.monotonic()

    def leave(self) -> None:
        """Nothing to do: see `Address`."""

    def after_fork(self) -> None:
        """In the child: another thread of the parent may have been asking."""
        self._asking, self._thread = threading.Lock(), None

    def _due(self) -> bool:
        return time.monotonic() - self._asked > ASK_PAUSE

    def _read(self, asked: Address, reply: Any) -> list[Node | None] | None:
        """The owners in a reply to CLUSTER SLOTS; None when it names none, as of a node that was reset."""
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, primary, *_ in reply:
            host, port = (primary[0] or b"").decode(), int(primary[1])
            if host != "?":  # so says a node that does not know the other's host name
                owners[first : last + 1] = [self._remap((host or asked.host, port))] * (last + 1 - first)
        return owners if reply else None


class Visit:
    """An effect of the flows below: perform `effect` on `node`."""

    __slots__ = ("effect", "node")

    def __init__(self, node: Node, effect: Eval | Pop | Batch) -> None:
        self.node = node
        self.effect = effect


class Ask:
    """A visit to a node to which the slot is on its way."""

    __slots__ = ("effect", "node")

    def __init__(self, node: Node, effect: Eval | Pop) -> None:
        self.node = node
        self.effect = effect


class Visits:
    """Several visits at once; answers with a list."""

    __slots__ = ("each",)

    def __init__(self, each: Sequence[Visit]) -> None:
        self.each = each


class Learn:
    """`Cluster.learn`, without blocking the loop."""


def route(cluster: Cluster, effect: Eval | Pop) -> Generator[Any, Any, Any]:
    """The flow of one effect: to the node that serves its slot, and on to where that node points."""
    slot = _slot(effect)
    node = cluster.owner(slot) or (yield from _look_up(cluster, effect, slot))
    step: Visit | Ask = Visit(node, effect)
    for _ in range(REDIRECTIONS):
        try:
            return (yield step)
        except SyncKitError as failed:
            error = failed
        if isinstance(error.__cause__, SPLIT):
            yield Sleep(SPLIT_PAUSE)
        step = _next(cluster, effect, slot, step.node, error)
    raise unserved(cluster.label, effect, f"the nodes of the cluster do not agree who serves slot {slot}")


def _next(cluster: Cluster, effect: Eval | Pop, slot: int, asked: Node, error: SyncKitError) -> Visit | Ask:
    """Where to go after `error`; raises it when it does not point anywhere."""
    cause = error.__cause__
    if isinstance(cause, MOVED):
        there = cluster.pointed(cause, asked)
        cluster.moved(slot, there)
        return Visit(there, effect)
    if isinstance(cause, POINTED):
        return Ask(cluster.pointed(cause, asked), effect)
    if isinstance(cause, SPLIT):
        return Visit(cluster.owner(slot) or asked, effect)
    if isinstance(error, Unavailable):
        cluster.doubt()
    raise error


def _look_up(cluster: Cluster, effect: Eval | Pop, slot: int) -> Generator[Any, Any, Node]:
    yield Learn()
    owner = cluster.owner(slot)
    if owner is None and cluster.failure is not None:
        raise outcome(cluster.label, effect, cluster.failure)
    if owner is None:
        raise unserved(cluster.label, effect, f"no node of the cluster serves slot {slot}")
    return owner


def route_batch(cluster: Cluster, calls: Sequence[Eval]) -> Generator[Any, Any, list[Any]]:
    """The flow of a batch: a batch for each node; what a node does not serve goes its own way afterwards."""
    if any(cluster.owner(_slot(call)) is None for call in calls):
        yield Learn()
    places: dict[Node | None, list[int]] = {}
    for index, call in enumerate(calls):
        places.setdefault(cluster.owner(_slot(call)), []).append(index)
    alone = places.pop(None, [])
    visits = Visits([Visit(node, Batch([calls[each] for each in where])) for node, where in places.items() if node])
    answers: list[Any] = [None] * len(calls)
    for where, answered in zip(places.values(), (yield visits), strict=True):
        for index, answer in zip(where, answered, strict=True):
            answers[index] = answer
    for index in sorted([*alone, *_astray(cluster, answers)]):
        try:
            answers[index] = yield from route(cluster, calls[index])
        except SyncKitError as error:
            answers[index] = error
    return answers


def _astray(cluster: Cluster, answers: Sequence[Any]) -> Iterator[int]:
    for index, answer in enumerate(answers):
        if isinstance(answer, SyncKitError) and isinstance(answer.__cause__, (POINTED, SPLIT)):
            yield index
        elif isinstance(answer, Unavailable):
            cluster.doubt()


def _slot(effect: Eval | Pop) -> int:
    return key_slot(effect.keys[0].encode())
