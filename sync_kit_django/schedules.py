"""The schedules of a queue: plain verbs in sync code, with an `a` before them in async code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_kit_django.receipt import Receipt

if TYPE_CHECKING:
    import builtins

    import sync_kit
    from sync_kit import Schedule


class Schedules:
    """The schedules of a queue of jobs: to look at and to act on. Made by `jobs.schedules`.

    Every verb raises `Unavailable` when Redis cannot be reached; whether a change was carried out is not known then.
    """

    def __init__(self, jobs: sync_kit.Jobs) -> None:
        self._kit = jobs.kit
        self._core = jobs.schedules

    def list(self) -> list[Schedule]:
        """All schedules, by name."""
        return self._core.run_blocking(self._core.list_flow(), "alist")

    async def alist(self) -> builtins.list[Schedule]:
        """See `list`."""
        return await self._core.list()

    def get(self, name: str) -> Schedule | None:
        """What is known of a schedule; None if there is none of this name."""
        return self._core.run_blocking(self._core.get_flow(name), "aget")

    async def aget(self, name: str) -> Schedule | None:
        """See `get`."""
        return await self._core.get(name)

    def pause(self, name: str) -> bool:
        """Send nothing until `resume`, whatever is deployed meanwhile; jobs that were sent stay.

        Returns:
            False if there is no such schedule, or it is paused already.
        """
        return self._core.run_blocking(self._core.pause_flow(name), "apause")

    async def apause(self, name: str) -> bool:
        """See `pause`."""
        return await self._core.pause(name)

    def resume(self, name: str) -> bool:
        """Undo `pause`: it goes on with the next slot from now. What came meanwhile was not missed, but paused.

        Returns:
            False if there is no such schedule, or it is not paused.
        """
        return self._core.run_blocking(self._core.resume_flow(name), "aresume")

    async def aresume(self, name: str) -> bool:
        """See `resume`."""
        return await self._core.resume(name)

    def delete(self, name: str) -> bool:
        """Forget a schedule; jobs that it sent stay. One that a decorator declares comes back: pause it instead.

        Returns:
            False if there is no such schedule.
        """
        return self._core.run_blocking(self._core.delete_flow(name), "adelete")

    async def adelete(self, name: str) -> bool:
        """See `delete`."""
        return await self._core.delete(name)

    def run(self, name: str) -> Receipt | None:
        """Send a job of a schedule now, whatever transaction is open. The timetable stays as it is.

        Returns:
            The receipt of the job; None if there is no such schedule.
        """
        sent = self._core.run_blocking(self._core.run_flow(name), "arun")
        return None if sent is None else Receipt(sent, self._kit)

    async def arun(self, name: str) -> Receipt | None:
        """See `run`."""
        sent = await self._core.run(name)
        return None if sent is None else Receipt(sent, self._kit)
