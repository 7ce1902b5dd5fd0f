"""An app that only uses the middleware, for a test that looks at what its shutdown leaves behind."""

from __future__ import annotations

import atexit
import gc
import os
import threading
import warnings

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sync_kit import configure
from sync_kit_starlette import RateLimitMiddleware

configure(namespace=os.environ["NAMESPACE"])
warnings.simplefilter("always", ResourceWarning)


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


app = Starlette(routes=[Route("/", home)])
app.add_middleware(RateLimitMiddleware, limit=100)


@atexit.register
def report() -> None:
    gc.collect()
    print("threads left:", [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()])
