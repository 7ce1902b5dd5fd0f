"""An app under real servers: limited as a whole, with everything that a response may be."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from sync_kit import configure
from sync_kit_starlette import RateLimitMiddleware, rate_limited

configure(namespace=os.environ["NAMESPACE"])


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


@rate_limited("20/minute")
async def few(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def stream(request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number},"

    return StreamingResponse(parts())


async def file(request: Request) -> FileResponse:
    return FileResponse(__file__)


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


app = Starlette(
    routes=[
        *(Route("/", home), Route("/few", few), Route("/stream", stream), Route("/file", file)),
        WebSocketRoute("/ws", echo),
    ]
)
app.add_middleware(RateLimitMiddleware, limit=int(os.environ["LIMIT"]))
