"""Calls an engine by hand, and moves its time by rewriting the stored scores."""

from __future__ import annotations

from typing import Any

from sync_kit.queue.desk import Desk
from sync_kit.queue.engine import Engine, Lane, Layout
from sync_kit.queue.records import Item, Keep, Outcome, Turn

KEEP = Keep()


class Hands:
    """A worker, a sender and somebody who looks, all without a loop."""

    def __init__(self, kit: Any, name: str = "test") -> None:
        self.run = kit.thread_driver.run
        self.layout = Layout(kit.namespace, "q", name)
        self.engine, self.desk = Engine(self.layout), Desk(self.layout)
        self._head = f"{kit.namespace}:q:{{{name}}}:"
        self._calls = 0

    def key(self, name: str) -> str:
        return self._head + name

    def send(self, *ids: str, kind: str = "task", **when: Any) -> int:
        items = [Item(name, kind, name.encode()) for name in ids]
        new: int = self.run(self.engine.send_flow(items, **when))
        return new

    def exchange(
        self,
        *outcomes: Outcome,
        want: int = 0,
        call: int | None = None,
        keep: Keep = KEEP,
        worker: str = "w",
        **how: Any,
    ) -> Turn:
        self._calls = max(self._calls + 1, call or 0)
        lane = Lane(self.layout, worker, 0, keep)
        flow = self.engine.exchange_flow(lane, call or self._calls, outcomes, want, **how)
        turn: Turn = self.run(flow)
        return turn

    def take(self, want: int = 1, **how: Any) -> list[str]:
        """The ids of what was claimed."""
        return [claim.id for claim in self.exchange(want=want, **how).claims]

    def entry(self, name: str) -> Any:
        """What is known of a job."""
        (found,) = self.run(self.desk.look_flow([name])) or [None]
        return found

    def status(self, name: str) -> str | None:
        found = self.entry(name)
        return found.status if found else None

    def renew(self, *runs: tuple[str, int]) -> dict[tuple[str, int], str]:
        told: dict[tuple[str, int], str] = self.run(self.engine.renew_flow(runs, 1.0))
        return told


def expire(hands: Hands, client: Any, name: str) -> None:
    """Let the lease of a job end."""
    client.zadd(hands.key("leases"), {name: 1}, xx=True)
