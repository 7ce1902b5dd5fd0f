"""One queue in Redis as a Python object: what `Jobs` and `Queue` have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sync_kit.kit import SyncKit, default_kit
from sync_kit.options import label
from sync_kit.queue.desk import Desk
from sync_kit.queue.engine import Engine, Layout
from sync_kit.queue.events import Observers, Sent
from sync_kit.queue.info import WorkerInfo, workers_flow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit._io.flow import Flow
    from sync_kit.queue.events import Observer
    from sync_kit.queue.records import Item, Keep

T = TypeVar("T")


class QueueBase:
    """One queue in Redis, bound to the namespace of its kit."""

    space: ClassVar[str]
    """Separates queues of different facades that have the same name."""

    def __init__(self, name: str, keep: Keep, kit: SyncKit | None) -> None:
        self.name = label("the name of a queue", name)
        self.keep = keep
        self.observers = Observers()
        self._kit = kit
        self._bound: tuple[str, Engine, Desk] | None = None

    @property
    def kit(self) -> SyncKit:
        """The kit this queue lives on."""
        return self._kit or default_kit()

    @property
    def engine(self) -> Engine:
        """For senders and workers; for the rooms of sync_kit itself."""
        return self._bind()[1]

    @property
    def desk(self) -> Desk:
        """For those who look and act; for the rooms of sync_kit itself."""
        return self._bind()[2]

    async def pause(self) -> bool:
        """Let no worker take anything until `resume`; what runs goes on, and sending works as ever.

        It holds on all hosts and after restarts, until somebody resumes.

        Returns:
            Whether it was not paused before.

        Raises:
            Unavailable: Redis cannot be reached; whether it was carried out is not known.
        """
        return await self.kit.driver.run(self.desk.pause_flow(True))

    async def resume(self) -> bool:
        """Undo `pause`, and wake a worker; returns whether it was paused. Raises what `pause` does."""
        return await self.kit.driver.run(self.desk.pause_flow(False))

    async def workers(self) -> list[WorkerInfo]:
        """The workers that said in the last 45 s that they work on this queue."""
        return await self.kit.driver.run(workers_flow(self.desk))

    def title(self, kind: str) -> str:
        """The name of the task behind what the engine calls a job."""
        return kind

    def observe(self, observer: Observer) -> None:
        """Call `observer` with every event of this queue that this process causes or notices.

        The events are `Sent`, `Started`, `Finished`, `Retried`, `Failed`, `Lost` and `Parked` of `sync_kit.queue`.
        Observers run where it happens, on the event loop or in the thread that sends, so they must be quick; what
        they raise is logged and changes nothing.
        """
        self.observers.add(observer)

    def accept_flow(self, items: Sequence[Item], **when: Any) -> Flow[int]:
        """Send, and tell the observers."""
        new = yield from self.engine.send_flow(items, **when)
        if self.observers:
            for item in items:
                self.observers.tell(Sent(self.name, item.id, self.title(item.kind)))
        return new

    def accept_unique_flow(self, items: Sequence[Item], keys: Sequence[str], **terms: Any) -> Flow[list[str]]:
        """Send jobs with unique keys, and tell the observers; returns for each the id of the job that has its key."""
        owners = yield from self.engine.send_unique_flow(items, keys, keep=self.keep.completed_count, **terms)
        for item, owner in zip(items, owners, strict=True):
            if item.id == owner:
                self.observers.tell(Sent(self.name, item.id, self.title(item.kind)))
        return owners

    def run_blocking(self, flow: Flow[T], verb: str) -> T:
        """Perform a flow in this thread; `verb` is what to await where that is refused."""
        return self.kit.run_blocking(flow, f"{type(self).__name__.lower()}.{verb}")

    def _bind(self) -> tuple[str, Engine, Desk]:
        namespace = self.kit.namespace
        if self._bound is None or self._bound[0] != namespace:
            layout = Layout(namespace, self.space, self.name)
            self._bound = (namespace, Engine(layout), Desk(layout))
        return self._bound


class BlockingBase:
    """The part of the blocking twins that `Jobs` and `Queue` have in common: the same verbs, without await."""

    def __init__(self, source: QueueBase) -> None:
        self._source = source

    def pause(self) -> bool:
        """See `pause` of the async face."""
        return self._source.run_blocking(self._source.desk.pause_flow(True), "pause()")

    def resume(self) -> bool:
        """See `resume` of the async face."""
        return self._source.run_blocking(self._source.desk.pause_flow(False), "resume()")

    def workers(self) -> list[WorkerInfo]:
        """See `workers` of the async face."""
        return self._source.run_blocking(workers_flow(self._source.desk), "workers()")
