"""Which driver performs effects where, and the drivers of a cluster: one of the others for each node."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sync_kit._io.aio import AsyncDriver, AsyncioDriver, BaseDriver, TrioDriver
from sync_kit._io.blocking import BlockingDriver, ServerDriver
from sync_kit._io.cluster import Ask, Cluster, Learn, Node, Visit, Visits, route, route_batch
from sync_kit._io.loops import Loop
from sync_kit.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from sync_kit._io.address import Address
    from sync_kit._io.flow import Batch, Eval, Pop


def blocking_driver(place: Address | Cluster) -> BlockingDriver:
    """The driver for threads."""
    return BlockingClusterDriver(place) if isinstance(place, Cluster) else ServerDriver(place)


def async_driver(place: Address | Cluster, token: Any, blocking: BlockingDriver) -> AsyncDriver:
    """The driver for the event loop of `token`."""
    if not Loop(token).is_asyncio:
        return TrioDriver(blocking)
    return AsyncioClusterDriver(place) if isinstance(place, Cluster) else AsyncioDriver(place)


class AsyncioClusterDriver(BaseDriver):
    """For a cluster, on asyncio. Routing is a flow too (see `cluster`): here are its effects."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._drivers: dict[Node, AsyncioDriver] = {}
        self._learning: asyncio.Future[None] | None = None
        self._closed = False

    async def aclose(self) -> None:
        """See `AsyncDriver`."""
        self._closed = True
        drivers, self._drivers = self._drivers, {}
        for driver in drivers.values():
            await driver.aclose()

    def perform(self, effect: Any) -> Awaitable[Any]:
        """See `BaseDriver`; knows the effects of routing too."""
        if isinstance(effect, Visit):
            return self._driver(effect.node).perform(effect.effect)
        if isinstance(effect, Ask):
            return self._driver(effect.node).asking(effect.effect)
        if isinstance(effect, Visits):
            return asyncio.gather(*map(self.perform, effect.each))
        if isinstance(effect, Learn):
            return self._learn()
        return super().perform(effect)

    def _eval(self, effect: Eval) -> Awaitable[Any]:
        return self.run(route(self._cluster, effect))

    def _pop(self, effect: Pop) -> Awaitable[bytes | None]:
        return self.run(route(self._cluster, effect))

    def _batch(self, effect: Batch) -> Awaitable[list[Any]]:
        return self.run(route_batch(self._cluster, effect.calls))

    def _driver(self, node: Node) -> AsyncioDriver:
        if self._closed:  # while the call waited for something else
            raise Unavailable("the kit was closed during the call, which was not carried out")
        driver = self._drivers.get(node)
        if driver is None:
            for gone in self._drivers.keys() - self._cluster.nodes:
                self._drivers.pop(gone).retire()
            driver = self._drivers[node] = AsyncioDriver(self._cluster.at(node))
        return driver

    async def _learn(self) -> None:
        """One thread for all callers; who is cancelled leaves it to the others."""
        if self._learning is None or self._learning.done():
            self._learning = asyncio.get_running_loop().run_in_executor(None, self._cluster.learn)
        learning = self._learning
        await asyncio.wait([learning])
        learning.result()


class BlockingClusterDriver(BlockingDriver):
    """For a cluster, in threads."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._drivers: dict[Node, ServerDriver] = {}

    def close(self) -> None:
        """See `BlockingDriver`."""
        for driver in list(self._drivers.values()):
            driver.close()

    def perform(self, effect: Any) -> Any:
        """See `BlockingDriver`; knows the effects of routing too."""
        if isinstance(effect, Visit):
            return self._driver(effect.node).perform(effect.effect)
        if isinstance(effect, Ask):
            return self._driver(effect.node).asking(effect.effect)
        if isinstance(effect, Visits):
            return [self.perform(each) for each in effect.each]
        if isinstance(effect, Learn):
            return self._cluster.learn()
        return super().perform(effect)

    def _eval(self, effect: Eval) -> Any:
        return self.run(route(self._cluster, effect))

    def _pop(self, effect: Pop) -> bytes | None:
        element: bytes | None = self.run(route(self._cluster, effect))
        return element

    def _batch(self, calls: Sequence[Eval]) -> list[Any]:
        return self.run(route_batch(self._cluster, calls))

    def _driver(self, node: Node) -> ServerDriver:
        driver = self._drivers.get(node)
        if driver is None:
            for gone in self._drivers.keys() - self._cluster.nodes:
                if idle := self._drivers.pop(gone, None):  # unless another thread was faster
                    idle.close()
            driver = self._drivers.setdefault(node, ServerDriver(self._cluster.at(node)))
        return driver
