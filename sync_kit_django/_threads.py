"""Where handlers run inline: where the sender's connections are, so that they see the transaction of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from asgiref.sync import async_to_sync, sync_to_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class DjangoThreads:
    """Threads as Django hands them out: what is sensitive to them runs in the sender's own, as in a view."""

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `sync_kit.jobs.outlet.Threads`. It cannot be interrupted, so it is not."""
        made: list[Any] = []
        raised: list[BaseException] = []

        def perform() -> None:
            try:
                made.append(function(*arguments))
            except BaseException as error:  # an exit would end the event loop
                raised.append(error)

        with anyio.CancelScope(shield=True):
            await sync_to_async(perform)()
        if raised:
            raise raised[0]
        return made[0]

    def run(self, work: Callable[[Callable[..., Awaitable[Any]]], Awaitable[Any]]) -> Any:
        """See `sync_kit.jobs.outlet.Threads`."""

        raised: list[BaseException] = []

        async def working() -> Any:
            try:
                return await work(self.call)
            except BaseException as error:  # beyond async_to_sync its traceback would keep a thread alive
                raised.append(error)

        made = async_to_sync(working)()
        if raised:
            raise raised[0]
        return made
