"""Ways in which a test takes what is sent, for the whole process; the one that was entered last holds."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from sync_kit.errors import ConfigurationError, DuplicateJobError
from sync_kit.jobs import outlet
from sync_kit.testing.receipts import KeptReceipt
from sync_kit.testing.sent import Sent, kept, kept_schedule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sync_kit.jobs import Receipt, Sender
    from sync_kit.jobs.parcel import Parcel
    from sync_kit.queue.records import Item, Outcome
    from sync_kit.testing.sent import SentJob, Slot

_entering = threading.Lock()
_entered: list[Mode] = []


class Mode(ABC):
    """Takes what is sent while its `with` block lasts, from all threads and event loops of the process."""

    def __init__(self) -> None:
        self.sent = Sent()
        self._accepting = threading.Lock()

    def __enter__(self) -> Sent:
        with _entering:
            _entered.append(self)
            outlet.current = self
        return self.sent

    def __exit__(self, *error: object) -> None:
        with _entering:
            _entered.remove(self)
            outlet.current = _entered[-1] if _entered else None

    @abstractmethod
    async def send(self, parcel: Parcel) -> list[Receipt]:
        """See `Outlet.send`."""

    @abstractmethod
    def send_blocking(self, parcel: Parcel) -> list[Receipt]:
        """See `Outlet.send_blocking`."""

    @abstractmethod
    def owner(self, slot: Slot) -> str | None:
        """The job that holds a unique key at the moment."""

    def hold(self, job: SentJob, owner: str | None) -> None:  # noqa: B027
        """A job is new; it takes its unique key from `owner`, if there is one."""

    def accept(self, parcel: Parcel) -> Accepted:
        """Write down what is sent, if all of it can be. Raises `InvalidPayloadError`."""
        accepted, sender = Accepted(parcel.sender), parcel.sender
        for made in parcel.drafts or ():  # only written down: their jobs come when they are due, which is not now
            self.sent.append(kept_schedule(sender, made))
            accepted.add_schedule(made.plan.name)
        keys: Sequence[str | None] = parcel.keys or [None] * len(parcel.items)
        read = [(item, kept(sender, item, key)) for item, key in zip(parcel.items, keys, strict=True)]
        for item, job in read:
            accepted.add(item, self._owner_now(job, sender.options.on_duplicate), job.options["key"])
        return accepted

    def _owner_now(self, job: SentJob, how: str) -> str:
        """Write a job down, unless another one has its key; returns the id of the one that has it now."""
        with self._accepting:
            owner = None if job.slot is None else self.owner(job.slot)
            if owner is not None and how != "replace":
                return owner
            self.hold(job, owner)
            self.sent.append(job)
            return job.id


class Accepted:
    """What became of the payloads of one send: new jobs, and ids of older ones that have the same unique key."""

    def __init__(self, sender: Sender[Any, Any]) -> None:
        self.items: list[Item] = []
        self._sender = sender
        self._owners: list[tuple[str, bool]] = []
        self._refused: tuple[str, str] | None = None

    def add(self, item: Item, owner: str, key: str) -> None:
        """One payload is for the job `owner`, which may be an older one."""
        if owner == item.id:
            self.items.append(item)
        elif self._sender.options.on_duplicate == "raise":
            self._refused = self._refused or (key, owner)
        self._owners.append((owner, owner != item.id))

    def add_schedule(self, name: str) -> None:
        """One payload is for the jobs of a schedule."""
        self._owners.append((name, False))

    def receipts(self, endings: Mapping[str, Outcome] | None = None) -> list[Receipt]:
        """What the sender is given; `endings` are the outcomes of jobs that ran. Raises `DuplicateJobError`."""
        name, is_schedule, ends = self._sender.name, self._sender.options.timing is not None, endings or {}
        made: list[Receipt] = [
            KeptReceipt(job, name, duplicate, is_schedule, ends.get(job)) for job, duplicate in self._owners
        ]
        if self._refused is not None:
            raise DuplicateJobError(name, *self._refused, made)
        return made


class Recording(Mode):
    """See `recorded`."""

    async def send(self, parcel: Parcel) -> list[Receipt]:
        """See `Outlet.send`."""
        await anyio.lowlevel.checkpoint()
        return self.send_blocking(parcel)

    def send_blocking(self, parcel: Parcel) -> list[Receipt]:
        """See `Outlet.send_blocking`."""
        return self.accept(parcel).receipts()

    def owner(self, slot: Slot) -> str | None:
        """See `Mode.owner`: whatever was sent waits."""
        return next((job.id for job in self.sent if job.slot == slot), None)

    def hold(self, job: SentJob, owner: str | None) -> None:  # noqa: ARG002
        """See `Mode.hold`: a job that waits and is replaced is gone."""
        self.sent[:] = [other for other in self.sent if other.id != owner]


def recorded() -> Recording:
    """Keep what is sent: `with recorded() as sent: ...`. Nothing runs, and Redis is not asked.

    Payloads are checked as ever, and must survive the trip as JSON. It holds for the whole process, threads
    included; in nested blocks the innermost one keeps what is sent.

    Returns:
        A context manager that gives the list of what is sent.
    """
    return Recording()


def innermost(verb: str) -> Sent:
    """What the block that was entered last has kept. Raises `ConfigurationError` outside of all."""
    with _entering:
        if _entered:
            return _entered[-1].sent
    raise ConfigurationError(
        f"{verb} looks at what was kept, and nothing is: call it inside `with recorded():` or `with inline():`, "
        "or let the test take the fixture recorded_jobs or inline_jobs"
    )
