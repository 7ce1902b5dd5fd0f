"""The facade of schedules: `jobs.schedules`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sync_kit.errors import ConfigurationError
from sync_kit.jobs import outlet
from sync_kit.jobs.receipt import Receipt, make_receipt
from sync_kit.jobs.schedules.schedule import Schedule, seen
from sync_kit.jobs.schedules.timetable import Timetable
from sync_kit.jobs.versions import read_kind
from sync_kit.options import name_sent
from sync_kit.queue.ids import make_id
from sync_kit.queue.records import Item

if TYPE_CHECKING:
    import builtins

    from sync_kit._io.flow import Flow
    from sync_kit.jobs.jobs import Jobs

T = TypeVar("T")


class Schedules:
    """The schedules of a queue of jobs: to look at and to act on. Made by `jobs.schedules`.

    Every verb raises `Unavailable` when Redis cannot be reached; whether a change was carried out is not known then.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    @property
    def blocking(self) -> BlockingSchedules:
        """The same for code without an event loop."""
        return BlockingSchedules(self)

    async def list(self) -> list[Schedule]:
        """All schedules, by name."""
        return await self._run(self.list_flow())

    async def get(self, name: str) -> Schedule | None:
        """What is known of a schedule; None if there is none of this name."""
        return await self._run(self.get_flow(name))

    async def pause(self, name: str) -> bool:
        """Send nothing until `resume`, whatever is deployed meanwhile; jobs that were sent stay.

        Returns:
            False if there is no such schedule, or it is paused already.
        """
        return await self._run(self.pause_flow(name))

    async def resume(self, name: str) -> bool:
        """Undo `pause`: it goes on with the next slot from now. What came meanwhile was not missed, but paused.

        Returns:
            False if there is no such schedule, or it is not paused.
        """
        return await self._run(self.resume_flow(name))

    async def delete(self, name: str) -> bool:
        """Forget a schedule; jobs that it sent stay. One that a decorator declares comes back: pause it instead.

        Returns:
            False if there is no such schedule.
        """
        return await self._run(self.delete_flow(name))

    async def run(self, name: str) -> Receipt | None:
        """Send a job of a schedule now. It is a run beside the others: the timetable stays as it is.

        Returns:
            The receipt of the job; None if there is no such schedule.
        """
        return await self._run(self.run_flow(name))

    def list_flow(self) -> Flow[builtins.list[Schedule]]:
        """The flow of `list`."""
        listed = yield from self.timetable.list_flow()
        _, known = yield from self.timetable.read_flow(sorted(listed))
        found = (seen(stored, self._jobs.tasks) for stored in known.values())
        return [schedule for schedule in found if schedule is not None]

    def get_flow(self, name: str) -> Flow[Schedule | None]:
        """The flow of `get`."""
        _, known = yield from self.timetable.read_flow([_name(name)])
        return seen(known[name], self._jobs.tasks) if name in known else None

    def pause_flow(self, name: str) -> Flow[bool]:
        """The flow of `pause`."""
        return self.timetable.pause_flow(_name(name))

    def resume_flow(self, name: str) -> Flow[bool]:
        """The flow of `resume`."""
        return self.timetable.resume_flow(_name(name))

    def delete_flow(self, name: str) -> Flow[bool]:
        """The flow of `delete`."""
        return (yield from self.timetable.delete_flow([(_name(name), "")])) == 1

    def run_flow(self, name: str) -> Flow[Receipt | None]:
        """The flow of `run`."""
        _, known = yield from self.timetable.read_flow([_name(name)])
        stored = known.get(name)
        if stored is None or stored.plan is None:
            return None
        plan = stored.plan
        item = Item(make_id(), plan.kind, plan.head(None) + stored.payload)
        yield from self._jobs.accept_flow([item], priority=plan.priority)
        return make_receipt(self._jobs, item.id, read_kind(plan.kind)[0])

    @property
    def timetable(self) -> Timetable:
        """The flows under it; for the rooms of sync_kit itself."""
        return Timetable(self._jobs.engine.layout, self._jobs.desk)

    async def _run(self, flow: Flow[T]) -> T:
        _refuse_in_test()
        return await self._jobs.kit.driver.run(flow)

    def run_blocking(self, flow: Flow[T], verb: str) -> T:
        """Perform a flow in this thread; `verb` is what to await where that is refused."""
        _refuse_in_test()
        return self._jobs.run_blocking(flow, f"schedules.{verb}(...)")


class BlockingSchedules:
    """The blocking twin of `Schedules`: the same verbs, without await."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    def list(self) -> list[Schedule]:
        """See `Schedules.list`."""
        return self._schedules.run_blocking(self._schedules.list_flow(), "list")

    def get(self, name: str) -> Schedule | None:
        """See `Schedules.get`."""
        return self._schedules.run_blocking(self._schedules.get_flow(name), "get")

    def pause(self, name: str) -> bool:
        """See `Schedules.pause`."""
        return self._schedules.run_blocking(self._schedules.pause_flow(name), "pause")

    def resume(self, name: str) -> bool:
        """See `Schedules.resume`."""
        return self._schedules.run_blocking(self._schedules.resume_flow(name), "resume")

    def delete(self, name: str) -> bool:
        """See `Schedules.delete`."""
        return self._schedules.run_blocking(self._schedules.delete_flow(name), "delete")

    def run(self, name: str) -> Receipt | None:
        """See `Schedules.run`."""
        return self._schedules.run_blocking(self._schedules.run_flow(name), "run")


def _refuse_in_test() -> None:
    if outlet.current is not None:
        raise ConfigurationError(
            "jobs.schedules is in Redis, which is not asked while a test records jobs or runs them inline"
        )


def _name(name: object) -> str:
    return name_sent("the name of a schedule", name)
