"""A worker inside of an ASGI server: `application = with_worker(get_asgi_application())`."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from sync_kit import ConfigurationError, Worker
from sync_kit.options import refuse_unknown
from sync_kit.queue.beside import SWITCH, Beside, announce, close_kits, names, switch
from sync_kit.queue.sigterm import heard
from sync_kit_django import conf
from sync_kit_django._registry import choose

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from typing import TypeAlias

    from typing_extensions import Never

    from sync_kit.options import Seconds

    Scope: TypeAlias = dict[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
    Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
    Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

__all__ = ["WithWorker", "with_worker"]

log = logging.getLogger("sync_kit")

OPTIONS = ("queues", "concurrency", "poll_interval", "drain_timeout", "enabled", "quiet_on_sigterm")
NEVER_STARTED = (
    "the worker of %s never started, as no lifespan came to it: put with_worker around all else (also the "
    "ProtocolTypeRouter of Channels), serve the project with a server that sends one, such as uvicorn, hypercorn or "
    f"granian (daphne does not), run `manage.py runworker` instead, or set {SWITCH}=0"
)


def with_worker(
    application: Application,
    /,
    *,
    queues: Collection[str] | None = None,
    concurrency: int = 2,
    poll_interval: Seconds | None = None,
    drain_timeout: Seconds | None = None,
    enabled: bool | None = None,
    quiet_on_sigterm: bool = False,
    **unknown: Never,
) -> WithWorker:
    """A worker beside the site: `application = with_worker(get_asgi_application())` in `asgi.py`.

    It runs from the start of the server to its end: then it drains (see `Worker`). It needs a server that sends
    lifespan; where none comes, the first request logs a warning. When it crashes, by an internal error, that is logged
    and it is started again after five seconds, later after a minute; the site goes on.

    Args:
        application: what Django answers requests with.
        queues: names of the queues to run; those of `SYNC_KIT["WORKER"]["QUEUES"]`, or all, if not given.
        concurrency: jobs that run at the same time, of all queues together.
        poll_interval: seconds that it waits for a wake-up at most; as `SYNC_KIT["WORKER"]` has it if not given.
        drain_timeout: seconds that running jobs have to end, likewise; keep it below your server's grace period.
        enabled: whether it runs at all; if not given, the environment decides: `SYNC_KIT_WORKER=0` switches it off.
        quiet_on_sigterm: at SIGTERM it takes no more and begins to drain, rather than when the server ends the
            lifespan, which is after the last response or not at all. Who handled the signal before still does.

    Raises:
        ConfigurationError: an argument is wrong, there is no such queue, or `SYNC_KIT_WORKER` says neither yes nor no.
    """
    refuse_unknown("with_worker", unknown, OPTIONS)
    given = conf.current().worker
    chosen = choose(given.queues if queues is None else queues)
    make = partial(
        Worker,
        *chosen,
        concurrency=concurrency,
        poll_interval=given.poll_interval if poll_interval is None else poll_interval,
        drain_timeout=given.drain_timeout if drain_timeout is None else drain_timeout,
    )
    return WithWorker(application, chosen, make, enabled, quiet_on_sigterm)


class WithWorker:
    """What `with_worker` makes: an ASGI application that answers lifespan itself and leaves the rest to another one.

    Attributes:
        enabled: whether it was switched on when it was made.
    """

    def __init__(
        self,
        application: Application,
        queues: Collection[Any],
        make: Callable[[], Worker],
        enabled: bool | None,
        quiet_on_sigterm: bool,
    ) -> None:
        if not callable(application):
            raise ConfigurationError(f"with_worker wraps an ASGI application, not {application!r}")
        self._concurrency = make().concurrency  # wrong arguments are refused here, not when the server starts
        self.enabled, self._why = switch(enabled)
        self._application = application
        self._queues = [*queues]
        self._make = make
        self._quiet_on_sigterm = quiet_on_sigterm
        self._life: Beside | None = None
        self._was_asked = False

    def __repr__(self) -> str:
        return f"<WithWorker of {names(self._queues)}, {self.state}>"

    @property
    def state(self) -> str:
        """What the worker does in this process.

        "off" (switched off), "never started", "starting", "running", "quiet" (takes no more), "draining", "drained",
        "stuck" (in a plain function that runs for more than ten of its timeouts), "silent" (no sign of life in Redis
        for 30 s), or "crashed" (it is about to be started again).
        """
        if not self.enabled:
            return "off"
        return "never started" if self._life is None else self._life.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if not self._was_asked:
            self._was_asked = True
            if self.state == "never started":
                log.warning(NEVER_STARTED, names(self._queues))
        await self._application(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        moment = "startup"
        try:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(close_kits, self._queues)
                if self.enabled:
                    self._life = await stack.enter_async_context(Beside(self._make, names(self._queues)))
                    if self._quiet_on_sigterm:
                        stack.enter_context(heard(self._life.drain))
                announce(self._queues, self._concurrency, None if self.enabled else self._why)
                await send({"type": "lifespan.startup.complete"})
                moment = "shutdown"
                await receive()
        except Exception as error:
            log.exception("the worker of %s has failed at %s", names(self._queues), moment)
            await send({"type": f"lifespan.{moment}.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})
