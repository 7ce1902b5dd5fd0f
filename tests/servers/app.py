"""The app that real servers serve in these tests; what it is to do comes from the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sync_kit import Jobs, configure
from sync_kit.queue.courier import Courier
from sync_kit_starlette import health_routes, job_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

configure(namespace=os.environ["NAMESPACE"])
jobs = Jobs("beside")


class Pause(BaseModel):
    """How long a job takes."""

    seconds: float


@jobs.task(schema=Pause)
async def pause(payload: Pause) -> None:
    await anyio.sleep(payload.seconds)


if os.environ.get("TICKS"):

    @jobs.every(1, overlap=True, missed="all")
    async def tick() -> None: ...


async def send(request: Request) -> JSONResponse:
    """Send jobs."""
    sent = await pause.send_many([Pause(seconds=seconds) for seconds in await request.json()])
    return JSONResponse([receipt.id for receipt in sent])


async def stream(request: Request) -> StreamingResponse:
    """Server-sent events without an end."""

    async def events() -> AsyncIterator[bytes]:
        while True:
            yield b"data: here\n\n"
            await anyio.sleep(0.05)

    return StreamingResponse(events(), media_type="text/event-stream")


async def crash(request: Request) -> Response:
    """From now on the workers of this process break."""

    def broken(*_: object) -> None:
        raise LookupError("an internal error")

    Courier._heard = broken  # type: ignore[method-assign, assignment]
    return Response()


app = Starlette(
    routes=[
        Route("/jobs", send, methods=["POST"]),
        Route("/stream", stream),
        Route("/crash", crash, methods=["POST"]),
        *health_routes(),
    ],
    lifespan=job_worker(jobs, poll_interval=0.2, drain_timeout=1, quiet_on_sigterm=bool(os.environ.get("QUIET"))),
)
