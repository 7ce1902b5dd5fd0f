"""What one call of `send` sends. It is packed first, and then delivered: at once, later, or once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sync_kit.errors import DuplicateJobError
from sync_kit.jobs import outlet
from sync_kit.jobs.options import stored_key
from sync_kit.jobs.receipt import Receipt, make_receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit._io.flow import Flow
    from sync_kit.jobs.schedules.plan import Draft
    from sync_kit.jobs.task import Sender
    from sync_kit.queue.records import Item


class Parcel:
    """Jobs that the schema of their task has accepted, with their ids; or schedules.

    Attributes:
        sender: whose they are; its options say when they run.
        items: the jobs.
        keys: the unique key of each job; None if they have none.
        drafts: schedules instead of jobs; None for jobs.
    """

    __slots__ = ("drafts", "items", "keys", "sender")

    def __init__(
        self,
        sender: Sender[Any, Any],
        items: Sequence[Item],
        keys: Sequence[str] | None = None,
        drafts: Sequence[Draft] | None = None,
    ) -> None:
        self.sender = sender
        self.items = items
        self.keys = keys
        self.drafts = drafts

    def receipts(self) -> list[Receipt]:
        """What the sender is given if no older job has one of the keys."""
        jobs, task = self.sender.jobs, self.sender.name
        if self.drafts is not None:
            return [Receipt(made.plan.name, task, schedule=True) for made in self.drafts]
        return [make_receipt(jobs, item.id, task) for item in self.items]

    def flow(self) -> Flow[list[Receipt]]:
        """Store them; jobs that are stored already are left as they are. Raises `DuplicateJobError`."""
        if self.drafts is not None:
            yield from self.sender.jobs.schedules.timetable.put_flow(self.drafts)
            return self.receipts()
        if self.keys is not None:
            return (yield from self._unique_flow(self.keys))
        when = self.sender.options.when
        yield from self.sender.jobs.accept_flow(self.items, delay=when.delay, at=when.at, priority=when.priority)
        return self.receipts()

    def _unique_flow(self, keys: Sequence[str]) -> Flow[list[Receipt]]:
        sender = self.sender
        when, how = sender.options.when, sender.options.on_duplicate
        stored = [stored_key(sender.name, key) for key in keys]
        terms: Any = {"delay": when.delay, "at": when.at, "priority": when.priority, "replace": how == "replace"}
        owners = yield from sender.jobs.accept_unique_flow(self.items, stored, **terms)
        pairs = zip(self.items, owners, strict=True)
        receipts = [make_receipt(sender.jobs, owner, sender.name, duplicate=owner != item.id) for item, owner in pairs]
        for receipt, key in zip(receipts, keys, strict=True):
            if receipt.duplicate and how == "raise":
                raise DuplicateJobError(sender.name, key, receipt.id, receipts)
        return receipts


async def deliver(parcel: Parcel) -> list[Receipt]:
    """Hand a parcel over. Repeating it is safe where the answer is lost: its ids stay the same."""
    if outlet.current is not None:
        return await outlet.current.send(parcel)
    return await parcel.sender.jobs.kit.driver.run(parcel.flow())


def deliver_blocking(parcel: Parcel, verb: str) -> list[Receipt]:
    """The same in code without an event loop; `verb` is what to await where that is refused."""
    kit = parcel.sender.jobs.kit
    if outlet.current is not None:
        kit.refuse_in_loop(verb)
        return outlet.current.send_blocking(parcel)
    return kit.run_blocking(parcel.flow(), verb)
