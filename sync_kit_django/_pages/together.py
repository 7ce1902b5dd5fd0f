"""Flows side by side, so that a page costs few round trips however many queues there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sync_kit._io.flow import Batch, Eval
from sync_kit.errors import SyncKitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit import Jobs
    from sync_kit._io.flow import Flow

T = TypeVar("T")


def together(flows: Sequence[Flow[T]]) -> Flow[list[T]]:
    """Perform flows that run scripts and nothing else: what they ask in one turn goes out in one write."""
    done: dict[int, T] = {}
    replies: dict[int, Any] = dict.fromkeys(range(len(flows)))
    while True:
        asked: dict[int, Any] = {}
        for index, reply in replies.items():
            try:
                asked[index] = _step(flows[index], reply)
            except StopIteration as stop:
                done[index] = stop.value
        if not asked:
            return [done[index] for index in range(len(flows))]
        answers = iter((yield Batch([call for effect in asked.values() for call in _calls(effect)])))
        for index, effect in asked.items():
            told = [next(answers) for _ in _calls(effect)]
            asked[index] = told if isinstance(effect, Batch) else told[0]
        replies = asked


def ask(asked: Sequence[tuple[Jobs, Flow[T]]]) -> list[T]:
    """Perform flows, each of a queue, in this thread; those of one kit together. Raises `Unavailable`."""
    kits: dict[int, list[int]] = {}
    for index, (jobs, _) in enumerate(asked):
        kits.setdefault(id(jobs.kit), []).append(index)
    told: dict[int, T] = {}
    for indexes in kits.values():
        jobs, _ = asked[indexes[0]]
        found = jobs.run_blocking(together([asked[index][1] for index in indexes]), "get(...)")
        told |= dict(zip(indexes, found, strict=True))
    return [told[index] for index in range(len(asked))]


def ask_one(jobs: Jobs, flow: Flow[T]) -> T:
    """Perform a flow of a queue in this thread. Raises `Unavailable`."""
    return jobs.run_blocking(flow, "get(...)")


def _step(flow: Flow[T], reply: Any) -> Any:
    return flow.throw(reply) if isinstance(reply, SyncKitError) else flow.send(reply)


def _calls(effect: Any) -> Sequence[Eval]:
    if isinstance(effect, Batch):
        return effect.calls
    assert isinstance(effect, Eval)
    return (effect,)
