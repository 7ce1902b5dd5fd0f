"""Health of a web process, for probes: `/live` and `/ready`."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from starlette.responses import JSONResponse
from starlette.routing import Route

from sync_kit import ConfigurationError, RateLimiter, SyncKitError
from sync_kit.kit import default_kit
from sync_kit.options import refuse_unknown, seconds, shown
from sync_kit_starlette.jobs import REMEDY, JobWorker, workers_here

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from typing_extensions import Never

    from sync_kit import SyncKit
    from sync_kit.options import Seconds

log = logging.getLogger("sync_kit")

PATIENCE, CONNECTING = 1.0, 0.5
"""Seconds that Redis has to answer, and that it may take before that to connect."""
GOOD = ("running", "off")
Check = tuple[dict[str, Any], str]
"""What a check answers to a probe, and what it says to the log if it fails."""


def health_routes(
    *workers: JobWorker,
    kit: SyncKit | None = None,
    prefix: str = "",
    max_lag: Seconds = 1.0,
    **unknown: Never,
) -> list[BaseRoute]:
    """Two routes for probes, `/live` and `/ready`; for GET and HEAD: `Starlette(routes=[*health_routes(), ...])`.

    `/live` answers 200 as long as the event loop answers. `/ready` answers 200, or 503 when one of its checks fails:
    redis (a script runs within a second), workers (each runs, and has shown so in Redis in the last 30 s; one that is
    switched off is well), loop (one turn of the event loop takes no longer than `max_lag`). The answer is
    `{"status": "ok" or "failing", "checks": {...}}`, in plain words and numbers; reasons go to the log, at changes.

    Args:
        workers: the workers to look after; all that were made in this process if none is given.
        kit: whose server to ask; if not given, those of the workers, and the default kit's if there are no workers.
        prefix: put before both paths, as in `/health`.
        max_lag: seconds.

    Raises:
        ConfigurationError: an argument is wrong.
    """
    refuse_unknown("health_routes", unknown, ("kit", "prefix", "max_lag"))
    given: Iterable[object] = workers
    for worker in given:
        if not isinstance(worker, JobWorker):
            raise ConfigurationError(f"health_routes takes what job_worker returns, not {shown(worker)}")
    if not f"{prefix}/".startswith("/") or prefix.endswith("/"):
        raise ConfigurationError(f"prefix must be a path such as '/health', not {shown(prefix)}")
    probe = _Readiness(workers, kit, seconds("max_lag", max_lag, above=0))
    return [Route(f"{prefix}/live", _live, name="live"), Route(f"{prefix}/ready", probe.answer, name="ready")]


async def _live(_: Request) -> JSONResponse:
    return _said({"status": "ok"})


def _said(what: dict[str, Any]) -> JSONResponse:
    return JSONResponse(what, 200 if what["status"] == "ok" else 503, {"Cache-Control": "no-store"})


def _word(good: bool) -> str:
    return "ok" if good else "failing"


class _Readiness:
    """The checks behind `/ready`, and what they said last time."""

    def __init__(self, workers: Sequence[JobWorker], kit: SyncKit | None, max_lag: float) -> None:
        self._workers = workers
        self._kit = kit
        self._max_lag = max_lag
        self._limiters: dict[SyncKit, RateLimiter] = {}
        self._failing: frozenset[str] = frozenset()

    async def answer(self, _: Request) -> JSONResponse:
        """The endpoint."""
        workers = self._workers or workers_here()
        loop = await self._loop()
        checks = {"redis": await self._redis(workers), "workers": self._jobs(workers), "loop": loop}
        self._tell({name: reason for name, (said, reason) in checks.items() if said["status"] != "ok"})
        good = all(said["status"] == "ok" for said, _ in checks.values())
        return _said({"status": _word(good), "checks": {name: said for name, (said, _) in checks.items()}})

    async def _redis(self, workers: Iterable[JobWorker]) -> Check:
        """Run a script on each server, one that changes nothing; the slowest tells."""
        began, reasons = time.monotonic(), [""]
        async with anyio.create_task_group() as group:
            for limiter in self._limiters_on(workers):
                group.start_soon(_ask, limiter, reasons)
        reason = "; ".join(reasons[1:])
        return {"status": _word(not reason), "ms": round(1000 * (time.monotonic() - began), 1)}, reason

    def _limiters_on(self, workers: Iterable[JobWorker]) -> list[RateLimiter]:
        kits = [self._kit] if self._kit else [source.kit for worker in workers for source in worker.sources]
        for kit in set(kits := kits or [default_kit()]) - set(self._limiters):
            self._limiters[kit] = RateLimiter("health", limit=1, window=1, deadline=PATIENCE, kit=kit)
        return [self._limiters[kit] for kit in set(kits)]

    def _jobs(self, workers: Iterable[JobWorker]) -> Check:
        states = Counter(worker.state for worker in workers)
        bad = sorted(state for state in states if state not in GOOD)
        said: dict[str, Any] = {"status": _word(not bad), **states}
        if "never started" in bad:
            said["remedy"] = REMEDY
        troubled = [f"the worker of {worker.name} is {worker.state}" for worker in workers if worker.state in bad]
        return said, "; ".join([*troubled, *([REMEDY] if "remedy" in said else [])])

    async def _loop(self) -> Check:
        began = time.monotonic()
        await anyio.lowlevel.checkpoint()
        lag = time.monotonic() - began
        said = {"status": _word(lag <= self._max_lag), "lag_ms": round(1000 * lag, 1)}
        return said, f"one turn of the event loop took {lag:.1f} s"

    def _tell(self, reasons: dict[str, str]) -> None:
        """Say in the log what has changed since the last probe."""
        failing, self._failing = self._failing, frozenset(reasons)
        for name in sorted(self._failing - failing):
            log.warning("not ready: %s: %s", name, reasons[name])
        if recovered := failing - self._failing:
            log.warning("well again: %s%s", ", ".join(sorted(recovered)), "" if self._failing else "; ready")


async def _ask(limiter: RateLimiter, reasons: list[str]) -> None:
    """Add the reason to `reasons` if the server does not run a script in time."""
    with anyio.move_on_after(PATIENCE + CONNECTING) as patience:
        try:
            if limiter.kit.home().loop.is_asyncio:
                await limiter.peek("probe")
            else:  # on trio a call is on a thread, and is never given up, unless it changes nothing as this one
                await anyio.to_thread.run_sync(limiter.blocking.peek, "probe", abandon_on_cancel=True)
        except SyncKitError as error:
            reasons.append(str(error))
    if patience.cancelled_caught:
        reasons.append(f"{limiter.kit.label} could not be connected to within {CONNECTING:g} s")
