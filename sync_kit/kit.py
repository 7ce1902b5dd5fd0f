"""SyncKit: one server, one namespace, and the clients that are bound to each event loop and process."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from sync_kit._io import settings
from sync_kit._io.cluster import Cluster
from sync_kit._io.drivers import async_driver, blocking_driver
from sync_kit._io.inquiry import Inquiry, inquiries
from sync_kit._io.keys import encode_part
from sync_kit._io.loops import Loop, current_token
from sync_kit.errors import ConfigurationError
from sync_kit.options import refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from typing_extensions import Never, Self

    from sync_kit._io.aio import AsyncDriver
    from sync_kit._io.blocking import BlockingDriver
    from sync_kit._io.flow import Flow, T

__all__ = ["SyncKit", "configure", "default_kit"]

CLOSING = 5.0
"""Seconds that closing the clients of one event loop may take in tests."""


class Home:
    """What belongs to one event loop: the loop as threads see it, the driver, and what rooms share by name.

    `kept` holds it weakly: what nobody uses any more is forgotten.
    """

    __slots__ = ("__weakref__", "_tasks", "closed", "driver", "kept", "loop", "token")

    def __init__(self, token: Any, driver: AsyncDriver) -> None:
        self.token = token
        self.loop = Loop(token)
        self.driver = driver
        self.closed = False
        self.kept: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else until the kit is closed on this loop, which must be asyncio's."""
        # A fresh context: the task must not keep the first caller's context variables alive.
        task = contextvars.Context().run(asyncio.ensure_future, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """End the tasks and close the connections of this loop."""
        self.closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.driver.aclose()


class SyncKit:
    """A connection to one Redis or Valkey, shared by every object that is made with `kit=`.

    Nothing is connected when it is made: clients are bound on first use, one for each event loop and
    one for the blocking calls of a process. They close themselves when their event loop ends;
    `aclose` and `close` do it earlier. A kit may be used again after closing.

    Args:
        url: `redis://`, `rediss://` (TLS), `unix://`, `valkey://`, `valkeys://` (TLS) or `embedded://`
            (a server of one's own, see `sync_kit/_io/embedded/README.md`). With `+cluster`, as in
            `redis+cluster://host:port,host:port`, a Redis Cluster; with `+sentinel`, as in
            `redis+sentinel://host:port,host:port/mymaster/0`, the primary that the sentinels know
            (see `sync_kit/_io/README.md`). Without it: `REDIS_URL`, then `VALKEY_URL`, then
            `redis://localhost:6379/0`.
        namespace: the first part of every key; separates applications that share a server.
        client: a `redis.Redis` or `redis.asyncio.Redis`, also one made by `Sentinel.master_for`, or a
            `RedisCluster`, whose connection settings are taken over instead of a url. The client itself
            is neither used nor changed.

    Raises:
        ConfigurationError: the url, the client or the namespace cannot be used.
    """

    def __init__(
        self, url: str | None = None, *, namespace: str = "sync-kit", client: Any = None, **unknown: Never
    ) -> None:
        refuse_unknown("SyncKit", unknown, ("url", "namespace", "client"))
        if url is not None and client is not None:
            raise ConfigurationError("SyncKit takes a url or a client, not both")
        encode_part(namespace)
        self.namespace = namespace
        self._address = self._read(url, client)
        self._blocking = blocking_driver(self._address)
        self._homes: dict[Any, Home] = {}
        self._last: Home | None = None
        self._lock = threading.Lock()
        self.kept: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self.closings = 0
        _kits.add(self)

    def __repr__(self) -> str:
        return f"<SyncKit {self._address.label} namespace={self.namespace!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the clients of the running event loop and the idle ones of blocking code."""
        home = self._homes.pop(current_token(), None)
        self._last = None
        if home is not None:
            await home.aclose()
        self.close()

    def close(self) -> None:
        """Close the idle clients of blocking code, and leave the embedded server when no event loop uses it."""
        self.closings += 1
        self._blocking.close()
        self._prune()
        if not self._homes:
            self._address.leave()

    def close_all(self) -> None:
        """Close everything, also what belongs to loops of asyncio that are open but not running. For tests.

        Loops that run, in other threads, keep their clients until they end.
        """
        for token, home in list(self._homes.items()):
            if home.loop.is_asyncio and not token.is_closed() and not token.is_running() and current_token() is None:
                self._homes.pop(token, None)
                token.run_until_complete(asyncio.wait_for(home.aclose(), CLOSING))
        self._last = None
        self.close()

    def home(self) -> Home:
        """The part of this kit that belongs to the running event loop. For the rooms of sync_kit itself."""
        token = current_token()
        last = self._last
        if last is not None and last.token is token:
            return last
        return self._bind(token)

    @property
    def driver(self) -> AsyncDriver:
        """The async driver of the running event loop. For the rooms of sync_kit itself."""
        last = self._last
        if last is not None and last.token is current_token():
            return last.driver
        return self.home().driver

    @property
    def is_cluster(self) -> bool:
        """Whether keys live on several nodes, by their tags. For the rooms of sync_kit itself."""
        return isinstance(self._address, Cluster)

    @property
    def label(self) -> str:
        """Where the server is; never holds a secret."""
        return self._address.label

    def inquiries(self) -> list[Inquiry]:
        """For asking the server, or each node that serves slots, about itself. For the rooms of sync_kit itself."""
        return inquiries(self._address)

    @property
    def thread_driver(self) -> BlockingDriver:
        """The blocking driver, for threads of sync_kit itself."""
        return self._blocking

    def run_blocking(self, flow: Flow[T], verb: str) -> T:
        """Perform `flow` in this thread. Refused inside a running event loop: `verb` is what to await there."""
        self.refuse_in_loop(verb)
        return self._blocking.run(flow)

    def refuse_in_loop(self, verb: str) -> None:
        """Raise `ConfigurationError` inside a running event loop: `verb` is what to write there."""
        if current_token() is not None:
            there = verb if verb.startswith("async ") else f"await {verb}"
            raise ConfigurationError(
                f"a blocking call inside a running event loop would stop it: use `{there}` instead"
            )

    def sweep(self) -> int:
        """Remove every key of this namespace, a few hundred at a time; returns how many there were. For tests. Blocks.

        Raises:
            Unavailable: Redis cannot be reached; some may be left.
        """
        from sync_kit._io.sweep import sweep

        return sweep(self._address, f"{encode_part(self.namespace)}:")

    def _bind(self, token: Any) -> Home:
        if token is None:
            raise ConfigurationError("no event loop is running: call this with await, or use the .blocking twin")
        with self._lock:
            self._prune()
            home = self._homes.get(token)
            if home is None:
                home = self._homes[token] = Home(token, async_driver(self._address, token, self._blocking))
        self._last = home
        return home

    def _prune(self) -> None:
        for token in [token for token, home in self._homes.items() if home.loop.ended]:
            self._homes.pop(token, None)

    def _read(self, url: str | None, client: Any) -> settings.Place:
        if client is not None:
            return settings.from_client(client)
        return settings.from_url(settings.from_environment() if url is None else url, self.namespace)

    def _after_fork(self) -> None:
        # The parent's connections stay referenced: closing them here would say goodbye in its name.
        _parents.append((self._last, dict(self._homes), self._blocking, self.kept))
        self._last, self._lock = None, threading.Lock()
        self._homes = {}
        self.kept = WeakValueDictionary()
        self._address.after_fork()
        self._blocking = blocking_driver(self._address)


_kits: weakref.WeakSet[SyncKit] = weakref.WeakSet()
_parents: list[Any] = []
_default: SyncKit | None = None
_make: Callable[[], SyncKit] = SyncKit


def _all_after_fork() -> None:
    for kit in list(_kits):
        kit._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_all_after_fork)


def configure(url: str | None = None, *, namespace: str = "sync-kit", client: Any = None, **unknown: Never) -> SyncKit:
    """Make the default kit: the one that objects without `kit=` use, from their next call on.

    Takes what `SyncKit` takes and returns the new default kit. Optional: without it, the default kit
    is `SyncKit()`.

    Raises:
        ConfigurationError: the url, the client or the namespace cannot be used.
    """
    global _default
    _default = SyncKit(url, namespace=namespace, client=client, **unknown)
    return _default


def replace_default(kit: SyncKit | None) -> SyncKit | None:
    """Make `kit` the default kit, and return what was: None if there was none yet. For tests, which put it back."""
    global _default
    replaced, _default = _default, kit
    return replaced


def default_kit() -> SyncKit:
    """The kit that objects without `kit=` use; made from the environment if nobody has said otherwise."""
    global _default
    if _default is None:
        _default = _make()
    return _default


def provide_default(make: Callable[[], SyncKit]) -> SyncKit | None:
    """Let `make` make the default kit when one is needed next, and return what was. For adapters with settings."""
    global _make
    _make = make
    return replace_default(None)
